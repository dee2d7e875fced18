"""The loop is the program's own wiring: without any one piece of it, it stops where that piece belongs.

Each run is the whole program of dev, of which this machine does not get one resource that the program
declares, as if a component had lost it. No first training: the upload is what starts everything.
"""

from __future__ import annotations

import itertools
import json
import shlex
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from local.realisers import REALISERS
from local.session import LocalSession, SessionOptions
from local.up import usage

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
ROOT = Path(__file__).parent.parent.parent
ROWS = 600
# An upload that gets through has started its job, and a job its release, well within this time.
QUIET_S = 4.0
ENDS_S = 60.0
pytestmark = [
    pytest.mark.loop,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # in the providers' generated packages
]


class Loop:
    """A running session, looked at from outside."""

    def __init__(self, session: LocalSession) -> None:
        self.session = session
        self.outputs = session.program.outputs

    def upload(self) -> None:
        bucket, _, prefix = str(self.session.models["flights"]["incoming"])[5:].partition("/")
        with (ROOT / "data" / "flights" / "2013-01.csv").open() as months:
            rows = "".join(itertools.islice(months, ROWS))
        self.session.client("s3").put_object(Bucket=bucket, Key=f"{prefix}new.csv", Body=rows.encode())

    def jobs(self) -> dict[str, str]:
        listed = self.session.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
        return {job["TrainingJobName"]: job["TrainingJobStatus"] for job in listed}

    def executions(self) -> list[dict[str, Any]]:
        machine = self.outputs["stateMachineArn"]
        client = self.session.client("stepfunctions")
        found = client.list_executions(stateMachineArn=machine)["executions"]
        described = [client.describe_execution(executionArn=item["executionArn"]) for item in found]
        return [item for item in described if "aws.sagemaker" in item["input"]]

    def records(self, prefix: str) -> list[dict[str, Any]]:
        items = self.session.client("dynamodb").scan(TableName=self.outputs["stateTable"])["Items"]
        return [item for item in items if item["record"]["S"].startswith(prefix)]

    def outcome(self) -> tuple[str, str] | None:
        """How the only release ended, and why; None while it is under way."""
        ended = [item for item in self.records("release#") if "outcome" in item]
        return (ended[0]["outcome"]["S"], ended[0]["reason"]["S"]) if ended else None

    def waiting(self) -> int:
        attributes = self.session.client("sqs").get_queue_attributes(
            QueueUrl=self.outputs["queueUrl"], AttributeNames=["All"]
        )["Attributes"]
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed")
        return sum(int(attributes[name]) for name in names)

    def captures(self) -> list[dict[str, Any]]:
        """What pods have written down of requests, in the bucket that the data are in."""
        bucket = str(self.session.models["flights"]["incoming"])[5:].partition("/")[0]
        s3 = self.session.client("s3")
        found = s3.list_objects_v2(Bucket=bucket, Prefix="captures/flights/AllTraffic/").get("Contents", [])
        bodies = [s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found]
        return [json.loads(line) for body in bodies for line in body.splitlines()]

    def image(self) -> str:
        model = self.session.models["flights"]
        path = f"/apis/apps/v1/namespaces/{model['namespace']}/deployments/{model['deployment']}"
        return self.session.cluster.get(path)["spec"]["template"]["spec"]["containers"][0]["image"]

    def until(self, look: Callable[[], T | None], timeout_s: float = ENDS_S) -> T:
        deadline = time.monotonic() + timeout_s
        while not (seen := look()):
            self.session.check()
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.1)
        return seen

    def stays_quiet(self, look: Callable[[], object]) -> None:
        end = time.monotonic() + QUIET_S
        while time.monotonic() < end:
            assert not look()
            time.sleep(0.2)


@pytest.fixture
def loop(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    options = SessionOptions(
        project=ROOT,
        home=tmp_path,
        port=0,
        omit=frozenset(getattr(request, "param", ())),
        config={
            "training.bootstrapData": "{}",
            "retraining.batchDelaySeconds": "0",
            "models.flights.hyperparameters.num_round": "3",
            "workload.replicas": "1",
            "workload.minReplicas": "1",
            "workload.capture.flushSeconds": "1",
        },
    )
    with LocalSession(options) as session:
        session.bring_up()
        yield Loop(session)


def omitting(text: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("loop", [(text,)], indirect=True, ids=[text])


def test_with_every_piece_the_upload_is_served(loop: Loop) -> None:
    before = loop.image()
    loop.upload()
    loop.until(loop.jobs)
    loop.until(loop.executions)
    loop.session.wait_for_model("flights", timeout_s=ENDS_S)
    outcome, _ = loop.until(loop.outcome)
    assert outcome == "released"
    assert loop.image() != before
    assert "@sha256:" in loop.image()
    assert list(loop.jobs().values()) == ["Completed"]
    # What the program can have here, it has; and the command that `up` prints is one that works.
    unreal = {r.type for r in loop.session.program.resources if not r.realised} & set(REALISERS)
    assert unreal == set()
    *_, url, _, header, _, body = shlex.split(next(line for line in usage(loop.session) if "curl" in line))
    name, _, value = header.partition(": ")
    asked = urllib.request.Request(url, body.encode(), {name: value})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
        (prediction,) = json.load(answer)["predictions"]
    assert 0 <= prediction <= 1
    (captured,) = loop.until(loop.captures)
    assert captured["captureData"]["endpointInput"]["data"] == body
    assert "model=flights" in captured["eventMetadata"]["customAttributes"]


@omitting("BucketNotification::trainserve-storage-data-events")
def test_without_the_buckets_notification_no_event_reaches_the_queue(loop: Loop) -> None:
    loop.upload()
    loop.stays_quiet(lambda: loop.jobs() or loop.waiting())


@omitting("EventTarget::trainserve-retraining-uploads-flights")
def test_without_the_upload_rules_target_no_event_reaches_the_queue(loop: Loop) -> None:
    loop.upload()
    loop.stays_quiet(lambda: loop.jobs() or loop.waiting())


@omitting("EventSourceMapping::trainserve-retraining-from-queue")
def test_without_the_mapping_the_event_stays_in_the_queue(loop: Loop) -> None:
    loop.upload()
    assert loop.until(loop.waiting) == 1
    loop.stays_quiet(loop.jobs)
    assert loop.waiting() == 1


@omitting("EventTarget::trainserve-releases-jobs")
def test_without_the_job_rules_target_a_trained_model_is_not_released(loop: Loop) -> None:
    before = loop.image()
    loop.upload()
    loop.until(lambda: "Completed" in loop.jobs().values())
    loop.stays_quiet(lambda: loop.executions() or loop.records("release#"))
    assert loop.image() == before


@pytest.mark.parametrize(
    ("loop", "status"),
    [
        (("AccessEntry::trainserve-cluster-release",), "401"),
        (("RoleBinding::trainserve-workload-release",), "403"),
    ],
    indirect=["loop"],
    ids=["access entry", "role binding"],
)
def test_without_the_right_to_it_no_release_touches_the_deployment(loop: Loop, status: str) -> None:
    before = loop.image()
    loop.upload()
    outcome, reason = loop.until(loop.outcome)
    assert outcome == "refused"
    assert status in reason
    assert loop.image() == before
    assert list(loop.jobs().values()) == ["Completed"]
