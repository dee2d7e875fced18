"""What the AWS Load Balancer Controller may do: read what there is, change what carries its cluster's tag."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi

from components import iam

TAG: Final = "elbv2.k8s.aws/cluster"
"""What the controller puts on everything that it makes, with the cluster's name."""

Conditions = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Whose load balancers these are, and what they may use."""

    cluster_name: str
    region: str
    account_id: pulumi.Input[str]
    vpc_id: pulumi.Input[str]
    cluster_security_group_id: pulumi.Input[str]
    certificate_arn: str | None
    waf_acl_arn: str | None

    def ec2(self, kind: str) -> pulumi.Output[str]:
        """EC2 resources of one kind, named `kind/id` or all of them."""
        named = kind if "/" in kind else f"{kind}/*"
        return pulumi.Output.concat(f"arn:aws:ec2:{self.region}:", self.account_id, f":{named}")

    def balancing(self, *kinds: str) -> list[pulumi.Output[str]]:
        """Load balancers and their parts; conditions narrow them by tag."""
        head = f"arn:aws:elasticloadbalancing:{self.region}:"
        return [pulumi.Output.concat(head, self.account_id, f":{kind}") for kind in kinds]

    @property
    def requested(self) -> Conditions:
        """Only with our tag."""
        return {"StringEquals": {f"aws:RequestTag/{TAG}": self.cluster_name}}

    @property
    def ours(self) -> Conditions:
        """Only what carries our tag."""
        return {"StringEquals": {f"aws:ResourceTag/{TAG}": self.cluster_name}}


_BALANCERS: Final = ("loadbalancer/app/*/*", "loadbalancer/net/*/*")
_GROUPS: Final = ("targetgroup/*/*",)
_LISTENERS: Final = ("listener/app/*/*/*", "listener/net/*/*/*")
_RULES: Final = ("listener-rule/app/*/*/*", "listener-rule/net/*/*/*")


def statements(scope: Scope) -> list[iam.Statement]:
    """Everything that the controller does for this program; no Shield, no Cognito, no classic WAF."""
    return [
        *_reading(scope),
        *_security_groups(scope),
        *_balancers(scope),
        *_listeners(scope),
        *_extras(scope),
    ]


def _reading(scope: Scope) -> list[iam.Statement]:
    network = [
        "ec2:DescribeAccountAttributes",
        "ec2:DescribeAddresses",
        "ec2:DescribeAvailabilityZones",
        "ec2:DescribeInstances",
        "ec2:DescribeInternetGateways",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeRouteTables",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeTags",
        "ec2:DescribeVpcPeeringConnections",
        "ec2:DescribeVpcs",
        "ec2:GetSecurityGroupsForVpc",
    ]
    balancing = [
        "elasticloadbalancing:DescribeCapacityReservation",
        "elasticloadbalancing:DescribeListenerAttributes",
        "elasticloadbalancing:DescribeListenerCertificates",
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeLoadBalancerAttributes",
        "elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeRules",
        "elasticloadbalancing:DescribeSSLPolicies",
        "elasticloadbalancing:DescribeTags",
        "elasticloadbalancing:DescribeTargetGroupAttributes",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "elasticloadbalancing:DescribeTrustStores",
    ]
    role = "role/aws-service-role/elasticloadbalancing.amazonaws.com/AWSServiceRoleForElasticLoadBalancing"
    return [
        iam.Statement(sid="ReadNetwork", actions=network, resources=["*"]),  # no resource level
        iam.Statement(sid="ReadBalancers", actions=balancing, resources=["*"]),  # no resource level
        iam.Statement(
            sid="FirstBalancerOfAnAccount",
            actions=["iam:CreateServiceLinkedRole"],
            resources=[pulumi.Output.concat("arn:aws:iam::", scope.account_id, f":{role}")],
            conditions={"StringEquals": {"iam:AWSServiceName": "elasticloadbalancing.amazonaws.com"}},
        ),
    ]


def _security_groups(scope: Scope) -> list[iam.Statement]:
    groups, vpc = scope.ec2("security-group"), pulumi.Output.concat(scope.ec2("vpc/"), scope.vpc_id)
    rules = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
    own = pulumi.Output.concat(scope.ec2("security-group/"), scope.cluster_security_group_id)
    return [
        iam.Statement(sid="MakeGroups", actions=["ec2:CreateSecurityGroup"], resources=[vpc]),
        iam.Statement(
            sid="MakeGroupsWithOurTag",
            actions=["ec2:CreateSecurityGroup"],
            resources=[groups],
            conditions=scope.requested,
        ),
        iam.Statement(
            sid="TagNewGroups",
            actions=["ec2:CreateTags"],
            resources=[groups],
            conditions={
                "StringEquals": {
                    **scope.requested["StringEquals"],
                    "ec2:CreateAction": "CreateSecurityGroup",
                }
            },
        ),
        iam.Statement(
            sid="TagOurGroups",
            actions=["ec2:CreateTags", "ec2:DeleteTags"],
            resources=[groups],
            conditions={**scope.ours, "Null": {f"aws:RequestTag/{TAG}": "true"}},
        ),
        iam.Statement(
            sid="ChangeOurGroups",
            actions=[*rules, "ec2:DeleteSecurityGroup"],
            resources=[groups],
            conditions=scope.ours,
        ),
        # The way from the load balancers to the pods, whose security group is the cluster's.
        iam.Statement(sid="OpenTheNodes", actions=rules, resources=[own]),
    ]


def _balancers(scope: Scope) -> list[iam.Statement]:
    everything = scope.balancing(*_BALANCERS, *_GROUPS)
    create = ["elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup"]
    return [
        iam.Statement(sid="MakeBalancers", actions=create, resources=everything, conditions=scope.requested),
        iam.Statement(
            sid="TagNewBalancers",
            actions=["elasticloadbalancing:AddTags"],
            resources=everything,
            conditions={
                "StringEquals": {
                    **scope.requested["StringEquals"],
                    "elasticloadbalancing:CreateAction": ["CreateLoadBalancer", "CreateTargetGroup"],
                }
            },
        ),
        iam.Statement(
            sid="TagOurBalancers",
            actions=["elasticloadbalancing:AddTags", "elasticloadbalancing:RemoveTags"],
            resources=everything,
            conditions={**scope.ours, "Null": {f"aws:RequestTag/{TAG}": "true"}},
        ),
        iam.Statement(
            sid="ChangeOurBalancers",
            actions=[
                "elasticloadbalancing:DeleteLoadBalancer",
                "elasticloadbalancing:DeleteTargetGroup",
                "elasticloadbalancing:DeregisterTargets",
                "elasticloadbalancing:ModifyCapacityReservation",
                "elasticloadbalancing:ModifyIpPools",
                "elasticloadbalancing:ModifyLoadBalancerAttributes",
                "elasticloadbalancing:ModifyTargetGroup",
                "elasticloadbalancing:ModifyTargetGroupAttributes",
                "elasticloadbalancing:RegisterTargets",
                "elasticloadbalancing:SetIpAddressType",
                "elasticloadbalancing:SetSecurityGroups",
                "elasticloadbalancing:SetSubnets",
            ],
            resources=everything,
            conditions=scope.ours,
        ),
    ]


def _listeners(scope: Scope) -> list[iam.Statement]:
    """Listeners and rules carry their balancer's tags."""
    return [
        iam.Statement(
            sid="MakeListeners",
            actions=["elasticloadbalancing:CreateListener", "elasticloadbalancing:CreateRule"],
            resources=scope.balancing(*_BALANCERS, *_LISTENERS),
            conditions=scope.ours,
        ),
        iam.Statement(
            sid="TagListeners",
            actions=["elasticloadbalancing:AddTags", "elasticloadbalancing:RemoveTags"],
            resources=scope.balancing(*_LISTENERS, *_RULES),
            conditions={"StringEqualsIfExists": {f"aws:RequestTag/{TAG}": scope.cluster_name}},
        ),
        iam.Statement(
            sid="ChangeListeners",
            actions=[
                "elasticloadbalancing:AddListenerCertificates",
                "elasticloadbalancing:DeleteListener",
                "elasticloadbalancing:DeleteRule",
                "elasticloadbalancing:ModifyListener",
                "elasticloadbalancing:ModifyListenerAttributes",
                "elasticloadbalancing:ModifyRule",
                "elasticloadbalancing:RemoveListenerCertificates",
                "elasticloadbalancing:SetRulePriorities",
            ],
            resources=scope.balancing(*_LISTENERS, *_RULES),
            conditions=scope.ours,
        ),
    ]


def _extras(scope: Scope) -> list[iam.Statement]:
    """Only for what the settings ask for."""
    found: list[iam.Statement] = []
    if scope.certificate_arn is not None:
        found.append(
            iam.Statement(
                sid="ReadCertificate",
                actions=["acm:DescribeCertificate"],
                resources=[scope.certificate_arn],
            )
        )
    if scope.waf_acl_arn is not None:
        found += [
            iam.Statement(
                sid="UseFirewall",
                actions=[
                    "wafv2:AssociateWebACL",
                    "wafv2:DisassociateWebACL",
                    "wafv2:GetWebACL",
                    "wafv2:GetWebACLForResource",
                ],
                resources=[scope.waf_acl_arn, *scope.balancing("loadbalancer/app/*/*")],
            ),
            iam.Statement(
                sid="ProtectBalancers",
                actions=["elasticloadbalancing:SetWebAcl"],
                resources=["*"],  # no resource level
            ),
        ]
    return found
