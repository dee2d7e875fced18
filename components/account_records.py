"""What the account remembers: every call of its API (CloudTrail), and how every resource was set (Config)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from components import buckets, iam
from components.base import PlatformComponent
from components.buckets import lifecycle_rules, tls_only_statement

_KEEP_DAYS: Final = 400
_OWNER: Final = "bucket-owner-full-control"


@dataclass(frozen=True, kw_only=True)
class AccountRecordsArgs:
    """Whose records, and what they are encrypted with."""

    stack: str
    region: str
    account_id: pulumi.Input[str]
    bucket_arns: Sequence[pulumi.Input[str]]
    """Whose objects' readers and writers are written down too."""

    key_arn: pulumi.Input[str]
    protect: bool
    force_destroy: bool


class AccountRecords(PlatformComponent):
    """One bucket, the trail that writes to it, and the recorder that Security Hub's controls read."""

    TYPE = "trainserve:security:AccountRecords"
    recording: aws.cfg.RecorderStatus

    def __init__(
        self, name: str, args: AccountRecordsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        trail_name = f"trainserve-{args.stack}"
        trail_arn = pulumi.Output.concat(
            f"arn:aws:cloudtrail:{args.region}:", args.account_id, f":trail/{trail_name}"
        )
        bucket, policy = self._bucket(trail_arn)
        aws.cloudtrail.Trail(
            f"{name}-trail",
            name=trail_name,
            s3_bucket_name=bucket.id,
            kms_key_id=args.key_arn,
            is_multi_region_trail=True,
            include_global_service_events=True,
            enable_log_file_validation=True,
            event_selectors=[
                {
                    "read_write_type": "All",
                    "include_management_events": True,
                    "data_resources": [
                        {
                            "type": "AWS::S3::Object",
                            "values": [pulumi.Output.concat(arn, "/") for arn in args.bucket_arns],
                        }
                    ],
                }
            ],
            opts=self.child(depends_on=[policy]),
        )
        self.recording = self._record(bucket, policy)
        self.finish()

    def _record(self, bucket: aws.s3.Bucket, policy: aws.s3.BucketPolicy) -> aws.cfg.RecorderStatus:
        """Everything, once a day: nodes come and go, and a record a day is all that a check needs of them.

        The control Config.1 asks for this role, which an account has once; the history of the checks' own
        results is left out, for it is what costs most and nothing reads it.
        """
        role = aws.iam.ServiceLinkedRole(
            f"{self._name}-recorder", aws_service_name="config.amazonaws.com", opts=self.child()
        )
        recorder = aws.cfg.Recorder(
            f"{self._name}-recorder",
            role_arn=role.arn,
            recording_group={
                "all_supported": False,
                "exclusion_by_resource_types": [{"resource_types": ["AWS::Config::ResourceCompliance"]}],
                "recording_strategies": [{"use_only": "EXCLUSION_BY_RESOURCE_TYPES"}],
            },
            recording_mode={"recording_frequency": "DAILY"},
            opts=self.child(),
        )
        channel = aws.cfg.DeliveryChannel(
            f"{self._name}-recorder",
            s3_bucket_name=bucket.id,
            s3_kms_key_arn=self._args.key_arn,
            opts=self.child(depends_on=[recorder, policy]),
        )
        return aws.cfg.RecorderStatus(
            f"{self._name}-recorder",
            name=recorder.name,
            is_enabled=True,
            opts=self.child(depends_on=[channel]),
        )

    def _bucket(self, trail_arn: pulumi.Output[str]) -> tuple[aws.s3.Bucket, aws.s3.BucketPolicy]:
        args, name = self._args, f"{self._name}-bucket"
        bucket, block = buckets.private(self, name, force_destroy=args.force_destroy, protect=args.protect)
        policy = aws.s3.BucketPolicy(
            f"{name}-policy",
            bucket=bucket.id,
            policy=iam.document(
                tls_only_statement(bucket.arn),
                *trail_statements(bucket.arn, trail_arn, args.account_id),
                *recorder_statements(bucket.arn, args.account_id),
            ),
            opts=self.child(depends_on=[block]),
        )
        self._keep(name, bucket)
        return bucket, policy

    def _keep(self, name: str, bucket: aws.s3.Bucket) -> None:
        """Encrypted with the environment's key, in versions, and for a little over a year."""
        expire = {
            "id": "old-records",
            "status": "Enabled",
            "filter": {"prefix": ""},
            "expiration": {"days": _KEEP_DAYS},
        }
        buckets.kept(self, name, bucket, [*lifecycle_rules(30), expire], self._args.key_arn)


def trail_statements(
    bucket_arn: pulumi.Input[str], trail_arn: pulumi.Input[str], account_id: pulumi.Input[str]
) -> list[iam.Statement]:
    """This trail writes, and no other."""
    service = {"Service": "cloudtrail.amazonaws.com"}
    return [
        iam.Statement(
            sid="TrailLooks",
            principal=service,
            actions=["s3:GetBucketAcl"],
            resources=[bucket_arn],
            conditions={"StringEquals": {"aws:SourceArn": trail_arn}},
        ),
        iam.Statement(
            sid="TrailWrites",
            principal=service,
            actions=["s3:PutObject"],
            resources=[pulumi.Output.concat(bucket_arn, "/AWSLogs/", account_id, "/*")],
            conditions={"StringEquals": {"aws:SourceArn": trail_arn, "s3:x-amz-acl": _OWNER}},
        ),
    ]


def recorder_statements(bucket_arn: pulumi.Input[str], account_id: pulumi.Input[str]) -> list[iam.Statement]:
    """This account's recorder writes under its own prefix, and no other account's."""
    service, ours = {"Service": "config.amazonaws.com"}, {"aws:SourceAccount": account_id}
    return [
        iam.Statement(
            sid="RecorderLooks",
            principal=service,
            actions=["s3:GetBucketAcl", "s3:ListBucket"],
            resources=[bucket_arn],
            conditions={"StringEquals": ours},
        ),
        iam.Statement(
            sid="RecorderWrites",
            principal=service,
            actions=["s3:PutObject"],
            resources=[pulumi.Output.concat(bucket_arn, "/AWSLogs/", account_id, "/Config/*")],
            conditions={"StringEquals": {**ours, "s3:x-amz-acl": _OWNER}},
        ),
    ]
