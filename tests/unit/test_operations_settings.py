"""Wrong settings of observability, security, the budget and SageMaker's extras are refused by name."""

from typing import Any

import pytest

from components import fargate_logs
from tests.unit.setting_files import refusal

DIGEST = "sha256:" + "a" * 64
IMAGE = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/own@{DIGEST}"

FIELDS: list[tuple[str, Any, str]] = [
    ("environment.monthlyBudgetUsd", 0, "monthlyBudgetUsd: want a whole number from 1 to 10000000, got 0"),
    (
        "environment.monthlyBudgetUsd",
        "500",
        'monthlyBudgetUsd: want a whole number from 1 to 10000000, got "500"',
    ),
    ("environment.monthlyBudget", 5, "monthlyBudget is not a setting: did you mean monthlyBudgetUsd?"),
    (
        "observability.prometheus",
        True,
        "observability.prometheus: want a section with retentionDays, volumeGb",
    ),
    (
        "observability.prometheus",
        {"retentionDays": 0},
        "prometheus.retentionDays: want a whole number from 1 to 90",
    ),
    (
        "observability.prometheus",
        {"volumeGb": 5},
        "prometheus.volumeGb: want a whole number from 10 to 2000, got 5",
    ),
    ("observability.prometheus", {"retention": 5}, "prometheus.retention is not a setting: did you mean"),
    ("observability.traceSamplePercent", 101, "traceSamplePercent: want a number from 0 to 100, got 101"),
    ("observability.latencyP95Ms", 0, "observability.latencyP95Ms: want a number from 1 to 60000, got 0"),
    ("observability.errorRatePercent", 100, "errorRatePercent: want a number above 0 and below 100, got 100"),
    ("observability.driftPsi", "high", 'driftPsi: want a number above 0 and below 10, got "high"'),
    ("observability.pendingMinutes", 121, "pendingMinutes: want a whole number from 1 to 120, got 121"),
    (
        "observability.spotInterruptionsPerHour",
        0,
        "spotInterruptionsPerHour: want a whole number from 1 to 1000",
    ),
    (
        "observability.loadBalancer",
        "my-alb",
        "observability.loadBalancer: want an ALB as its metrics name it, like app/",
    ),
    ("observability.grafana", True, "trainserve:observability.grafana is not a setting: known here are "),
    ("security.accountBaseline", "yes", 'security.accountBaseline: want true or false, got "yes"'),
    ("security.networkPolicies", None, "security.networkPolicies: want true or false, got null"),
    ("security.kubeBench", {"schedule": "weekly"}, "kubeBench.schedule: want a cron schedule of five fields"),
    (
        "security.kubeBench",
        {"schedule": "0 25 * * *"},
        "kubeBench.schedule: want 0 to 23, a range or * as the hour",
    ),
    ("security.kubeBench", {"schedule": "0 5-3 * * *"}, "want 0 to 23, a range or * as the hour, got 5-3"),
    ("security.kubeBench", {"schedule": "*/0 3 * * *"}, "want 0 to 59, a range or * as the minute, got */0"),
    (
        "security.guardDuty",
        True,
        "trainserve:security.guardDuty is not a setting: known here are accountBaseline",
    ),
    ("training.image", "repo:latest", "trainserve:training.image: want an image in ECR by digest, like 1234"),
    ("training.image", IMAGE, "trainserve:training.image: want an image in aws:region us-east-1, got"),
    ("training.tuning", {"maxJobs": 0}, "training.tuning.maxJobs: want a whole number from 1 to 500, got 0"),
    (
        "training.tuning",
        {"maxJobs": 2, "parallelJobs": 3},
        "training.tuning.parallelJobs: want at most maxJobs (2), got 3",
    ),
    ("training.pipeline", 1, "trainserve:training.pipeline: want true or false, got 1"),
    (
        "training.modelMonitor",
        {"scheduleHours": 5},
        "modelMonitor.scheduleHours: want one of 1, 2, 3, 4, 6, 8",
    ),
    (
        "training.modelMonitor",
        {"instanceType": "m5.large"},
        "modelMonitor.instanceType: want a SageMaker instance",
    ),
    ("retraining.driftSchedule", "hourly", "retraining.driftSchedule: want a rate like rate(1 hour) or"),
    (
        "retraining.driftSchedule",
        "rate(1 hours)",
        "retraining.driftSchedule: want a rate like rate(1 hour) or",
    ),
    ("workload.imageDigest", "v1", "trainserve:workload.imageDigest: want an image's digest: sha256: and 64"),
    ("workload.zoneSpread", "hard", "trainserve:workload.zoneSpread: want one of prefer, require, got"),
    ("workload.compute", "lambda", "trainserve:workload.compute: want one of nodes, fargate, got"),
    (
        "workload.namespace",
        "monitoring",
        "trainserve:workload.namespace: monitoring is taken by another part",
    ),
    (
        "workload.namespace",
        fargate_logs._NAMESPACE,
        "trainserve:workload.namespace: aws-observability is taken by another part",
    ),
]


@pytest.mark.parametrize(("path", "value", "said"), FIELDS, ids=[f"{p}={v!r:.20}" for p, v, _ in FIELDS])
def test_a_wrong_field_is_named(path: str, value: Any, said: str) -> None:
    message = refusal({path: value})
    assert message.startswith("Pulumi.dev.yaml: 1 setting(s) cannot be used:\n  - ")
    assert said in message
    assert message.count("\n") == 1


FARGATE = {
    "workload.compute": "fargate",
    "workload.capture": None,
    "security.networkPolicies": False,
    "security.subjectKey": False,
}
TOGETHER: list[tuple[str, dict[str, Any], str]] = [
    (
        "dev",
        {**FARGATE, "security.networkPolicies": True},
        "Fargate enforces no NetworkPolicy: set trainserve:",
    ),
    (
        "dev",
        {**FARGATE, "security.subjectKey": True},
        "Fargate has neither Pod Identity nor the secrets driver",
    ),
    (
        "dev",
        {**FARGATE, "workload.capture": {}},
        "Fargate has no Pod Identity: take trainserve:workload.capture away",
    ),
    (
        "dev",
        {**FARGATE, "workload.zoneSpread": "require"},
        "Fargate chooses the zone itself: set trainserve:",
    ),
    (
        "dev",
        {**FARGATE, "nodePools.gpu": {"a": {"instanceTypes": ["g6.xlarge"]}}},
        "Fargate has no GPUs: take trainserve:nodePools.gpu away",
    ),
    (
        "dev",
        {"training.modelMonitor": {}, "workload.capture": None},
        "trainserve:training.modelMonitor: want trainserve:workload.capture too: what is captured is all",
    ),
    (
        "dev",
        {"training.tuning": {}, "training.bootstrapData": {}},
        "training.tuning: want trainserve:training.bootstrapData too: tuning searches over that data",
    ),
    (
        "dev",
        {"training.tuning": {}, "models.flights.metric": "brier"},
        "models.flights.metric: SageMaker's image reports no brier",
    ),
    (
        "dev",
        {"workload.grpcPort": 9000, "models.flights-grpc": {"target": "late", "task": "binary"}},
        "trainserve:models.flights-grpc: with workload.grpcPort, so flights's Service is called",
    ),
    (
        "prod",
        {"environment.alarmEmail": None},
        "environment.alarmEmail is missing: want somebody who is told",
    ),
    ("prod", {"security.networkPolicies": False}, "security.networkPolicies: want true where"),
]


@pytest.mark.parametrize(("stack", "changes", "said"), TOGETHER, ids=[said[:40] for _, _, said in TOGETHER])
def test_settings_that_do_not_go_together_are_named(stack: str, changes: dict[str, Any], said: str) -> None:
    assert said in refusal(changes, stack)
