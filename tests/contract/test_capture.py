"""Captures find their way: the pods are told where to, may write there, and the server understands it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from components import names
from serving import settings as serving_settings
from tests.contract.recorder import Program, run, stack_config

Run = Callable[[str], Program]


def pod_of(program: Program) -> dict[str, Any]:
    (deployment,) = program.of("kubernetes:apps/v1:Deployment")
    return deployment.inputs["spec"]["template"]["spec"]


def told(program: Program) -> serving_settings.Settings:
    """What the server makes of the pods' variables."""
    (container,) = pod_of(program)["containers"]
    variables = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    assert serving_settings.unknown_variables(variables) == []
    return serving_settings.from_environment(variables)


@pytest.mark.parametrize(("stack", "percentage", "seconds"), [("dev", 100, 10), ("prod", 20, 60)])
def test_pods_write_where_they_may(up: Run, stack: str, percentage: float, seconds: float) -> None:
    program = up(stack)
    chosen = told(program)
    assert (chosen.capture_percentage, chosen.capture_flush_seconds) == (percentage, seconds)
    bucket, _, prefix = chosen.capture_to.removeprefix("s3://").partition("/")
    assert prefix == names.CAPTURES
    policy = program.one("aws:iam/rolePolicy:RolePolicy", "trainserve-rights-policy")
    statements = {item["Sid"]: item for item in json.loads(policy.inputs["policy"])["Statement"]}
    assert "s3:PutObject" in statements["WriteCaptures"]["Action"]
    (resource,) = statements["WriteCaptures"]["Resource"]
    assert resource.rpartition(":")[2] == f"{bucket}/{prefix}*"
    kind = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
    association = program.one(kind, "trainserve-rights-pods")
    assert association.inputs["serviceAccount"] == pod_of(program)["serviceAccountName"]
    # What waits in memory fits beside the server, and is written before the pod must be gone.
    pod = pod_of(program)
    (container,) = pod["containers"]
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) << 20
    assert chosen.capture_memory_bytes < limit / 4
    stopping = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert stopping + chosen.drain_seconds + 11 < pod["terminationGracePeriodSeconds"]


def test_capture_is_left_out_where_it_is_not_wanted() -> None:
    workload = {**stack_config("dev")["trainserve:workload"], "capture": None}
    program = run("dev", like="dev", changes={"trainserve:workload": workload})
    assert not told(program).captures
