"""What every bucket here has in common."""

from typing import Any

import pulumi
import pulumi_aws as aws

from components import iam
from components.base import PlatformComponent


def private(
    parent: PlatformComponent, name: str, *, force_destroy: bool, protect: bool
) -> tuple[aws.s3.Bucket, aws.s3.BucketPublicAccessBlock]:
    """A child of `parent`: a bucket that nothing can make public and whose objects are the account's own."""
    bucket = aws.s3.Bucket(
        name, force_destroy=force_destroy, opts=parent.child(protect=protect, retain_on_delete=protect)
    )
    block = aws.s3.BucketPublicAccessBlock(
        f"{name}-private",
        bucket=bucket.id,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=parent.child(),
    )
    aws.s3.BucketOwnershipControls(
        f"{name}-owner",
        bucket=bucket.id,
        rule={"object_ownership": "BucketOwnerEnforced"},
        opts=parent.child(),
    )
    return bucket, block


def kept(
    parent: PlatformComponent,
    name: str,
    bucket: aws.s3.Bucket,
    rules: list[Any],
    key_arn: pulumi.Input[str] | None,
) -> pulumi.Output[str]:
    """Children of `parent`: a bucket's versions, how long they stay, and the key; without one, S3's own.

    Returns the bucket's name, for whoever writes into it: what comes before these has no version, and
    another key.
    """
    versioning = aws.s3.BucketVersioning(
        f"{name}-versions",
        bucket=bucket.id,
        versioning_configuration={"status": "Enabled"},
        opts=parent.child(),
    )
    own: Any = {"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}
    keyed: Any = {
        "apply_server_side_encryption_by_default": {"sse_algorithm": "aws:kms", "kms_master_key_id": key_arn},
        "bucket_key_enabled": True,
    }
    encryption = aws.s3.BucketServerSideEncryptionConfiguration(
        f"{name}-encryption",
        bucket=bucket.id,
        rules=[own if key_arn is None else keyed],
        opts=parent.child(),
    )
    aws.s3.BucketLifecycleConfiguration(
        f"{name}-lifecycle", bucket=bucket.id, rules=rules, opts=parent.child(depends_on=[versioning])
    )
    return pulumi.Output.all(bucket.bucket, versioning.id, encryption.id).apply(lambda made: str(made[0]))


def lifecycle_rules(noncurrent_days: int) -> list[Any]:
    """Old versions and abandoned uploads expire; current objects never do."""
    return [
        {
            "id": "old-versions",
            "status": "Enabled",
            "filter": {"prefix": ""},
            "noncurrent_version_expiration": {"noncurrent_days": noncurrent_days},
        },
        {
            "id": "abandoned-uploads",
            "status": "Enabled",
            "filter": {"prefix": ""},
            "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
        },
    ]


def tls_only(bucket_arn: pulumi.Input[str]) -> pulumi.Output[str]:
    """Refuses every request that does not come over TLS."""
    return iam.document(tls_only_statement(bucket_arn))


def tls_only_statement(bucket_arn: pulumi.Input[str]) -> iam.Statement:
    """The same, beside what else a bucket's policy says."""
    return iam.Statement(
        sid="TlsOnly",
        effect="Deny",
        principal="*",
        actions=["s3:*"],
        resources=[bucket_arn, pulumi.Output.concat(bucket_arn, "/*")],
        conditions={"Bool": {"aws:SecureTransport": "false"}},
    )
