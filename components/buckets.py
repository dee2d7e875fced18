"""What every bucket here has in common, as data."""

from typing import Any

import pulumi

from components import iam


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
