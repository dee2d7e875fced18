"""Settings that are right one by one and wrong together, or wrong for this stack, are refused by name."""

from typing import Any

import pytest

from tests.unit.setting_files import refusal

TOGETHER: list[tuple[str, dict[str, Any], str]] = [
    (
        "dev",
        {"workload.minReplicas": 5, "workload.maxReplicas": 4, "workload.replicas": 4},
        "workload.minReplicas: want",
    ),
    (
        "dev",
        {"workload.replicas": 11},
        "workload.replicas: want from minReplicas (2) to maxReplicas (10), got 11",
    ),
    (
        "dev",
        {"workload.preStopSeconds": 45},
        "workload.preStopSeconds: want at least 13 less than gracePeriodSeconds (45), for a pod answers what",
    ),
    ("dev", {"workload.cpuRequest": "1"}, "workload.cpuRequest: want at most cpuLimit (500m), got 1"),
    (
        "dev",
        {"workload.memoryRequest": "1Gi"},
        "workload.memoryRequest: want at most memoryLimit (256Mi), got 1Gi",
    ),
    (
        "dev",
        {"workload.namespace": "kube-system"},
        "workload.namespace: want a namespace of its own, got kube-system",
    ),
    (
        "dev",
        {"network.cidr": "10.0.1.0/16"},
        "network.cidr: 10.0.1.0/16 is not a network: its host bits must be zero",
    ),
    (
        "dev",
        {"network.cidr": "10.0.0.0/24"},
        "network.cidr: want a private network from /16 to /20, got 10.0.0.0/24",
    ),
    (
        "dev",
        {"network.cidr": "8.8.0.0/16"},
        "network.cidr: want a private network from /16 to /20, got 8.8.0.0/16",
    ),
    (
        "dev",
        {"network.availabilityZones": ["us-east-1a", "us-east-1a"]},
        "network.availabilityZones: want different zones, got us-east-1a, us-east-1a",
    ),
    (
        "dev",
        {"network.availabilityZones": ["us-east-1a", "us-west-2a"]},
        "network.availabilityZones[1]: want a zone of aws:region us-east-1, got us-west-2a",
    ),
    (
        "dev",
        {"cluster.publicAccessCidrs": ["192.0.2.0/24", "192.0.2.128/25"]},
        "cluster.publicAccessCidrs[1]: 192.0.2.128/25 overlaps publicAccessCidrs[0] 192.0.2.0/24",
    ),
    (
        "dev",
        {"cluster.publicAccessCidrs": ["192.0.2.1/24"]},
        "publicAccessCidrs[0]: 192.0.2.1/24 is not a network",
    ),
    ("dev", {"cluster.logTypes": ["api", "api"]}, "cluster.logTypes: want each type once, got api, api"),
    (
        "prod",
        {"cluster.publicAccessCidrs": ["0.0.0.0/0"]},
        "publicAccessCidrs[0]: 0.0.0.0/0 is too wide for production",
    ),
    (
        "prod",
        {"environment.protect": False},
        "environment.protect: want true where trainserve:environment.production",
    ),
    (
        "prod",
        {"storage.forceDestroy": True},
        "storage.forceDestroy: want false where trainserve:environment.production",
    ),
    (
        "prod",
        {"network.natPerZone": False},
        "network.natPerZone: want true where trainserve:environment.production",
    ),
    (
        "prod",
        {"workload.minReplicas": 1},
        "workload.minReplicas: want 2 or more where trainserve:environment.production",
    ),
    (
        "prod",
        {"workload.memoryRequest": "256Mi"},
        "workload.memoryRequest: want the same as memoryLimit (512Mi)",
    ),
    (
        "dev",
        {"training.maxWaitSeconds": 60},
        "training.maxWaitSeconds: want at least maxRuntimeSeconds (3600) with spot",
    ),
    (
        "dev",
        {"training.bootstrapData": {"fares": ["data/flights/2013-01.csv"]}},
        "bootstrapData.fares: want a name from",
    ),
    ("dev", {"training.bootstrapData": {"flights": []}}, "bootstrapData.flights: want at least one file"),
    (
        "dev",
        {"training.bootstrapData": {"flights": ["no.csv"]}},
        "bootstrapData.flights[0]: there is no file no.csv",
    ),
    (
        "dev",
        {"training.bootstrapData": {"flights": ["s3://b/k.csv"]}},
        "bootstrapData.flights[0]: want a file beside",
    ),
    (
        "dev",
        {"training.bootstrapData": {"flights": ["README.md"]}},
        "bootstrapData.flights[0]: want a .csv or .parquet",
    ),
    (
        "dev",
        {"training.bootstrapData": {"flights": ["data/flights/2013-01.csv"] * 2}},
        "bootstrapData.flights: want each file once",
    ),
    (
        "dev",
        {"models.flights.target": "delayed"},
        "2013-01.csv has no column delayed, the model's target; it has carrier",
    ),
    (
        "dev",
        {"tags": {"Project": "mine"}},
        "tags.Project: the program sets this tag itself (Environment, ManagedBy",
    ),
    ("dev", {"models.flights.drop": ["late"]}, "models.flights.drop: the target late cannot be dropped"),
    (
        "dev",
        {"models.flights.drop": ["carrier"]},
        "models.flights.categorical: carrier is the target or dropped",
    ),
    (
        "dev",
        {"models.flights.drop": ["distance"]},
        "models.flights.steps[1]: distance is dropped, so no step can use it",
    ),
    (
        "dev",
        {"models.flights.steps": [{"op": "log1p", "column": "late"}]},
        "models.flights.steps[0]: the target late is known only after the fact",
    ),
    (
        "dev",
        {"models.flights.hyperparameters": {"task": "x"}},
        "hyperparameters.task: the program sets this one itself",
    ),
    (
        "dev",
        {"models.flights.drop": [f"column-{i}-{'x' * 80}" for i in range(40)]},
        "models.flights.drop: want at most 2500 characters as JSON (SageMaker's limit on a",
    ),
]


@pytest.mark.parametrize(("stack", "changes", "said"), TOGETHER, ids=[said[:50] for _, _, said in TOGETHER])
def test_settings_that_do_not_go_together_are_named(stack: str, changes: dict[str, Any], said: str) -> None:
    message = refusal(changes, stack)
    assert message.startswith(f"Pulumi.{stack}.yaml: ")
    assert said in message


@pytest.mark.parametrize("name", ["Dev", "dev--2", "d" * 17, "-dev", "2dev", "dev_2"])
def test_a_stack_that_could_not_name_its_jobs_is_refused(name: str) -> None:
    assert "the stack's name" in refusal({}, name=name)


@pytest.mark.parametrize(
    ("region", "said"), [("", "aws:region is missing"), ("cn-north-1", "a commercial region")]
)
def test_the_region_is_checked(region: str, said: str) -> None:
    assert said in refusal({}, region=region)
