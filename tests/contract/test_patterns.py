"""Two stacks in one account never release, or train on, what is the other's."""

import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from moto.events.models import EventPattern

from components.node_pools import INTERRUPTIONS
from tests.contract.recorder import Program, run


def job_event(name: str, status: str = "Completed") -> dict[str, Any]:
    return {
        "source": "aws.sagemaker",
        "detail-type": "SageMaker Training Job State Change",
        "detail": {"TrainingJobName": name, "TrainingJobStatus": status},
    }


def upload_event(bucket: str, key: str) -> dict[str, Any]:
    return {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": bucket}, "object": {"key": key, "size": 1, "version-id": "v"}},
    }


def build_event(project: str, status: str = "SUCCEEDED") -> dict[str, Any]:
    return {
        "source": "aws.codebuild",
        "detail-type": "CodeBuild Build State Change",
        "detail": {"project-name": project, "build-status": status},
    }


def matching(program: Program, event: dict[str, Any]) -> list[str]:
    """The names of the rules that match an event, by the emulator's matcher."""
    return [
        rule.name
        for rule in program.of("aws:cloudwatch/eventRule:EventRule")
        if "eventPattern" in rule.inputs
        and EventPattern.load(rule.inputs["eventPattern"]).matches_event(cast("Any", event))
    ]


@pytest.fixture(scope="module")
def dev(up: Callable[[str], Program]) -> Program:
    return up("dev")


@pytest.fixture(scope="module")
def second() -> Program:
    """A second stack in the same account, whose name begins with the first one's."""
    return run("dev-2", like="dev")


def own_job(program: Program) -> str:
    (job,) = program.of("aws:sagemaker/trainingJob:TrainingJob")
    return job.inputs["trainingJobName"]


@pytest.mark.parametrize("status", ["Completed", "Failed", "Stopped"])
def test_the_end_of_an_own_job_starts_a_release(dev: Program, second: Program, status: str) -> None:
    for program, other in ((dev, second), (second, dev)):
        event = job_event(own_job(program), status)
        reacting = [name for name in matching(program, event) if "-observability-" not in name]
        assert reacting == ["trainserve-releases-jobs"]
        assert matching(other, event) == []


@pytest.mark.parametrize("status", ["InProgress", "Stopping"])
def test_a_running_job_starts_nothing(dev: Program, status: str) -> None:
    assert matching(dev, job_event(own_job(dev), status)) == []


@pytest.mark.parametrize(
    "name", ["ts-dev-2--flights-0a1b2c3d-1", "ts-de--v-0a1b2c3d-1", "ts-dev-flights", "dev--x"]
)
def test_jobs_of_others_start_nothing(dev: Program, name: str) -> None:
    assert matching(dev, job_event(name)) == []


def test_uploads_reach_the_queue_in_their_models_group(dev: Program) -> None:
    bucket = "trainserve-storage-data"
    assert matching(dev, upload_event(bucket, "incoming/flights/2013-04.csv")) == [
        "trainserve-retraining-uploads-flights"
    ]
    (target,) = [
        t for t in dev.of("aws:cloudwatch/eventTarget:EventTarget") if t.name.endswith("uploads-flights")
    ]
    assert target.inputs["sqsTarget"] == {"messageGroupId": "flights"}
    assert target.inputs["arn"].endswith("trainserve-retraining-queue")


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        ("trainserve-storage-data", "incoming/flights-2/a.csv"),
        ("trainserve-storage-data", "incoming/a.csv"),
        ("trainserve-storage-data", "bootstrap/flights/a.csv"),
        ("trainserve-storage-data", "objects/flights/v/a.csv"),
        ("trainserve-storage-artifacts", "incoming/flights/a.csv"),
        ("another-bucket", "incoming/flights/a.csv"),
    ],
)
def test_other_objects_start_nothing(dev: Program, bucket: str, key: str) -> None:
    assert matching(dev, upload_event(bucket, key)) == []


def test_builds_of_the_own_project_start_a_release(dev: Program) -> None:
    assert matching(dev, build_event("trainserve-registry-build")) == ["trainserve-releases-builds"]
    assert matching(dev, build_event("trainserve-registry-build", "FAILED")) == []
    assert matching(dev, build_event("another-build")) == []


def test_every_rule_has_a_target_and_a_place_for_what_it_cannot_deliver(dev: Program) -> None:
    # A schedule whose function is not there yet is disabled, and has no target.
    rules = {
        rule.name
        for rule in dev.of("aws:cloudwatch/eventRule:EventRule")
        if rule.inputs.get("state") != "DISABLED"
    }
    targets = dev.of("aws:cloudwatch/eventTarget:EventTarget")
    assert {target.inputs["rule"] for target in targets} == rules
    for target in targets:
        if not target.name.startswith(("trainserve-retraining-", "trainserve-releases-")):
            continue  # news for Karpenter and for people; the loop's own events must not be lost
        assert target.inputs["deadLetterConfig"]["arn"].endswith("undelivered"), target.name


def test_queues_let_the_rules_in_and_nobody_else(dev: Program) -> None:
    sources = {
        policy.name: statement["Condition"]["ArnEquals"]["aws:SourceArn"]
        for policy in dev.of("aws:sqs/queuePolicy:QueuePolicy")
        for statement in json.loads(policy.inputs["policy"])["Statement"]
        if statement["Effect"] == "Allow"
    }
    arn = "arn:aws:cloudwatch:us-east-1:123456789012:trainserve-"
    uploads = [f"{arn}retraining-uploads-flights"]
    assert sources == {
        "trainserve-retraining-queue-policy": uploads,
        "trainserve-retraining-undelivered-policy": uploads,
        "trainserve-releases-undelivered-policy": [f"{arn}releases-jobs", f"{arn}releases-builds"],
        "trainserve-nodes-interruptions": [f"{arn}nodes-{label}" for label in INTERRUPTIONS],
    }


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("aws.health", "AWS Health Event"),
        ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
        ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
        ("aws.ec2", "EC2 Instance State-change Notification"),
        ("aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning"),
    ],
)
def test_the_end_of_a_node_reaches_karpenter(dev: Program, source: str, kind: str) -> None:
    event = {"source": source, "detail-type": kind, "detail": {"instance-id": "i-1"}}
    (name,) = [name for name in matching(dev, event) if name.startswith("trainserve-nodes-")]
    target = dev.one("aws:cloudwatch/eventTarget:EventTarget", name)
    assert target.inputs["arn"].endswith("trainserve-nodes-interruptions")
    queue = dev.one("aws:sqs/queue:Queue", "trainserve-nodes-interruptions")
    assert (queue.inputs["messageRetentionSeconds"], queue.inputs["sqsManagedSseEnabled"]) == (300, True)


def test_what_cannot_be_handled_ends_in_watched_queues(dev: Program) -> None:
    queues = {queue.name: queue.inputs for queue in dev.of("aws:sqs/queue:Queue")}
    redrive = json.loads(queues["trainserve-retraining-queue"]["redrivePolicy"])
    assert redrive["deadLetterTargetArn"].endswith("trainserve-retraining-dead")
    # A throttled call is a receive, too: fewer would lose messages that nothing is wrong with.
    assert redrive["maxReceiveCount"] >= 5
    # The dead letters of a FIFO queue need one too, and a rule's must not be one.
    fifo = {name for name, inputs in queues.items() if inputs.get("fifoQueue")}
    assert fifo == {"trainserve-retraining-queue", "trainserve-retraining-dead"}
    watched = {
        dimensions["QueueName"]
        for alarm in dev.of("aws:cloudwatch/metricAlarm:MetricAlarm")
        if "QueueName" in (dimensions := alarm.inputs.get("dimensions", {}))
    }
    assert watched == queues.keys() - {"trainserve-retraining-queue", "trainserve-nodes-interruptions"}


def test_a_message_outlives_the_function_that_handles_it(dev: Program) -> None:
    (mapping,) = dev.of("aws:lambda/eventSourceMapping:EventSourceMapping")
    assert mapping.inputs["functionResponseTypes"] == ["ReportBatchItemFailures"]
    function = next(
        f for f in dev.of("aws:lambda/function:Function") if f.inputs["handler"].startswith("start_training")
    )
    queue = dev.one("aws:sqs/queue:Queue", "trainserve-retraining-queue").inputs
    assert queue["visibilityTimeoutSeconds"] >= 6 * function.inputs["timeout"]
    assert queue["contentBasedDeduplication"] is True
