"""Keys and buckets: data that comes in, artifacts that come out, and the state of the loop."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components import buckets, iam
from components.base import PlatformComponent
from components.buckets import lifecycle_rules, tls_only


@dataclass(frozen=True, kw_only=True)
class StorageArgs:
    """What a caller decides."""

    account_id: pulumi.Input[str]
    region: str
    noncurrent_days: int
    force_destroy: bool
    protect: bool


class Storage(PlatformComponent):
    """One key, the data and the artifact bucket (versioned, TLS only, encrypted), and the state table."""

    TYPE = "trainserve:storage:Storage"
    key_arn: pulumi.Output[str]
    data_bucket: pulumi.Output[str]
    data_bucket_arn: pulumi.Output[str]
    artifact_bucket: pulumi.Output[str]
    artifact_bucket_arn: pulumi.Output[str]
    state_table: pulumi.Output[str]
    state_table_arn: pulumi.Output[str]
    notification: aws.s3.BucketNotification

    def __init__(self, name: str, args: StorageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        key = aws.kms.Key(
            f"{name}-key",
            description="Data, artifacts, images, logs and cluster secrets of one trainserve stack",
            enable_key_rotation=True,
            deletion_window_in_days=30 if args.protect else 7,
            policy=key_policy(args.account_id, args.region),
            opts=self._stateful(),
        )
        self.key_arn = key.arn
        data, self.data_bucket = self._bucket("data", key)
        artifacts, self.artifact_bucket = self._bucket("artifacts", key)
        # The whole notification configuration of the bucket; rules filter, so nothing else needs one.
        self.notification = aws.s3.BucketNotification(
            f"{name}-data-events", bucket=data.id, eventbridge=True, opts=self.child()
        )
        table = aws.dynamodb.Table(
            f"{name}-state",
            billing_mode="PAY_PER_REQUEST",
            hash_key="model",
            range_key="record",
            attributes=[{"name": "model", "type": "S"}, {"name": "record", "type": "S"}],
            point_in_time_recovery={"enabled": True},
            server_side_encryption={"enabled": True, "kms_key_arn": key.arn},
            deletion_protection_enabled=args.protect,
            opts=self._stateful(),
        )
        self.data_bucket_arn, self.artifact_bucket_arn = data.arn, artifacts.arn
        self.state_table, self.state_table_arn = table.name, table.arn
        self.finish("key_arn", "data_bucket", "artifact_bucket", "state_table")

    def _stateful(self) -> pulumi.ResourceOptions:
        return self.child(protect=self._args.protect, retain_on_delete=self._args.protect)

    def _bucket(self, label: str, key: aws.kms.Key) -> tuple[aws.s3.Bucket, pulumi.Output[str]]:
        """A bucket, and its name once it keeps what is written into it."""
        name = f"{self._name}-{label}"
        bucket, block = buckets.private(
            self, name, force_destroy=self._args.force_destroy, protect=self._args.protect
        )
        aws.s3.BucketPolicy(
            f"{name}-tls", bucket=bucket.id, policy=tls_only(bucket.arn), opts=self.child(depends_on=[block])
        )
        rules = lifecycle_rules(self._args.noncurrent_days)
        return bucket, buckets.kept(self, name, bucket, rules, key.arn)


def key_policy(account_id: pulumi.Input[str], region: str) -> pulumi.Output[str]:
    """The account's IAM policies decide, as is usual; logs, alarms, a trail and a recorder may use it."""
    return iam.document(
        iam.Statement(
            sid="Account",
            principal={"AWS": pulumi.Output.concat("arn:aws:iam::", account_id, ":root")},
            actions=["kms:*"],
            resources=["*"],
        ),
        iam.Statement(
            sid="Logs",
            principal={"Service": f"logs.{region}.amazonaws.com"},
            actions=[
                "kms:Decrypt",
                "kms:DescribeKey",
                "kms:Encrypt",
                "kms:GenerateDataKey*",
                "kms:ReEncrypt*",
            ],
            resources=["*"],
            conditions={
                "ArnLike": {
                    "kms:EncryptionContext:aws:logs:arn": pulumi.Output.concat(
                        f"arn:aws:logs:{region}:", account_id, ":log-group:*"
                    )
                }
            },
        ),
        iam.Statement(
            sid="Alarms",
            principal={"Service": ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]},
            actions=["kms:Decrypt", "kms:GenerateDataKey*"],
            resources=["*"],
            conditions={"StringEquals": {"aws:SourceAccount": account_id}},
        ),
        iam.Statement(
            sid="Trail",
            principal={"Service": "cloudtrail.amazonaws.com"},
            actions=["kms:DescribeKey", "kms:GenerateDataKey*"],
            resources=["*"],
            conditions={"StringEquals": {"aws:SourceAccount": account_id}},
        ),
        iam.Statement(
            sid="Recorder",
            principal={"Service": "config.amazonaws.com"},
            actions=["kms:Decrypt", "kms:GenerateDataKey*"],
            resources=["*"],
            conditions={"StringEquals": {"aws:SourceAccount": account_id}},
        ),
    )
