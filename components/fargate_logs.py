"""Where pods on Fargate log to: no agent runs there, so EKS's own router sends what they print."""

from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components import iam, teardown
from components.base import PlatformComponent

_NAMESPACE: Final = "aws-observability"
_CONFIG: Final = "aws-logging"


@dataclass(frozen=True, kw_only=True)
class FargateLogsArgs:
    """Whose pods, and how long their logs are kept."""

    cluster_name: str
    region: str
    role_id: pulumi.Input[str]
    """The role that starts pods, and by which their logs are sent."""

    key_arn: pulumi.Input[str]
    retention_days: int
    order: teardown.Order


class FargateLogs(PlatformComponent):
    """A log group for Karpenter, and for whatever else runs on Fargate, and the router's configuration.

    The router reads it when a pod starts: what starts before it has no logs.
    """

    TYPE = "trainserve:fargate_logs:FargateLogs"

    def __init__(self, name: str, args: FargateLogsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        group = aws.cloudwatch.LogGroup(
            f"{name}-pods",
            name=f"/aws/eks/{args.cluster_name}/fargate",
            retention_in_days=args.retention_days,
            kms_key_id=args.key_arn,
            opts=self.child(),
        )
        policy = aws.iam.RolePolicy(
            f"{name}-write",
            role=args.role_id,
            policy=iam.document(iam.write_logs(group.arn), find_streams(group.arn)),
            opts=self.child(),
        )
        namespace = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": _NAMESPACE,
                # EKS knows it by the first; no pod runs here.
                "labels": {_NAMESPACE: "enabled", "pod-security.kubernetes.io/enforce": "restricted"},
            },
            opts=self.child(),
        )
        router = k8s.core.v1.ConfigMap(
            f"{name}-router",
            metadata={"name": _CONFIG, "namespace": _NAMESPACE},
            data={"output.conf": output(group.name, args.region)},
            opts=self.child(depends_on=[namespace]),
        )
        args.order.made(teardown.FARGATE_LOGS, [policy, router])
        self.finish()


def output(log_group: pulumi.Input[str], region: str) -> pulumi.Output[str]:
    """Fluent Bit's output: a stream for each container, in a group that exists."""
    return pulumi.Output.concat(
        "[OUTPUT]\n    Name cloudwatch_logs\n    Match *\n",
        f"    region {region}\n    log_group_name ",
        log_group,
        "\n    log_stream_prefix fargate-\n    auto_create_group false\n",
    )


def find_streams(log_group_arn: pulumi.Input[str]) -> iam.Statement:
    """Looking for a stream before one is made."""
    return iam.Statement(
        sid="FindStreams",
        actions=["logs:DescribeLogStreams"],
        resources=[pulumi.Output.concat(log_group_arn, ":*")],
    )
