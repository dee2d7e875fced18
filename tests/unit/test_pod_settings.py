"""A pod that no node, or Fargate, could ever hold is refused, with the most that one holds."""

from typing import Any

import pytest

from components import pools
from components.environment import parse
from components.infra_settings import NODE_CPUS
from tests.unit.setting_files import changed, refusal

FARGATE = {
    "workload.compute": "fargate",
    "workload.capture": None,
    "security.networkPolicies": False,
    "security.subjectKey": False,
}
M_ONLY = {"nodePools.onDemand.instanceFamilies": ["m7i", "c7i"], "nodePools.spot": None}


def cpus(on_demand: int, spot: int) -> dict[str, Any]:
    return {"nodePools.onDemand.maxCpus": on_demand, "nodePools.spot.maxCpus": spot}


def cpu(request: str) -> dict[str, Any]:
    return {"workload.cpuRequest": request, "workload.cpuLimit": "64"}


def memory(request: str, limit: str) -> dict[str, Any]:
    return {"workload.memoryRequest": request, "workload.memoryLimit": limit}


TOO_LARGE: list[tuple[dict[str, Any], str]] = [
    (
        {**cpus(16, 64), **cpu("15.5")},
        "cpuRequest: want at most 15, for no node has more than 16, got 15.5",
    ),
    (
        {**cpus(3, 5), **cpu("3800m")},
        "no node has more than 4 with trainserve:nodePools.onDemand.maxCpus (3) and trainserve:nodePools",
    ),
    (
        {"nodePools.spot": None, "nodePools.onDemand.maxCpus": 2, **cpu("2")},
        "1875m, for no node has more than 2 with trainserve:nodePools.onDemand.maxCpus (2), got 2",
    ),
    (
        {"nodePools.onDemand.maxCpus": 64, **memory("9999Gi", "9999Gi")},
        "memoryRequest: want at most 117964Mi, for the largest node that trainserve:nodePools may start has",
    ),
    (
        {**M_ONLY, "nodePools.onDemand.maxCpus": 64, **memory("1Gi", "60Gi")},
        "58982Mi, for the largest node that trainserve:nodePools may start has 64 GiB, and a tenth",
    ),
    ({**M_ONLY, "nodePools.onDemand.maxCpus": 4, **memory("15Gi", "15Gi")}, "want at most 14745Mi, for the"),
    ({**FARGATE, **cpu("17")}, "cpuRequest: want at most 16, for no pod on Fargate has more, got 17"),
    (
        {**FARGATE, **memory("120Gi", "120Gi")},
        "memoryRequest: want at most 122624Mi, for a pod on Fargate has 120 GB, and Fargate takes 256 MB",
    ),
]


@pytest.mark.parametrize(("changes", "said"), TOO_LARGE, ids=[said[:60] for _, said in TOO_LARGE])
def test_a_pod_that_never_runs_is_refused(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(changes)


LARGE: list[dict[str, Any]] = [
    {**cpus(2, 16), **cpu("15")},
    {**FARGATE, **cpu("16"), **memory("119Gi", "119Gi")},
    {"nodePools.onDemand.maxCpus": 64, **memory("110Gi", "115Gi")},
    {
        "nodePools.onDemand.instanceFamilies": ["x2iedn"],
        "nodePools.onDemand.maxCpus": 64,
        **memory("9Gi", "400Gi"),
    },
]


@pytest.mark.parametrize("changes", LARGE, ids=str)
def test_a_large_pod_is_taken(changes: dict[str, Any]) -> None:
    parse(changed("dev", changes), stack="dev", region="us-east-1")


def test_the_sizes_of_nodes_are_those_of_the_pools() -> None:
    assert tuple(map(str, NODE_CPUS)) == pools._CPUS
