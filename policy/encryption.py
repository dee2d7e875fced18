"""Encryption at rest and in transit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from policy.model import Complaint, Rule, Stack, Subject, each, listed, statements

if TYPE_CHECKING:
    from collections.abc import Iterable

BUCKET: Final = "aws:s3/bucket:Bucket"
_BUCKET_ENCRYPTION: Final = (
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
)
_AT_REST: Final = {
    "aws:dynamodb/table:Table": ("serverSideEncryption.enabled",),
    "aws:ecr/repository:Repository": ("encryptionConfigurations.0.kmsKey",),
    "aws:sns/topic:Topic": ("kmsMasterKeyId",),
    "aws:sqs/queue:Queue": ("kmsMasterKeyId", "sqsManagedSseEnabled"),
    "aws:cloudwatch/logGroup:LogGroup": ("kmsKeyId",),
    "aws:secretsmanager/secret:Secret": ("kmsKeyId",),
    "aws:cloudtrail/trail:Trail": ("kmsKeyId",),
    "aws:codebuild/project:Project": ("encryptionKey",),
    "aws:sagemaker/trainingJob:TrainingJob": ("outputDataConfig.kmsKeyId",),
    "eks:index:Cluster": ("encryptionConfigKeyArn",),
}
_ACCESS_LOGS: Final = "access-logs"
"""Load balancers write their logs only to buckets with S3's own keys (AES256)."""

_TLS13: Final = "ELBSecurityPolicy-TLS13-"


def _bucket_of(subject: Subject, stack: Stack, kind: str) -> bool:
    """Whether the stack has a resource of this kind for the bucket: the physical name, else the logical one.

    At preview the name is not known yet; the companion is then recognised by the bucket's logical name.
    """
    return any(
        companion.name.startswith(f"{subject.name}-")
        or companion.props.get("bucket") in {subject.name, subject.props.get("bucket")}
        for companion in stack.of(kind)
    )


def _buckets(stack: Stack) -> Iterable[Complaint]:
    for bucket in stack.of(BUCKET):
        if not _bucket_of(bucket, stack, _BUCKET_ENCRYPTION):
            yield bucket, "has no encryption configuration of its own"
    for rule in stack.of(_BUCKET_ENCRYPTION):
        if _ACCESS_LOGS in rule.name:
            continue
        if rule.at("rules.0.applyServerSideEncryptionByDefault.sseAlgorithm") != "aws:kms":
            yield rule, "does not encrypt with KMS"


@each(*_AT_REST)
def _at_rest(subject: Subject) -> Iterable[str]:
    paths = _AT_REST[subject.type]
    if not any(subject.at(path) for path in paths):
        yield f"{' or '.join(paths)} is not set"


@each("aws:eks/cluster:Cluster")
def _cluster(subject: Subject) -> Iterable[str]:
    if subject.props.get("vpcConfig") and not subject.at("encryptionConfig.provider.keyArn"):
        yield "encryptionConfig names no key, so secrets lie in etcd as they are"


@each("kubernetes:karpenter.k8s.aws/v1:EC2NodeClass")
def _volumes(subject: Subject) -> Iterable[str]:
    mappings = listed(subject.at("spec.blockDeviceMappings"))
    if not mappings:
        yield "spec.blockDeviceMappings is not set, so the nodes' volumes follow the account's default"
    for mapping in mappings:
        if not mapping.get("ebs", {}).get("encrypted"):
            yield f"the volume {mapping.get('deviceName')} is not encrypted"


def _denies_plain_http(document: object) -> bool:
    return any(
        statement.get("Effect") == "Deny"
        and str(statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport")).lower() == "false"
        for statement in statements(document)
    )


def _tls_only_buckets(stack: Stack) -> Iterable[Complaint]:
    policies = stack.of("aws:s3/bucketPolicy:BucketPolicy")
    for bucket in stack.of(BUCKET):
        if not _bucket_of(bucket, stack, "aws:s3/bucketPolicy:BucketPolicy"):
            yield bucket, "has no bucket policy"
    for policy in policies:
        if isinstance(policy.props.get("policy"), str) and not _denies_plain_http(policy.props["policy"]):
            yield policy, "does not deny requests without TLS"


@each("kubernetes:networking.k8s.io/v1:Ingress")
def _ingress(subject: Subject) -> Iterable[str]:
    annotations = subject.at("metadata.annotations") or {}
    if "443" not in str(annotations.get("alb.ingress.kubernetes.io/listen-ports", "")):
        return  # plain HTTP is a matter of exposure
    policy = str(annotations.get("alb.ingress.kubernetes.io/ssl-policy", ""))
    if not policy.startswith(_TLS13):
        yield f"its TLS policy is {policy or 'the default of 2016'}"


RULES: Final = (
    Rule(
        id="bucket-encrypted",
        level="mandatory",
        advice="Give the bucket a server-side encryption configuration with a KMS key.",
        check=_buckets,
    ),
    Rule(
        id="encrypted-at-rest",
        level="mandatory",
        advice="Name the KMS key (or the service's own encryption) in the resource.",
        check=_at_rest,
    ),
    Rule(
        id="cluster-secrets-encrypted",
        level="mandatory",
        advice="Give the cluster a KMS key for its secrets.",
        check=_cluster,
    ),
    Rule(
        id="node-volumes-encrypted",
        level="mandatory",
        advice="Set encrypted on every block device of the EC2NodeClass.",
        check=_volumes,
    ),
    Rule(
        id="bucket-tls-only",
        level="mandatory",
        advice="Deny every action when aws:SecureTransport is false.",
        check=_tls_only_buckets,
    ),
    Rule(
        id="ingress-tls13",
        level="mandatory",
        advice=f"Set alb.ingress.kubernetes.io/ssl-policy to a {_TLS13}… policy.",
        check=_ingress,
    ),
)
