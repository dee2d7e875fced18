"""What Karpenter's controller may do: six policies, each over this cluster's things only.

The division follows Karpenter's reference template; where this program knows more (its subnets and security
group carry the discovery tag, its instance profile is its own), the statements are narrower.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi

from components import iam, names

_MADE: Final = (
    "fleet",
    "instance",
    "volume",
    "network-interface",
    "launch-template",
    "spot-instances-request",
)
Conditions = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Whose machines these are, and with what they are made."""

    cluster_name: str
    region: str
    account_id: pulumi.Input[str]
    node_role_arn: pulumi.Input[str]
    instance_profile_arn: pulumi.Input[str]
    queue_arn: pulumi.Input[str]

    @property
    def owned(self) -> str:
        """The tag that says which cluster a machine belongs to."""
        return f"kubernetes.io/cluster/{self.cluster_name}"

    def ec2(self, kind: str) -> pulumi.Output[str]:
        """All EC2 resources of one kind in this account and region; conditions narrow them by tag."""
        return pulumi.Output.concat(f"arn:aws:ec2:{self.region}:", self.account_id, f":{kind}/*")

    @property
    def older_profiles(self) -> pulumi.Output[str]:
        """Instance profiles as Karpenter once named its own: the cluster's name, `_` and a number."""
        return pulumi.Output.concat(
            "arn:aws:iam::", self.account_id, f":instance-profile/{self.cluster_name}_*"
        )

    @property
    def cluster_arn(self) -> pulumi.Output[str]:
        """The cluster."""
        return pulumi.Output.concat(
            f"arn:aws:eks:{self.region}:", self.account_id, f":cluster/{self.cluster_name}"
        )


def policies(scope: Scope) -> dict[str, list[iam.Statement]]:
    """The six policies, by name."""
    return {
        "node-lifecycle": node_lifecycle(scope),
        "iam-integration": iam_integration(scope),
        "eks-integration": eks_integration(scope),
        "interruption": interruption(scope),
        "zonal-shift": zonal_shift(scope),
        "resource-discovery": resource_discovery(scope),
    }


def _tagged(scope: Scope, key: str) -> Conditions:
    """Things that carry, or are asked for with (`key`), this cluster's and a NodePool's tag."""
    owned: dict[str, Any] = {f"aws:{key}/{scope.owned}": "owned"}
    if key == "RequestTag":
        owned["aws:RequestTag/eks:eks-cluster-name"] = scope.cluster_name
    return {"StringEquals": owned, "StringLike": {f"aws:{key}/karpenter.sh/nodepool": "*"}}


def node_lifecycle(scope: Scope) -> list[iam.Statement]:
    """Starting, tagging and ending instances: only with, and only of, this cluster's tags."""
    return [
        *_start(scope),
        *_tag(scope),
        iam.Statement(
            sid="EndOurs",
            actions=["ec2:DeleteLaunchTemplate", "ec2:TerminateInstances"],
            resources=[scope.ec2("instance"), scope.ec2("launch-template")],
            conditions=_tagged(scope, "ResourceTag"),
        ),
    ]


def _start(scope: Scope) -> list[iam.Statement]:
    launch = ["ec2:CreateFleet", "ec2:RunInstances"]
    return [
        iam.Statement(
            sid="StartFromImages",
            actions=launch,
            resources=[f"arn:aws:ec2:{scope.region}::{kind}/*" for kind in ("image", "snapshot")],
        ),
        iam.Statement(
            sid="StartInOurNetwork",
            actions=launch,
            resources=[scope.ec2("security-group"), scope.ec2("subnet")],
            conditions={"StringEquals": {f"aws:ResourceTag/{names.DISCOVERY}": scope.cluster_name}},
        ),
        iam.Statement(
            sid="StartFromOurTemplates",
            actions=launch,
            resources=[scope.ec2("launch-template")],
            conditions=_tagged(scope, "ResourceTag"),
        ),
        iam.Statement(
            sid="StartWithOurTags",
            actions=[*launch, "ec2:CreateLaunchTemplate"],
            resources=[scope.ec2(kind) for kind in _MADE],
            conditions=_tagged(scope, "RequestTag"),
        ),
    ]


def _tag(scope: Scope) -> list[iam.Statement]:
    asked = _tagged(scope, "RequestTag")
    while_creating = {
        **asked,
        "StringEquals": {
            **asked["StringEquals"],
            "ec2:CreateAction": ["CreateFleet", "CreateLaunchTemplate", "RunInstances"],
        },
    }
    return [
        iam.Statement(
            sid="TagWhatIsStarted",
            actions=["ec2:CreateTags"],
            resources=[scope.ec2(kind) for kind in _MADE],
            conditions=while_creating,
        ),
        iam.Statement(
            sid="TagOurInstances",
            actions=["ec2:CreateTags"],
            resources=[scope.ec2("instance")],
            conditions={
                **_tagged(scope, "ResourceTag"),
                "StringEqualsIfExists": {"aws:RequestTag/eks:eks-cluster-name": scope.cluster_name},
                "ForAllValues:StringEquals": {
                    "aws:TagKeys": ["eks:eks-cluster-name", "karpenter.sh/nodeclaim", "Name"]
                },
            },
        ),
    ]


def iam_integration(scope: Scope) -> list[iam.Statement]:
    """Handing the node role to EC2. The instance profile is the program's, so there is none to make."""
    spot = "role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot"
    return [
        # EC2 makes it with its first spot instance, by the right of whoever asks for that.
        iam.Statement(
            sid="FirstSpotInstanceOfAnAccount",
            actions=["iam:CreateServiceLinkedRole"],
            resources=[pulumi.Output.concat("arn:aws:iam::", scope.account_id, f":{spot}")],
            conditions={"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}},
        ),
        iam.Statement(
            sid="PassNodeRole",
            actions=["iam:PassRole"],
            resources=[scope.node_role_arn],
            conditions={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
        ),
    ]


def eks_integration(scope: Scope) -> list[iam.Statement]:
    """Finding the cluster's endpoint."""
    return [iam.Statement(sid="FindEndpoint", actions=["eks:DescribeCluster"], resources=[scope.cluster_arn])]


def interruption(scope: Scope) -> list[iam.Statement]:
    """Hearing of nodes that are about to be taken away."""
    return [
        iam.Statement(
            sid="HearOfInterruptions",
            actions=["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"],
            resources=[scope.queue_arn],
        )
    ]


def zonal_shift(scope: Scope) -> list[iam.Statement]:
    """Knowing which zone is shifted away from."""
    return [
        iam.Statement(
            sid="KnowShiftedZones",
            actions=["arc-zonal-shift:GetManagedResource"],
            resources=["*"],  # an EKS cluster is named by the condition
            conditions={"StringEquals": {"arc-zonal-shift:ResourceIdentifier": scope.cluster_arn}},
        )
    ]


def resource_discovery(scope: Scope) -> list[iam.Statement]:
    """Reading what there is to choose from; EC2's lists and prices have no resource level."""
    return [
        iam.Statement(
            sid="ReadEc2",
            actions=[
                "ec2:DescribeCapacityReservations",
                "ec2:DescribeImages",
                "ec2:DescribeInstanceStatus",
                "ec2:DescribeInstanceTypeOfferings",
                "ec2:DescribeInstanceTypes",
                "ec2:DescribeInstances",
                "ec2:DescribeLaunchTemplates",
                "ec2:DescribePlacementGroups",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSpotPriceHistory",
                "ec2:DescribeSubnets",
            ],
            resources=["*"],
            conditions={"StringEquals": {"aws:RequestedRegion": scope.region}},
        ),
        iam.Statement(
            sid="ReadImageNames",
            actions=["ssm:GetParameter"],
            resources=[f"arn:aws:ssm:{scope.region}::parameter/aws/service/*"],
        ),
        iam.Statement(sid="ReadPrices", actions=["pricing:GetProducts"], resources=["*"]),
        # Without this one, a NodeClass is never let go (karpenter #9185).
        iam.Statement(sid="ListProfiles", actions=["iam:ListInstanceProfiles"], resources=["*"]),
        # Nor without this: before it lets go, it looks for a profile as its older versions named theirs, and
        # "no right to look" is not the "there is none" that it needs.
        iam.Statement(
            sid="ReadProfile",
            actions=["iam:GetInstanceProfile"],
            resources=[scope.instance_profile_arn, scope.older_profiles],
        ),
    ]
