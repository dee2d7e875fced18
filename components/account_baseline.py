"""What guards the whole account: GuardDuty and Security Hub, and what they read. On in one environment of it.

An account has one of each in a region. Where they are there already, they are somebody's: leave this off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from components import versions
from components.account_records import AccountRecords, AccountRecordsArgs
from components.base import PlatformComponent

_AGENTS: Final = ("EKS_ADDON_MANAGEMENT", "ECS_FARGATE_AGENT_MANAGEMENT", "EC2_AGENT_MANAGEMENT")


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
    bucket_arns: Sequence[pulumi.Input[str]]
    """Whose objects' readers and writers are written down too."""

    key_arn: pulumi.Input[str]
    protect: bool
    force_destroy: bool
    nodes: Sequence[pulumi.Resource]
    """What an agent on every node waits for."""


class AccountBaseline(PlatformComponent):
    """Threats are looked for, standards are checked, and calls of the API and changes are written down."""

    TYPE = "trainserve:security:AccountBaseline"

    def __init__(
        self, name: str, args: AccountBaselineArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        self._guard_duty(self._agents_endpoint())
        records = AccountRecords(
            f"{name}-records",
            AccountRecordsArgs(
                stack=args.stack,
                region=args.region,
                account_id=args.account_id,
                bucket_arns=args.bucket_arns,
                key_arn=args.key_arn,
                protect=args.protect,
                force_destroy=args.force_destroy,
            ),
            self.child(),
        )
        self._security_hub(records.recording)
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

    def _security_hub(self, recording: pulumi.Resource) -> None:
        """Its controls read what Config has recorded."""
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
                opts=self.child(depends_on=[hub, recording]),
            )
