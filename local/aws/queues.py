"""SQS and event source mappings: FIFO as AWS has it, and batches that reach their function.

moto calls the function on the sender's thread, one message at a time, and forgets a deduplication id when
its message is deleted. Here every enabled mapping has a thread that polls, a batch is one invocation, only
what failed comes back, and an id is remembered for five minutes.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from local.aws.hooks import Hook

if TYPE_CHECKING:
    from local.aws.emulator import Emulator
    from local.aws.functions import Functions

log = logging.getLogger(__name__)

ADD = Hook("moto.sqs.models:Queue.add_message", "self message")
MAP = Hook("moto.awslambda.models:LambdaBackend.create_event_source_mapping", "self spec")
RECEIVE = Hook(
    "moto.sqs.models:SQSBackend.receive_message",
    "self queue_name count wait_seconds_timeout visibility_timeout message_attribute_names",
)
HOOKS = (ADD, MAP, RECEIVE)

_DEDUPLICATION_S = 300
_POLL_S = 0.1


class Queues:
    """Polls queues for the functions that are mapped to them."""

    def __init__(self, emulator: Emulator, functions: Functions) -> None:
        self._emulator = emulator
        self._functions = functions
        self._lock = threading.RLock()

    def install(self) -> None:
        """Replace moto's delivery."""
        queues = self

        def add_message(self: Any, message: Any) -> None:
            queues._add(self, message)

        def create_event_source_mapping(self: Any, spec: dict[str, Any]) -> Any:
            mapping = original_map(self, spec)
            # moto would call the function from `add_message` were the mapping left here.
            queue = queues._queue(mapping)
            queue.lambda_event_source_mappings.clear()
            queues._emulator.thread(f"poll-{mapping.uuid[:8]}", lambda: queues._poll(self, mapping))
            return mapping

        ADD.install(add_message)
        original_map = MAP.install(create_event_source_mapping)

    def _add(self, queue: Any, message: Any) -> None:
        with self._lock:
            if queue.fifo_queue and message.deduplication_id and self._is_duplicate(queue, message):
                log.info("queue %s: dropped a duplicate within five minutes", queue.name)
                return
            with queue._messages_lock:
                queue._messages.append(message)
                queue._messages_lock.notify_all()

    @staticmethod
    def _is_duplicate(queue: Any, message: Any) -> bool:
        seen: dict[str, float] = queue.__dict__.setdefault("_local_deduplication", {})
        now = time.monotonic()
        for identifier in [name for name, at in seen.items() if now - at > _DEDUPLICATION_S]:
            del seen[identifier]
        if message.deduplication_id in seen:
            return True
        seen[message.deduplication_id] = now
        return False

    @staticmethod
    def _queue(mapping: Any) -> Any:
        from moto.sqs.models import sqs_backends

        *_, region, account, name = mapping.event_source_arn.split(":")
        return sqs_backends[account][region].queues[name]

    def _poll(self, backend: Any, mapping: Any) -> None:
        """Until the mapping is deleted: fetch a batch, invoke the function, delete what succeeded."""
        while not self._emulator.stopping.is_set() and mapping.uuid in backend._event_source_mappings:
            try:
                busy = mapping.enabled and self._one_batch(mapping)
            except Exception:
                log.exception("event source mapping %s", mapping.uuid)
                busy = False
            if not busy:
                self._emulator.stopping.wait(_POLL_S)

    def _one_batch(self, mapping: Any) -> bool:
        from moto.sqs.models import sqs_backends

        queue = self._queue(mapping)
        sqs = sqs_backends[queue.account_id][queue.region]
        with self._lock:
            messages: list[Any] = sqs.receive_message(
                queue.name, mapping.batch_size, 0, queue.visibility_timeout, []
            )
        wanted = [message for message in messages if _passes(mapping, message)]
        failed = self._invoke(mapping, queue, wanted) if wanted else set()
        with self._lock:
            for message in messages:
                if message.id not in failed:
                    sqs.delete_message(queue.name, message.receipt_handle)
        return bool(messages)

    def _invoke(self, mapping: Any, queue: Any, messages: list[Any]) -> set[str]:
        """The ids of the messages that must come back; they do when their visibility timeout ends."""
        everything = {message.id for message in messages}
        event = {"Records": [_record(message, queue) for message in messages]}
        outcome = self._functions.invoke(self._functions.lookup(mapping.function_arn), event)
        if outcome.failed:
            return everything
        if "ReportBatchItemFailures" not in (mapping.function_response_types or []):
            return set()
        answer = json.loads(outcome.payload) or {}
        failures = {item.get("itemIdentifier") for item in answer.get("batchItemFailures") or []}
        # An unknown or empty identifier fails the whole batch, as on AWS.
        return min(failures, everything)


def _passes(mapping: Any, message: Any) -> bool:
    """Whether the mapping's filter, if it has one, lets the message through."""
    from moto.events.models import EventPattern

    filters = (mapping.filter_criteria or {}).get("Filters") or []
    if not filters:
        return True
    try:
        body = json.loads(message.body)
    except ValueError:
        body = message.body
    return any(EventPattern.load(each.get("Pattern")).matches_event({"body": body}) for each in filters)  # pyright: ignore[reportArgumentType]


def _record(message: Any, queue: Any) -> dict[str, Any]:
    attributes = {
        "ApproximateReceiveCount": str(message.approximate_receive_count),
        "SentTimestamp": str(message.sent_timestamp),
        "SenderId": message.sender_id,
        "ApproximateFirstReceiveTimestamp": str(message.approximate_first_receive_timestamp),
    }
    if queue.fifo_queue:
        attributes |= {
            "MessageGroupId": message.group_id,
            "MessageDeduplicationId": message.deduplication_id or "",
            "SequenceNumber": message.sequence_number or str(message.sent_timestamp),
        }
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": attributes,
        "messageAttributes": {},
        "md5OfBody": message.body_md5,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue.queue_arn,
        "awsRegion": queue.region,
    }
