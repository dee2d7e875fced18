"""EKS add-ons at their pinned versions, and those that need nodes to run on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from components import iam, teardown, versions
from components.base import PlatformComponent

_MANAGED: Final = "arn:aws:iam::aws:policy/"


@dataclass(frozen=True, kw_only=True)
class Addons:
    """Installs add-ons into one cluster."""

    cluster_name: str
    kubernetes: str
    order: teardown.Order

    def install(  # noqa: PLR0913  # what add-ons differ in
        self,
        parent: PlatformComponent,
        name: str,
        label: str,
        part: str,
        *,
        values: Mapping[str, Any] | None = None,
        identity: tuple[str, aws.iam.Role] | None = None,
        owns: str | None = None,
        after: Sequence[pulumi.Resource] = (),
    ) -> aws.eks.Addon:
        """One add-on; `identity` is its service account and the role that it takes by Pod Identity.

        One that `owns` something outside the cluster is deleted by itself, before the cluster is.
        """
        return aws.eks.Addon(
            f"{name}-{label}",
            cluster_name=self.cluster_name,
            addon_name=label,
            addon_version=versions.addon(label, self.kubernetes),
            configuration_values=json.dumps(values, sort_keys=True) if values else None,
            pod_identity_associations=[{"service_account": identity[0], "role_arn": identity[1].arn}]
            if identity
            else None,
            tags={teardown.OWNS: owns} if owns else None,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            opts=parent.child(depends_on=[*after, *self.order.before(part)]),
        )


@dataclass(frozen=True, kw_only=True)
class NodeAddonsArgs:
    """The cluster, and whose pods may take the add-ons' roles."""

    cluster_name: str
    cluster_arn: pulumi.Input[str]
    account_id: pulumi.Input[str]
    kubernetes: str
    key_arn: pulumi.Input[str]
    """What volumes are encrypted with."""

    log_groups: Sequence[pulumi.Resource]
    """Those that Container Insights writes to: there before it, or it makes them itself."""

    order: teardown.Order


class NodeAddons(PlatformComponent):
    """Add-ons that EKS would call degraded without nodes: they come after the NodePools."""

    TYPE = "trainserve:addons:NodeAddons"

    def __init__(self, name: str, args: NodeAddonsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        addons = Addons(cluster_name=args.cluster_name, kubernetes=args.kubernetes, order=args.order)
        part = teardown.NODE_ADDONS
        metrics = addons.install(self, name, "metrics-server", part, values={"replicas": 2})
        volumes, volume_rights = self._role("volumes", ["service-role/AmazonEBSCSIDriverPolicy"])
        encrypts = aws.iam.RolePolicy(
            f"{name}-volumes-key",
            role=volumes.id,
            policy=iam.document(*volume_key_statements(args.key_arn)),
            opts=self.child(),
        )
        ebs = addons.install(
            self,
            name,
            "aws-ebs-csi-driver",
            part,
            identity=("ebs-csi-controller-sa", volumes),
            after=[*volume_rights, encrypts],
        )
        watcher, watch_rights = self._role(
            "watcher", ["CloudWatchAgentServerPolicy", "AWSXrayWriteOnlyAccess"]
        )
        cloudwatch = addons.install(
            self,
            name,
            "amazon-cloudwatch-observability",
            part,
            values=watcher_values(),
            identity=("cloudwatch-agent", watcher),
            # Left to the cluster, its agents would write on, and make anew log groups that are gone.
            owns="log groups",
            after=[*watch_rights, *args.log_groups],
        )
        args.order.made(part, [metrics, ebs, cloudwatch])
        self.finish()

    def _role(self, label: str, policies: Sequence[str]) -> tuple[aws.iam.Role, list[pulumi.Resource]]:
        args = self._args
        role = aws.iam.Role(
            f"{self._name}-{label}",
            assume_role_policy=iam.assume_by_pods(args.account_id, args.cluster_arn),
            opts=self.child(),
        )
        attached: list[pulumi.Resource] = [
            aws.iam.RolePolicyAttachment(
                f"{self._name}-{label}-{index}",
                role=role.name,
                policy_arn=_MANAGED + policy,
                opts=self.child(),
            )
            for index, policy in enumerate(policies)
        ]
        return role, attached


def watcher_values() -> dict[str, Any]:
    """Container Insights and a way in for traces, but no hand in anybody's pods.

    By default the add-on injects its own tracer into every Service's Python processes, by an init container
    that Pod Security "restricted" refuses.
    """
    return {"manager": {"applicationSignals": {"autoMonitor": {"monitorAllServices": False}}}}


def volume_key_statements(key_arn: pulumi.Input[str]) -> list[iam.Statement]:
    """Volumes encrypted with a key of ours: AWS's own policy of the driver knows no key."""
    return [
        iam.use_key("UseKey", key_arn),
        iam.Statement(
            sid="MakeVolumes", actions=["kms:GenerateDataKeyWithoutPlaintext"], resources=[key_arn]
        ),
        iam.Statement(
            sid="LendKeyToEc2",
            actions=["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"],
            resources=[key_arn],
            conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
        ),
    ]
