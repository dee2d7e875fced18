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
        after: Sequence[pulumi.Resource] = (),
    ) -> aws.eks.Addon:
        """One add-on; `identity` is its service account and the role that it takes by Pod Identity."""
        return aws.eks.Addon(
            f"{name}-{label}",
            cluster_name=self.cluster_name,
            addon_name=label,
            addon_version=versions.addon(label, self.kubernetes),
            configuration_values=json.dumps(values, sort_keys=True) if values else None,
            pod_identity_associations=[{"service_account": identity[0], "role_arn": identity[1].arn}]
            if identity
            else None,
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
        ebs = addons.install(
            self,
            name,
            "aws-ebs-csi-driver",
            part,
            identity=("ebs-csi-controller-sa", volumes),
            after=volume_rights,
        )
        watcher, watch_rights = self._role(
            "watcher", ["CloudWatchAgentServerPolicy", "AWSXrayWriteOnlyAccess"]
        )
        cloudwatch = addons.install(
            self,
            name,
            "amazon-cloudwatch-observability",
            part,
            identity=("cloudwatch-agent", watcher),
            after=watch_rights,
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
