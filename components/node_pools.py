"""Machines on demand: Karpenter, what it may start, and what it hears of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components import iam, karpenter_iam, names, pools, teardown, versions
from components import infra_settings as s
from components.base import PlatformComponent

_MANAGED: Final = "arn:aws:iam::aws:policy/"
_NODE_POLICIES: Final = {
    "worker": "AmazonEKSWorkerNodePolicy",
    "network": "AmazonEKS_CNI_Policy",
    "images": "AmazonEC2ContainerRegistryPullOnly",
    "sessions": "AmazonSSMManagedInstanceCore",
}
_CHARTS: Final = "oci://public.ecr.aws/karpenter/"
_INTERRUPTIONS_S: Final = 300
INTERRUPTIONS: Final[dict[str, tuple[str, str]]] = {
    "health": ("aws.health", "AWS Health Event"),
    "spot": ("aws.ec2", "EC2 Spot Instance Interruption Warning"),
    "rebalance": ("aws.ec2", "EC2 Instance Rebalance Recommendation"),
    "state": ("aws.ec2", "EC2 Instance State-change Notification"),
    "reservation": ("aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning"),
}
"""Label to source and kind of the events by which a node's end is announced.

They name no cluster: Karpenter ignores instances that are not its own.
"""


@dataclass(frozen=True, kw_only=True)
class NodePoolsArgs:
    """What a caller decides, and the cluster that the nodes join."""

    settings: s.NodePools
    cluster_name: str
    region: str
    account_id: pulumi.Input[str]
    oidc_provider_arn: pulumi.Input[str]
    oidc_issuer: pulumi.Input[str]
    tags: Mapping[str, str]
    order: teardown.Order


class NodePools(PlatformComponent):
    """Karpenter on Fargate with its rights and its queue, a NodeClass per kind of machine, and the pools."""

    TYPE = "trainserve:node_pools:NodePools"
    node_role_arn: pulumi.Output[str]
    interruption_queue: pulumi.Output[str]

    def __init__(self, name: str, args: NodePoolsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        queue, heard = self._interruptions()
        node_role, profile, joined = self._node_role()
        controller, allowed = self._controller_role(node_role, profile, queue)
        args.order.made(teardown.KARPENTER_RIGHTS, [queue, *heard, profile, *joined, controller, *allowed])
        self._charts(controller, queue)
        self._pools(profile)
        self.node_role_arn, self.interruption_queue = node_role.arn, queue.name
        self.finish("node_role_arn", "interruption_queue")

    def _interruptions(self) -> tuple[aws.sqs.Queue, list[pulumi.Resource]]:
        """The queue in which the end of nodes is announced; what is five minutes old is no news."""
        queue = aws.sqs.Queue(
            f"{self._name}-interruptions",
            message_retention_seconds=_INTERRUPTIONS_S,
            sqs_managed_sse_enabled=True,
            opts=self.child(),
        )
        rules = {
            label: aws.cloudwatch.EventRule(
                f"{self._name}-{label}",
                description=f"{kind}, for Karpenter",
                event_pattern=json.dumps({"source": [source], "detail-type": [kind]}, sort_keys=True),
                opts=self.child(),
            )
            for label, (source, kind) in INTERRUPTIONS.items()
        }
        policy = aws.sqs.QueuePolicy(
            f"{self._name}-interruptions",
            queue_url=queue.url,
            policy=iam.rules_may_send(queue.arn, [rule.arn for rule in rules.values()]),
            opts=self.child(),
        )
        targets = [
            aws.cloudwatch.EventTarget(
                f"{self._name}-{label}", rule=rule.name, arn=queue.arn, opts=self.child(depends_on=[policy])
            )
            for label, rule in rules.items()
        ]
        return queue, [policy, *targets]

    def _node_role(self) -> tuple[aws.iam.Role, aws.iam.InstanceProfile, list[pulumi.Resource]]:
        """What a node may do, and its place in the cluster."""
        role = aws.iam.Role(
            f"{self._name}-node", assume_role_policy=iam.assume_role("ec2"), opts=self.child()
        )
        attached: list[pulumi.Resource] = [
            aws.iam.RolePolicyAttachment(
                f"{self._name}-node-{label}",
                role=role.name,
                policy_arn=_MANAGED + policy,
                opts=self.child(),
            )
            for label, policy in _NODE_POLICIES.items()
        ]
        # Ours and not Karpenter's: a profile that Karpenter makes can outlive it (karpenter #9185).
        profile = aws.iam.InstanceProfile(f"{self._name}-node", role=role.name, opts=self.child())
        entry = aws.eks.AccessEntry(
            f"{self._name}-node",
            cluster_name=self._args.cluster_name,
            principal_arn=role.arn,
            type="EC2_LINUX",
            opts=self.child(depends_on=self._args.order.before(teardown.KARPENTER_RIGHTS)),
        )
        return role, profile, [*attached, entry]

    def _controller_role(
        self, node_role: aws.iam.Role, profile: aws.iam.InstanceProfile, queue: aws.sqs.Queue
    ) -> tuple[aws.iam.Role, list[pulumi.Resource]]:
        """By service account (IRSA): on Fargate there is no Pod Identity."""
        args = self._args
        role = aws.iam.Role(
            f"{self._name}-karpenter",
            assume_role_policy=iam.assume_by_service_account(
                args.oidc_provider_arn, args.oidc_issuer, names.KUBE_SYSTEM, names.KARPENTER
            ),
            opts=self.child(),
        )
        scope = karpenter_iam.Scope(
            cluster_name=args.cluster_name,
            region=args.region,
            account_id=args.account_id,
            node_role_arn=node_role.arn,
            instance_profile_arn=profile.arn,
            queue_arn=queue.arn,
        )
        policies: list[pulumi.Resource] = [
            aws.iam.RolePolicy(
                f"{self._name}-karpenter-{label}",
                role=role.id,
                policy=iam.document(*statements),
                opts=self.child(),
            )
            for label, statements in karpenter_iam.policies(scope).items()
        ]
        return role, policies

    def _charts(self, controller: aws.iam.Role, queue: aws.sqs.Queue) -> None:
        order = self._args.order
        crds = self._release("karpenter-crd", {}, teardown.KARPENTER_CRDS)
        order.made(teardown.KARPENTER_CRDS, [crds])
        values = karpenter_values(self._args.cluster_name, queue.name, controller.arn)
        karpenter = self._release("karpenter", values, teardown.KARPENTER)
        order.made(teardown.KARPENTER, [karpenter])

    def _release(self, chart: str, values: Mapping[str, Any], part: str) -> k8s.helm.v3.Release:
        return k8s.helm.v3.Release(
            f"{self._name}-{chart}",
            name=chart,
            chart=_CHARTS + chart,
            version=versions.KARPENTER,
            namespace=names.KUBE_SYSTEM,
            # The CRDs are a chart of their own, so that an upgrade brings them along.
            skip_crds=True,
            values=values,
            timeout=900,
            opts=self.child(depends_on=self._args.order.before(part)),
        )

    def _pools(self, profile: aws.iam.InstanceProfile) -> None:
        args, settings = self._args, self._args.settings
        machine = pools.Machine(
            cluster_name=args.cluster_name,
            instance_profile=profile.name,
            volume_gb=settings.volume_gb,
            tags=args.tags,
        )
        classes = {"standard": pools.node_class(machine, versions.NODE_IMAGE)}
        for label, gpu in settings.gpu.items():
            classes[label] = pools.node_class(machine, versions.GPU_NODE_IMAGE, pools.gpu_user_data(gpu))
        made = [
            self._object(pools.CLASS_API, "EC2NodeClass", label, spec, teardown.NODE_CLASSES)
            for label, spec in classes.items()
        ]
        args.order.made(teardown.NODE_CLASSES, made)
        args.order.made(
            teardown.NODE_POOLS,
            [
                self._object(pools.POOL_API, "NodePool", label, spec, teardown.NODE_POOLS)
                for label, spec in pools.node_pools(settings).items()
            ],
        )

    def _object(self, api: str, kind: str, label: str, spec: Mapping[str, Any], part: str) -> pulumi.Resource:
        return k8s.apiextensions.CustomResource(
            f"{self._name}-{label}",
            api_version=api,
            kind=kind,
            metadata={"name": label},
            spec=spec,
            # It is gone when its machines are: that is what the timeout is for.
            opts=self.child(
                depends_on=self._args.order.before(part),
                custom_timeouts=pulumi.CustomTimeouts(delete="45m"),
            ),
        )


def karpenter_values(
    cluster_name: str, queue_name: pulumi.Input[str], role_arn: pulumi.Input[str]
) -> dict[str, Any]:
    """The chart's values: two replicas on Fargate, which need no CoreDNS to start."""
    size = {"cpu": "1", "memory": "1Gi"}
    return {
        "replicas": 2,
        "dnsPolicy": "Default",
        "serviceAccount": {
            "name": names.KARPENTER,
            "annotations": {"eks.amazonaws.com/role-arn": role_arn},
        },
        "settings": {"clusterName": cluster_name, "interruptionQueue": queue_name},
        "controller": {"resources": {"requests": size, "limits": size}},
    }
