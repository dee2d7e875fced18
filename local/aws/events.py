"""EventBridge: events reach their targets, in order, off the thread of the request that caused them."""

from __future__ import annotations

import json
import logging
import queue
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local.aws.hooks import Hook

if TYPE_CHECKING:
    from local.aws.emulator import Emulator
    from local.aws.functions import Functions

log = logging.getLogger(__name__)

SEND = Hook("moto.events.models:Rule.send_to_targets", "self original_event transform_input")
FROM_S3 = Hook("moto.s3.notifications:_send_event_bridge_message", "account_id bucket event_name key")
HOOKS = (SEND, FROM_S3)

_REASONS = {"Put": "PutObject", "Post": "POST Object", "Copy": "CopyObject"}


class Events:
    """Delivers events to the targets of the rules that match them."""

    def __init__(self, emulator: Emulator, functions: Functions) -> None:
        self._emulator = emulator
        self._functions = functions
        # One thread delivers everything: what is sent first arrives first, as FIFO targets need.
        self._pending: queue.SimpleQueue[tuple[Any, dict[str, Any], dict[str, Any]]] = queue.SimpleQueue()
        emulator.thread("event-delivery", self._deliver_all)

    def install(self) -> None:
        """Replace moto's delivery."""
        events = self

        def send_to_targets(self: Any, original_event: dict[str, Any], transform_input: bool = True) -> None:
            del transform_input
            events.offer(self, original_event)

        SEND.install(send_to_targets)
        FROM_S3.install(self._from_s3)

    def publish(self, account: str, region: str, event: dict[str, Any]) -> None:
        """Send an event of an AWS service: source, detail-type, resources, detail; the rest is added."""
        from moto.events.models import events_backends

        whole = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "account": account,
            "region": region,
            "time": time.time(),
            **event,
        }
        bus = events_backends[account][region].event_buses["default"]
        for rule in list(bus.rules.values()):
            self.offer(rule, whole)

    def offer(self, rule: Any, event: dict[str, Any]) -> None:
        """Queue the event for the targets of `rule`, if that is enabled, has a pattern, and it matches."""
        if rule.state != "ENABLED" or not rule.event_pattern.get_pattern():
            return
        if not rule.event_pattern.matches_event(event):
            return
        for target in list(rule.targets):
            self._pending.put((rule, target, event))

    def _from_s3(self, account_id: str, bucket: Any, event_name: str, key: Any) -> None:
        """Publish an S3 event as S3 does: with an id and a sequencer of its own, and a true size and time."""
        from moto.s3.notifications import _detail_type

        reason = event_name.rpartition(":")[2]
        described = {
            "key": key.name,
            "size": key.size,
            "etag": key.etag.replace('"', ""),
            "sequencer": f"{time.time_ns():018X}",
        }
        if bucket.is_versioned:
            described["version-id"] = key.version_id
        detail = {
            "version": "0",
            "bucket": {"name": bucket.name},
            "object": described,
            "request-id": uuid.uuid4().hex[:16].upper(),
            "requester": account_id,
            "source-ip-address": "127.0.0.1",
            "reason": _REASONS.get(reason, reason),
        }
        self.publish(
            account_id,
            bucket.region_name,
            {
                "source": "aws.s3",
                "detail-type": _detail_type(event_name),
                "resources": [bucket.arn],
                "detail": detail,
            },
        )

    def _deliver_all(self) -> None:
        while not self._emulator.stopping.is_set():
            rule, target, event = self._pending.get()
            try:
                self._deliver(rule, target, event)
            except Exception:
                log.exception("rule %s: the event could not be delivered to %s", rule.name, target.get("Arn"))

    def _deliver(self, rule: Any, target: dict[str, Any], event: dict[str, Any]) -> None:
        arn: str = target["Arn"]
        service = arn.split(":")[2]
        payload = target_input(target, event)
        if service == "lambda":
            self._functions.invoke_async(arn, payload)
        elif service == "states":
            _start_execution(arn, payload)
        elif service == "sqs":
            group = target.get("SqsParameters", {}).get("MessageGroupId")
            _send_message(arn, payload, group)
        elif service == "logs":
            rule._send_to_cw_log_group(arn.removesuffix(":*").split(":log-group:")[-1], {"event": payload})
        else:
            log.warning("rule %s: targets of service %s are not delivered here (%s)", rule.name, service, arn)
            return
        log.info("rule %s: %s → %s", rule.name, event["detail-type"], arn)


def target_input(target: dict[str, Any], event: dict[str, Any]) -> Any:
    """What a target receives: the event, or what its Input, InputPath or InputTransformer makes of it."""
    from jsonpath_ng.ext.parser import parse
    from moto.events.utils import EventTemplateParser

    whole = {**event, "time": _iso(event["time"])}
    whole.pop("ingestion-time", None)
    if target.get("Input"):
        return json.loads(target["Input"])
    if target.get("InputPath"):
        found = parse(target["InputPath"]).find(whole)
        return found[0].value if found else None
    transformer: dict[str, Any] = target.get("InputTransformer") or {}
    if transformer:
        return EventTemplateParser.parse(
            input_template=transformer["InputTemplate"],
            input_paths_map=transformer.get("InputPathsMap", {}),
            event={**whole, "ingestion-time": whole["time"]},  # pyright: ignore[reportArgumentType]
        )
    return whole


def _iso(value: float | str) -> str:
    if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
        return value
    moment = datetime.fromtimestamp(float(value), tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _send_message(arn: str, payload: Any, group: str | None) -> None:
    from moto.sqs.models import sqs_backends

    *_, region, account, name = arn.split(":")
    body = json.dumps(payload)
    sqs_backends[account][region].send_message(queue_name=name, message_body=body, group_id=group)


def _start_execution(arn: str, payload: Any) -> None:
    from moto.stepfunctions.responses import get_backend

    region, account = arn.split(":")[3:5]
    backend = get_backend(account, region)
    backend.start_execution(arn, str(uuid.uuid4()), json.dumps(payload))
