"""SQS and event source mappings: order, batches, what comes back and what is given up."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HANDLER = """
import json, os
def handle(event, context):
    bodies = [json.loads(record["body"]) for record in event["Records"]]
    with open(os.environ["OUT"], "a") as file:
        file.write(json.dumps([[b["n"], r["attributes"]["ApproximateReceiveCount"],
                                r["attributes"].get("MessageGroupId")]
                               for b, r in zip(bodies, event["Records"])]) + "\\n")
    if any(b.get("crash") for b in bodies):
        raise RuntimeError("crash")
    return {"batchItemFailures": [{"itemIdentifier": r["messageId"]}
                                  for b, r in zip(bodies, event["Records"]) if b.get("fail")]}
"""


class Mapped:
    """A queue, its dead letters, and a function that is mapped to it."""

    def __init__(self, aws: Any, name: str, path: Any, *, fifo: bool, **attributes: str) -> None:
        suffix = ".fifo" if fifo else ""
        self.path = path
        self.aws = aws
        self.sqs = aws.client("sqs")
        self.fifo = fifo
        self.dead_url, dead_arn = aws.queue(f"{name}-dead{suffix}")
        redrive = json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": 2})
        if fifo:
            attributes["ContentBasedDeduplication"] = "true"
        self.url, arn = aws.queue(
            f"{name}{suffix}", RedrivePolicy=redrive, VisibilityTimeout="1", **attributes
        )
        function = aws.function(name, HANDLER, OUT=str(path))
        self.mapping = aws.client("lambda").create_event_source_mapping(
            EventSourceArn=arn,
            FunctionName=function,
            BatchSize=10,
            FunctionResponseTypes=["ReportBatchItemFailures"],
        )["UUID"]

    def send(self, group: str = "g", **body: Any) -> None:
        extra = {"MessageGroupId": group} if self.fifo else {}
        self.sqs.send_message(QueueUrl=self.url, MessageBody=json.dumps(body), **extra)

    def batches(self, until: Callable[[list[Any]], bool], seconds: float = 10.0) -> list[Any]:
        end = time.monotonic() + seconds
        found: list[Any] = []
        while time.monotonic() < end and not until(found):
            found = (
                [json.loads(line) for line in self.path.read_text().splitlines()]
                if self.path.exists()
                else []
            )
            time.sleep(0.05)
        assert until(found), found
        return found

    def enable(self, *, wanted: bool) -> None:
        self.aws.client("lambda").update_event_source_mapping(UUID=self.mapping, Enabled=wanted)

    def left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(each) for each in found.values())


@pytest.fixture
def fifo(aws: Any, request: pytest.FixtureRequest, tmp_path: Any) -> Mapped:
    return Mapped(aws, request.node.name[:40], tmp_path / "batches", fifo=True)


def numbers(batches: list[Any], group: str) -> list[int]:
    return [n for batch in batches for n, _, g in batch if g == group]


def test_groups_keep_their_order_and_a_burst_is_a_batch(fifo: Mapped) -> None:
    fifo.enable(wanted=False)
    time.sleep(0.3)
    for n in range(12):
        fifo.send("a" if n % 3 else "b", n=n)
    time.sleep(0.5)
    assert not fifo.path.exists(), "a disabled mapping does not poll"
    fifo.enable(wanted=True)
    found = fifo.batches(lambda batches: sum(map(len, batches)) == 12)
    assert len(found) <= 3, "a burst makes few invocations"
    assert numbers(found, "a") == [1, 2, 4, 5, 7, 8, 10, 11]
    assert numbers(found, "b") == [0, 3, 6, 9]
    time.sleep(0.2)
    assert fifo.left() == 0


def test_only_what_failed_comes_back_and_then_goes_to_the_dead_letters(fifo: Mapped) -> None:
    fifo.enable(wanted=False)
    time.sleep(0.2)
    fifo.send("a", n=1)
    fifo.send("b", n=2, fail=True)
    fifo.enable(wanted=True)
    found = fifo.batches(lambda batches: numbers(batches, "b") == [2, 2])
    assert numbers(found, "a") == [1]
    receives = [count for batch in found for n, count, _ in batch if n == 2]
    assert receives == ["1", "2"]
    end = time.monotonic() + 5
    dead: list[Any] = []
    while not dead and time.monotonic() < end:
        dead = fifo.sqs.receive_message(QueueUrl=fifo.dead_url).get("Messages", [])
        time.sleep(0.1)
    assert json.loads(dead[0]["Body"])["n"] == 2
    assert fifo.left() == 0


def test_a_crash_brings_the_whole_batch_back_and_blocks_its_group(fifo: Mapped) -> None:
    fifo.send("a", n=1, crash=True)
    fifo.batches(lambda batches: len(batches) == 1)
    fifo.send("a", n=2)
    fifo.send("b", n=3)
    fifo.batches(lambda batches: numbers(batches, "b") == [3])
    found = fifo.batches(lambda batches: 2 in numbers(batches, "a"))
    assert numbers(found, "a")[:2] == [1, 1], "the next of the group waits for the one before"


def test_the_same_content_within_five_minutes_is_one_message(fifo: Mapped) -> None:
    fifo.send(n=1)
    fifo.batches(lambda batches: numbers(batches, "g") == [1])
    time.sleep(0.3)
    assert fifo.left() == 0
    fifo.send(n=1)
    fifo.send(n=2)
    assert numbers(fifo.batches(lambda batches: 2 in numbers(batches, "g")), "g") == [1, 2]


def test_the_queue_s_delay_gathers_messages(aws: Any, tmp_path: Any) -> None:
    queue = Mapped(aws, "delayed", tmp_path / "batches", fifo=True, DelaySeconds="1")
    started = time.monotonic()
    for n in range(3):
        queue.send(n=n)
    queue.batches(lambda batches: numbers(batches, "g") == [0, 1, 2])
    assert time.monotonic() - started >= 1


def test_a_standard_queue(aws: Any, tmp_path: Any) -> None:
    queue = Mapped(aws, "standard", tmp_path / "batches", fifo=False)
    for n in range(3):
        queue.send(n=n)
    found = queue.batches(lambda batches: sum(map(len, batches)) == 3)
    assert sorted(n for batch in found for n, _, _ in batch) == [0, 1, 2]
