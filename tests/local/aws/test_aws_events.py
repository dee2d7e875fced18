"""EventBridge: which events reach which targets, and as what."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

ECHO = """
import os, json
def handle(event, context):
    with open(os.environ["OUT"], "a") as file:
        file.write(json.dumps(event) + "\\n")
    if event.get("fail_once") and len(open(os.environ["OUT"]).readlines()) == 1:
        raise RuntimeError("once")
"""


def lines(path: Any, wanted: int, seconds: float = 8.0) -> list[Any]:
    """What the function was called with, once there is as much as wanted."""
    end = time.monotonic() + seconds
    found: list[str] = []
    while time.monotonic() < end and len(found) < wanted:
        found = path.read_text().splitlines() if path.exists() else []
        time.sleep(0.05)
    return [json.loads(line) for line in found]


@pytest.fixture
def echo(aws: Any, request: pytest.FixtureRequest, tmp_path: Any) -> tuple[str, Any]:
    """(ARN of a function that writes down its events, the file)."""
    path = tmp_path / "events"
    name = "echo-" + request.node.name.replace("[", "-").replace("]", "")
    return aws.function(name[:60], ECHO, OUT=str(path)), path


def put(aws: Any, source: str, **detail: Any) -> None:
    entry = {"Source": source, "DetailType": "Test", "Detail": json.dumps(detail)}
    assert aws.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0


def test_only_enabled_rules_with_a_pattern_that_matches(aws: Any, echo: tuple[str, Any]) -> None:
    arn, path = echo
    pattern = {"source": ["rules"]}
    target = {"Arn": arn}
    aws.rule("on", pattern, target)
    aws.rule("off", pattern, {**target, "Input": '"off"'}, state="DISABLED")
    aws.rule("other", {"source": ["others"]}, {**target, "Input": '"other"'})
    events = aws.client("events")
    events.put_rule(Name="clock", ScheduleExpression="rate(1 hour)")
    events.put_targets(Rule="clock", Targets=[{"Id": "1", "Arn": arn, "Input": '"clock"'}])
    put(aws, "rules", n=1)
    (first,) = lines(path, 1)
    assert first["detail"] == {"n": 1}
    assert first["account"] == "123456789012"
    assert first["time"].endswith("Z")
    assert set(first) == {
        *("version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail")
    }
    events.disable_rule(Name="on")
    put(aws, "rules", n=2)
    events.enable_rule(Name="on")
    put(aws, "rules", n=3)
    assert [each["detail"]["n"] for each in lines(path, 2)] == [1, 3]
    ids = {each["id"] for each in lines(path, 2)}
    assert len(ids) == 2, "every event has an id of its own"
    for name in ("on", "off", "other", "clock"):
        found = events.list_targets_by_rule(Rule=name)["Targets"]
        events.remove_targets(Rule=name, Ids=[each["Id"] for each in found])


def test_inputs_of_targets(aws: Any, echo: tuple[str, Any]) -> None:
    arn, path = echo
    transformer = {
        "InputPathsMap": {"n": "$.detail.n", "who": "$.source"},
        "InputTemplate": '{"n": <n>, "who": "<who>"}',
    }
    aws.rule(
        "inputs",
        {"source": ["inputs"]},
        {"Arn": arn, "Input": '{"constant": true}'},
        {"Arn": arn, "InputPath": "$.detail"},
        {"Arn": arn, "InputTransformer": transformer},
    )
    put(aws, "inputs", n=7)
    found = lines(path, 3)
    assert sorted(found, key=str) == sorted(
        [{"constant": True}, {"n": 7}, {"n": 7, "who": "inputs"}], key=str
    )


def test_a_failing_function_gets_the_event_again(aws: Any, echo: tuple[str, Any]) -> None:
    arn, path = echo
    aws.rule("again", {"source": ["again"]}, {"Arn": arn, "InputPath": "$.detail"})
    put(aws, "again", fail_once=True)
    assert lines(path, 2) == [{"fail_once": True}, {"fail_once": True}]


def test_a_broken_target_is_reported_and_harms_no_other(aws: Any, echo: tuple[str, Any]) -> None:
    arn, path = echo
    missing = "arn:aws:sqs:us-east-1:123456789012:missing"
    aws.rule("broken", {"source": ["broken"]}, {"Arn": missing}, {"Arn": arn})
    put(aws, "broken")
    assert lines(path, 1)
    assert f"rule broken: the event could not be delivered to {missing}" in aws.log()


def test_events_of_s3(aws: Any, echo: tuple[str, Any]) -> None:
    arn, path = echo
    aws.bucket("s3-events", events=True)
    aws.bucket("s3-silent")
    aws.rule(
        "s3", {"source": ["aws.s3"], "detail": {"bucket": {"name": ["s3-events", "s3-silent"]}}}, {"Arn": arn}
    )
    s3 = aws.client("s3")
    s3.put_object(Bucket="s3-silent", Key="x", Body=b"1")
    version = s3.put_object(Bucket="s3-events", Key="in/ü +%20.csv", Body=b"12345")["VersionId"]
    s3.delete_object(Bucket="s3-events", Key="in/ü +%20.csv")
    created = next(each for each in lines(path, 1) if each["detail-type"] == "Object Created")
    assert created["detail"]["bucket"] == {"name": "s3-events"}
    described = created["detail"]["object"]
    assert (described["key"], described["size"], described["version-id"]) == ("in/ü +%20.csv", 5, version)
    assert created["detail"]["reason"] == "PutObject"
    assert created["resources"] == ["arn:aws:s3:::s3-events"]
    aws.client("events").remove_targets(Rule="s3", Ids=["0"])
