"""What the world can reach."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from policy.encryption import BUCKET
from policy.model import Complaint, Rule, Stack, Subject, each, listed, statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LARGEST_GIVEN: Final = 8
"""A /8 is the most that anyone was ever given: what is wider is the internet, whole or in halves."""

_WHO: Final = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceorgid",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "kms:calleraccount",
    }
)
"""Condition keys, in lower case, that say whose request it is; others say only how it came."""

_IS: Final = frozenset({"StringEquals", "StringLike", "ArnEquals", "ArnLike"})
"""Operators that only certain values meet; not with IfExists or ForAllValues:, which a missing key meets."""

_OF_SEVERAL: Final = "ForAnyValue:"
"""Stands before an operator whose key has several values."""

_ALB: Final = "alb.ingress.kubernetes.io/"
_BLOCK: Final = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
_BLOCKS: Final = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")


def _buckets(stack: Stack) -> Iterable[Complaint]:
    blocks = stack.of(_BLOCK)
    for bucket in stack.of(BUCKET):
        if not any(
            block.name.startswith(f"{bucket.name}-") or block.props.get("bucket") == bucket.name
            for block in blocks
        ):
            yield bucket, "has no public access block"
    for block in blocks:
        for name in _BLOCKS:
            if block.props.get(name) is not True:
                yield block, f"{name} is not true"


@each(
    "aws:kms/key:Key",
    "aws:s3/bucketPolicy:BucketPolicy",
    "aws:sqs/queuePolicy:QueuePolicy",
    "aws:sns/topicPolicy:TopicPolicy",
)
def _anyone(subject: Subject) -> Iterable[str]:
    for statement in statements(subject.props.get("policy")):
        principal: Any = statement.get("Principal")
        everybody = principal == "*" or (isinstance(principal, dict) and "*" in listed(principal.get("AWS")))
        # NotPrincipal is everybody but a few.
        if not everybody and "NotPrincipal" not in statement:
            continue
        if statement.get("Effect") == "Allow" and not _narrowed(statement):
            yield f"statement {statement.get('Sid', '?')} allows anyone"


def _narrowed(statement: Mapping[str, Any]) -> bool:
    """Whether a condition says whose requests are meant."""
    conditions: Mapping[str, Any] = statement.get("Condition", {})
    return any(
        str(key).lower() in _WHO and all(_somebody(str(value)) for value in listed(values))
        for operator, wanted in conditions.items()
        if operator.removeprefix(_OF_SEVERAL) in _IS
        for key, values in wanted.items()
    )


def _somebody(value: str) -> bool:
    """Whether a condition's value is somebody's: no wildcard, and no ARN of any account, or of any name."""
    parts = value.split(":", 5)
    if parts[0] != "arn":
        return not value.startswith(("*", "?"))
    return len(parts) == 6 and not (parts[4] or parts[5]).startswith(("*", "?"))


def _open(ranges: Iterable[Any]) -> bool:
    return any(_wide(cidr) for cidr in ranges if isinstance(cidr, str))


def _wide(cidr: str) -> bool:
    length = cidr.partition("/")[2]
    return length.isdigit() and int(length) < _LARGEST_GIVEN


@each(
    "aws:ec2/securityGroup:SecurityGroup",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    "aws:ec2/securityGroupRule:SecurityGroupRule",
)
def _security_groups(subject: Subject) -> Iterable[str]:
    if subject.type.endswith(":SecurityGroup"):
        for rule in listed(subject.props.get("ingress")):
            if _open([*listed(rule.get("cidrBlocks")), *listed(rule.get("ipv6CidrBlocks"))]):
                yield "lets the whole internet in"
    elif subject.props.get("type", "ingress") == "ingress" and _open(
        [
            subject.props.get("cidrIpv4"),
            subject.props.get("cidrIpv6"),
            *listed(subject.props.get("cidrBlocks")),
            *listed(subject.props.get("ipv6CidrBlocks")),
        ]
    ):
        yield "lets the whole internet in"


@each("eks:index:Cluster", "aws:eks/cluster:Cluster")
def _cluster(subject: Subject) -> Iterable[str]:
    config = subject.props if subject.type.startswith("eks:") else subject.props.get("vpcConfig")
    if not config:
        return
    ranges = config.get("publicAccessCidrs")
    if config.get("endpointPublicAccess", True) and (not ranges or _open(listed(ranges))):
        yield "its API answers the whole internet"


@each("kubernetes:networking.k8s.io/v1:Ingress")
def _ingress(subject: Subject) -> Iterable[str]:
    annotations = subject.at("metadata.annotations") or {}
    if annotations.get(f"{_ALB}scheme") != "internet-facing":
        return
    if not annotations.get(f"{_ALB}certificate-arn"):
        yield "faces the internet without a certificate"
    # With a certificate and no list, the controller listens on HTTPS alone.
    listening = annotations.get(f"{_ALB}listen-ports", '[{"HTTPS": 443}]')
    if isinstance(listening, str) and _protocols(listening) != {"HTTPS"}:
        yield f"faces the internet on {listening}"


def _protocols(listeners: str) -> set[str]:
    """What a list like [{"HTTPS": 443}] listens with; nothing if it cannot be read."""
    try:
        return {protocol for listener in json.loads(listeners) for protocol in listener}
    except (TypeError, ValueError):
        return set()


@each("kubernetes:core/v1:Service")
def _service(subject: Subject) -> Iterable[str]:
    if subject.at("spec.type") == "NodePort":
        yield "opens a port on every node"
    if subject.at("spec.type") == "LoadBalancer":
        annotations = subject.at("metadata.annotations") or {}
        if annotations.get(
            "service.beta.kubernetes.io/aws-load-balancer-scheme"
        ) != "internal" and not subject.at("spec.loadBalancerSourceRanges"):
            yield "is a load balancer that anyone reaches"


RULES: Final = (
    Rule(
        id="bucket-not-public",
        level="mandatory",
        advice="Give the bucket a public access block with all four settings true.",
        check=_buckets,
    ),
    Rule(
        id="resource-policy-not-open",
        level="mandatory",
        advice="Name the principal, or add a condition that its ARN, account or network is a certain one.",
        check=_anyone,
    ),
    Rule(
        id="security-group-not-open",
        level="mandatory",
        advice="Name the networks or the security group that may enter.",
        check=_security_groups,
    ),
    Rule(
        id="cluster-endpoint-not-open",
        level="mandatory",
        advice="List your networks in trainserve:cluster.publicAccessCidrs, or leave it empty.",
        check=_cluster,
    ),
    Rule(
        id="ingress-with-certificate",
        level="mandatory",
        advice="Give the Ingress a certificate and HTTPS listeners only, or make its scheme internal.",
        check=_ingress,
    ),
    Rule(
        id="service-not-open",
        level="mandatory",
        advice="Use ClusterIP behind an Ingress, an internal load balancer, or list source ranges.",
        check=_service,
    ),
)
