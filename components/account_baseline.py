"""What guards the whole account: GuardDuty, Security Hub and CloudTrail. On in one environment per account.

Security Hub's controls read AWS Config: where that does not record yet, they say so and find nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from components import buckets, iam, versions
from components.base import PlatformComponent
from components.buckets import lifecycle_rules, tls_only_statement

_AGENTS: Final = ("EKS_ADDON_MANAGEMENT", "ECS_FARGATE_AGENT_MANAGEMENT", "EC2_AGENT_MANAGEMENT")
_KEEP_TRAIL_DAYS: Final = 400


@dataclass(frozen=True, kw_only=True)
class AccountBaselineArgs:
    """Where the agent runs, and where the trail is kept."""

    stack: str
    region: str
    account_id: pulumi.Input[str]
    vpc_id: pulumi.Input[str]
    vpc_cidr: str
    subnet_ids: Sequence[pulumi.Input[str]]
    cluster_name: str
    key_arn: pulumi.Input[str]
    protect: bool
    force_destroy: bool
    nodes: Sequence[pulumi.Resource]
    """What an agent on every node waits for."""


class AccountBaseline(PlatformComponent):
    """Threats are looked for, standards are checked, and every call of the API is written down."""

    TYPE = "trainserve:security:AccountBaseline"

    def __init__(
        self, name: str, args: AccountBaselineArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        self._guard_duty(self._agents_endpoint())
        self._security_hub()
        self._trail()
        self.finish()

    def _agents_endpoint(self) -> aws.ec2.VpcEndpoint:
        args, name = self._args, self._name
        group = aws.ec2.SecurityGroup(
            f"{name}-guardduty",
            description="GuardDuty's agents to its endpoint",
            vpc_id=args.vpc_id,
            opts=self.child(),
        )
        aws.vpc.SecurityGroupIngressRule(
            f"{name}-guardduty",
            security_group_id=group.id,
            description="Findings from every node",
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            cidr_ipv4=args.vpc_cidr,
            opts=self.child(),
        )
        return aws.ec2.VpcEndpoint(
            f"{name}-guardduty",
            vpc_id=args.vpc_id,
            service_name=f"com.amazonaws.{args.region}.guardduty-data",
            vpc_endpoint_type="Interface",
            subnet_ids=args.subnet_ids,
            security_group_ids=[group.id],
            private_dns_enabled=True,
            opts=self.child(),
        )

    def _guard_duty(self, endpoint: aws.ec2.VpcEndpoint) -> None:
        """Runtime monitoring with an agent, an endpoint and a security group of ours.

        Those that GuardDuty makes by itself are in nobody's state, and pin the VPC when it shall go.
        """
        args, name = self._args, self._name
        detector = aws.guardduty.Detector(
            f"{name}-detector",
            enable=True,
            finding_publishing_frequency="FIFTEEN_MINUTES",
            opts=self.child(),
        )
        for feature in ("S3_DATA_EVENTS", "EKS_AUDIT_LOGS"):
            aws.guardduty.DetectorFeature(
                f"{name}-{feature.lower().replace('_', '-')}",
                detector_id=detector.id,
                name=feature,
                status="ENABLED",
                opts=self.child(),
            )
        runtime = aws.guardduty.DetectorFeature(
            f"{name}-runtime",
            detector_id=detector.id,
            name="RUNTIME_MONITORING",
            status="ENABLED",
            additional_configurations=[{"name": agent, "status": "DISABLED"} for agent in _AGENTS],
            opts=self.child(depends_on=[endpoint]),
        )
        aws.eks.Addon(
            f"{name}-guardduty-agent",
            cluster_name=args.cluster_name,
            addon_name="aws-guardduty-agent",
            addon_version=versions.GUARDDUTY_ADDON,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            opts=self.child(depends_on=[runtime, endpoint, *args.nodes]),
        )

    def _security_hub(self) -> None:
        hub = aws.securityhub.Account(
            f"{self._name}-hub",
            enable_default_standards=False,
            auto_enable_controls=True,
            control_finding_generator="SECURITY_CONTROL",
            opts=self.child(),
        )
        for label, standard in (("cis", versions.CIS_STANDARD), ("fsbp", versions.FSBP_STANDARD)):
            aws.securityhub.StandardsSubscription(
                f"{self._name}-{label}",
                standards_arn=f"arn:aws:securityhub:{self._args.region}::standards/{standard}",
                opts=self.child(depends_on=[hub]),
            )

    def _trail(self) -> None:
        args, name = self._args, f"{self._name}-trail"
        trail_name = f"trainserve-{args.stack}"
        trail_arn = pulumi.Output.concat(
            f"arn:aws:cloudtrail:{args.region}:", args.account_id, f":trail/{trail_name}"
        )
        bucket, policy = self._trail_bucket(name, trail_arn)
        aws.cloudtrail.Trail(
            name,
            name=trail_name,
            s3_bucket_name=bucket.id,
            kms_key_id=args.key_arn,
            is_multi_region_trail=True,
            include_global_service_events=True,
            enable_log_file_validation=True,
            opts=self.child(depends_on=[policy]),
        )

    def _trail_bucket(
        self, name: str, trail_arn: pulumi.Output[str]
    ) -> tuple[aws.s3.Bucket, aws.s3.BucketPolicy]:
        args = self._args
        bucket, block = buckets.private(self, name, force_destroy=args.force_destroy, protect=args.protect)
        policy = aws.s3.BucketPolicy(
            f"{name}-policy",
            bucket=bucket.id,
            policy=trail_policy(bucket.arn, trail_arn, args.account_id),
            opts=self.child(depends_on=[block]),
        )
        self._keep_records(name, bucket)
        return bucket, policy

    def _keep_records(self, name: str, bucket: aws.s3.Bucket) -> None:
        """Encrypted with the environment's key, in versions, and for a little over a year."""
        versioning = aws.s3.BucketVersioning(
            f"{name}-versions",
            bucket=bucket.id,
            versioning_configuration={"status": "Enabled"},
            opts=self.child(),
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption",
            bucket=bucket.id,
            rules=[
                {
                    "apply_server_side_encryption_by_default": {
                        "sse_algorithm": "aws:kms",
                        "kms_master_key_id": self._args.key_arn,
                    },
                    "bucket_key_enabled": True,
                }
            ],
            opts=self.child(),
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{name}-lifecycle",
            bucket=bucket.id,
            rules=[
                *lifecycle_rules(30),
                {
                    "id": "old-records",
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "expiration": {"days": _KEEP_TRAIL_DAYS},
                },
            ],
            opts=self.child(depends_on=[versioning]),
        )


def trail_policy(
    bucket_arn: pulumi.Input[str], trail_arn: pulumi.Input[str], account_id: pulumi.Input[str]
) -> pulumi.Output[str]:
    """This trail writes, over TLS, and nothing else does."""
    service = {"Service": "cloudtrail.amazonaws.com"}
    own = {"StringEquals": {"aws:SourceArn": trail_arn}}
    return iam.document(
        tls_only_statement(bucket_arn),
        iam.Statement(
            sid="Look", principal=service, actions=["s3:GetBucketAcl"], resources=[bucket_arn], conditions=own
        ),
        iam.Statement(
            sid="Write",
            principal=service,
            actions=["s3:PutObject"],
            resources=[pulumi.Output.concat(bucket_arn, "/AWSLogs/", account_id, "/*")],
            conditions={
                "StringEquals": {"aws:SourceArn": trail_arn, "s3:x-amz-acl": "bucket-owner-full-control"}
            },
        ),
    )
