"""What once passed a rule that is there to refuse it, beside what must go on passing."""

from typing import Any

import pytest

from policy.identity import bound_by_tag, everything
from policy.model import findings
from tests.policy.test_rules import (
    CONTAINER,
    KNOWN,
    Part,
    deployment,
    ingress,
    network_policy,
    policy,
    role_policy,
    stack,
)

OURS = {"StringEquals": {"aws:ResourceTag/cluster": "a"}}
ANY_POOL = {"StringLike": {"aws:ResourceTag/karpenter.sh/nodepool": "*"}}
EVERYTHING = [
    "*",
    "*:*",
    "arn:*",
    "arn:aws:*:us-east-1:1:queue",
    "arn:aws:s3:::*",
    "arn:aws:s3:::?*",
    "arn:aws:s3:::*/incoming/*",
    "arn:aws:s3:::data-1/*",
    "arn:aws:iam::1:role/*",
    "arn:aws:iam::*:role/*",
    "arn:aws:lambda:us-east-1:1:function:*",
    "arn:aws:ec2:us-east-1:1:instance/*",
    "arn:aws:iam::1:image/*",
]
NAMED = [
    "arn:aws:s3:::data",
    "arn:aws:s3:::data/incoming/*",
    "arn:aws:s3:::data-*",
    "arn:aws:iam::1:role/trainserve-*",
    "arn:aws:logs:us-east-1:1:log-group:/aws/sagemaker/*",
    "arn:aws:sqs:*:1:queue",
    "arn:aws:ec2:us-east-1::image/*",
    "${trainserve-storage-data.arn}/*",
]


def found(rule: str, *parts: Part) -> list[str]:
    return [finding.message for finding in findings([KNOWN[rule]], stack(list(parts)))]


@pytest.mark.parametrize("arn", EVERYTHING)
def test_an_arn_of_everything_is_found_unless_a_tag_narrows_it(arn: str) -> None:
    assert everything(arn)
    assert found("iam-resource-named", role_policy(Resource=[arn]))
    assert found("iam-resource-named", role_policy(Resource=["arn:aws:s3:::data/a", arn], Condition=ANY_POOL))
    assert not found("iam-resource-named", role_policy(Resource=[arn], Condition=OURS))


@pytest.mark.parametrize("arn", NAMED)
def test_an_arn_that_names_something_passes(arn: str) -> None:
    assert not found("iam-resource-named", role_policy(Resource=[arn]))


@pytest.mark.parametrize(
    "condition",
    [
        OURS,
        {**OURS, **ANY_POOL},
        {"StringLike": {"aws:RequestTag/cluster": ["trainserve-*", "ts-*"]}},
    ],
)
def test_a_tag_of_a_certain_value_binds(condition: dict[str, Any]) -> None:
    assert bound_by_tag({"Condition": condition})


@pytest.mark.parametrize(
    "condition",
    [
        {},
        ANY_POOL,
        {"StringLike": {"aws:ResourceTag/cluster": ["a", "*"]}},
        {"StringNotEquals": {"aws:ResourceTag/cluster": "a"}},
        {"StringEqualsIfExists": {"aws:ResourceTag/cluster": "a"}},
        {"ForAllValues:StringEquals": {"aws:RequestTag/cluster": "a"}},
        {"Null": {"aws:ResourceTag/cluster": "true"}},
        {"StringEquals": {"aws:RequestedRegion": "us-east-1"}},
    ],
)
def test_other_conditions_on_tags_bind_nothing(condition: dict[str, Any]) -> None:
    assert not bound_by_tag({"Condition": condition})


def queue_policy(**statement: Any) -> Part:
    return ("aws:sqs/queuePolicy:QueuePolicy", "q", {"policy": policy(Principal="*", **statement)})


@pytest.mark.parametrize(
    "condition",
    [
        {"ArnEquals": {"aws:SourceArn": "arn:aws:sns:us-east-1:1:a"}},
        {"ArnLike": {"aws:SourceArn": ["arn:aws:sns:*:1:*", "arn:aws:s3:::data"]}},
        {"StringEquals": {"AWS:SourceAccount": "1"}, "Bool": {"aws:SecureTransport": "true"}},
        {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": ["o-1/r-1/*"]}},
    ],
)
def test_anyone_may_be_narrowed_to_somebody(condition: dict[str, Any]) -> None:
    assert not found("resource-policy-not-open", queue_policy(Condition=condition))


@pytest.mark.parametrize(
    "condition",
    [
        {"Bool": {"aws:SecureTransport": "true"}},
        {"StringNotEquals": {"aws:SourceAccount": "1"}},
        {"StringEqualsIfExists": {"aws:SourceAccount": "1"}},
        {"ForAllValues:StringEquals": {"aws:PrincipalOrgID": "o-1"}},
        {"ArnLike": {"aws:SourceArn": "*"}},
        {"ArnLike": {"aws:SourceArn": "arn:*"}},
        {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::*"}},
        {"ArnLike": {"aws:SourceArn": ["arn:aws:sns:us-east-1:1:a", "arn:aws:sns:us-east-1:*:a"]}},
        {"StringEquals": {"aws:RequestedRegion": "us-east-1"}},
    ],
)
def test_a_condition_on_something_else_leaves_anyone(condition: dict[str, Any]) -> None:
    assert found("resource-policy-not-open", queue_policy(Condition=condition))


def test_a_keys_policy_is_looked_at_and_all_but_a_few_are_anyone() -> None:
    key: Part = ("aws:kms/key:Key", "k", {"policy": policy(Principal={"AWS": "*"})})
    assert found("resource-policy-not-open", key)
    account = {"StringEquals": {"kms:CallerAccount": "1"}}
    key = ("aws:kms/key:Key", "k", {"policy": policy(Principal={"AWS": "*"}, Condition=account)})
    assert not found("resource-policy-not-open", key)
    but_one = policy(NotPrincipal={"AWS": "arn:aws:iam::1:root"})
    assert found("resource-policy-not-open", ("aws:kms/key:Key", "k", {"policy": but_one}))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("aws:dynamodb/table:Table", "deletionProtectionEnabled"),
        ("aws:eks/cluster:Cluster", "deletionProtection"),
        ("eks:index:Cluster", "deletionProtection"),
    ],
)
def test_what_aws_can_refuse_to_delete_is_told_to_in_production(kind: str, name: str) -> None:
    part: Part = (kind, "a", {"protect": True, "name": "a", name: True})
    assert not found("production-protected", part)
    for wrong in ({name: False}, {name: None}):
        (message,) = found("production-protected", (kind, "a", {**part[2], **wrong}))
        assert message.startswith(f"{name} is not true")
        assert not findings([KNOWN["production-protected"]], stack([(kind, "a", wrong)], "dev"))


@pytest.mark.parametrize(
    ("listeners", "passes"),
    {
        '[{"HTTPS": 443}]': True,
        '[{"HTTPS": 443}, {"HTTPS": 8443}]': True,
        '[{"HTTP": 80}]': False,
        '[{"HTTP": 80}, {"HTTPS": 443}]': False,
        "[]": False,
        "HTTPS": False,
        "443": False,
    }.items(),
)
def test_the_internet_is_listened_to_with_tls_only(listeners: str, passes: bool) -> None:
    public = ingress(scheme="internet-facing", certificate_arn="arn:aws:acm:…", listen_ports=listeners)
    assert (found("ingress-with-certificate", public) == []) == passes
    assert not found("ingress-with-certificate", ingress(scheme="internal", listen_ports=listeners))


@pytest.mark.parametrize(
    ("level", "reason", "passes"),
    [
        ("restricted", None, True),
        ("baseline", None, True),
        ("privileged", None, False),
        ("privileged", "A scanner of its host", True),
    ],
)
def test_a_namespace_is_privileged_only_with_a_reason(level: str, reason: str | None, passes: bool) -> None:
    metadata = {
        "labels": {"pod-security.kubernetes.io/enforce": level},
        "annotations": {"trainserve/privileged-reason": reason} if reason else {},
    }
    namespace: Part = ("kubernetes:core/v1:Namespace", "n", {"metadata": metadata})
    assert (found("namespace-restricted", namespace) == []) == passes


def in_pod(pod: dict[str, Any], **annotations: str) -> Part:
    spec = {"template": {"spec": {"containers": [CONTAINER], **pod}}}
    return ("kubernetes:apps/v1:Deployment", "a", {"metadata": {"annotations": annotations}, "spec": spec})


@pytest.mark.parametrize(
    "pod",
    [
        {"hostPID": True},
        {"hostIPC": True},
        {"hostNetwork": True},
        {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]},
    ],
)
def test_a_pod_uses_nothing_of_its_host(pod: dict[str, Any]) -> None:
    assert len(found("workload-confined", in_pod(pod))) == 1
    assert not found("workload-confined", in_pod({"hostPID": False, "volumes": [{"name": "a"}]}))
    assert not found("workload-confined", in_pod(pod, **{"trainserve/privileged-reason": "…"}))


@pytest.mark.parametrize(
    "change",
    [
        {"privileged": True},
        {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}},
        {"seccompProfile": {"type": "Unconfined"}},
    ],
)
def test_a_container_takes_nothing_back(change: dict[str, Any]) -> None:
    context = {**CONTAINER["securityContext"], **change}
    assert len(found("workload-confined", deployment(securityContext=context))) == 1


def test_a_containers_own_seccomp_profile_goes_before_its_pods() -> None:
    profiled = {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}
    context = {k: v for k, v in CONTAINER["securityContext"].items() if k != "seccompProfile"}
    unsaid = {**CONTAINER, "securityContext": context}
    unconfined = {**CONTAINER, "securityContext": {**context, "seccompProfile": {"type": "Unconfined"}}}
    assert not found("workload-confined", in_pod({**profiled, "containers": [unsaid]}))
    assert found("workload-confined", in_pod({**profiled, "containers": [unconfined]}))


BOTH = ["Ingress", "Egress"]


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ([], None),
        ([network_policy(policyTypes=BOTH)], None),
        ([network_policy(), network_policy(policyTypes=["Egress"])], None),
        ([network_policy()], "no NetworkPolicy of n denies all Egress"),
        (
            [network_policy(policyTypes=BOTH, podSelector={"matchLabels": {"app": "a"}})],
            "no NetworkPolicy of n denies all Egress and Ingress",
        ),
        (
            [network_policy(policyTypes=BOTH, egress=[{}])],
            "no NetworkPolicy of n denies all Egress and Ingress",
        ),
    ],
)
def test_policies_begin_with_denying_all(policies: list[Part], message: str | None) -> None:
    expected = [] if message is None else [message]
    assert found("namespace-denies-by-default", deployment(), *policies) == expected
