"""What the world can reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from policy.encryption import BUCKET
from policy.model import Complaint, Rule, Stack, Subject, each, listed, statements

if TYPE_CHECKING:
    from collections.abc import Iterable

_LARGEST_GIVEN: Final = 8
"""A /8 is the most that anyone was ever given: what is wider is the internet, whole or in halves."""

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
    "aws:s3/bucketPolicy:BucketPolicy", "aws:sqs/queuePolicy:QueuePolicy", "aws:sns/topicPolicy:TopicPolicy"
)
def _anyone(subject: Subject) -> Iterable[str]:
    for statement in statements(subject.props.get("policy")):
        principal: Any = statement.get("Principal")
        everybody = principal == "*" or (isinstance(principal, dict) and "*" in listed(principal.get("AWS")))
        if everybody and statement.get("Effect") == "Allow" and not statement.get("Condition"):
            yield f"statement {statement.get('Sid', '?')} allows anyone"


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
    public = annotations.get("alb.ingress.kubernetes.io/scheme") == "internet-facing"
    if public and not annotations.get("alb.ingress.kubernetes.io/certificate-arn"):
        yield "faces the internet without a certificate"


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
        advice="Name the principal, or add a condition on the source's ARN or account.",
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
        advice="Give the Ingress a certificate, or make its scheme internal.",
        check=_ingress,
    ),
    Rule(
        id="service-not-open",
        level="mandatory",
        advice="Use ClusterIP behind an Ingress, an internal load balancer, or list source ranges.",
        check=_service,
    ),
)
