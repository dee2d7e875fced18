"""In which order things come, and so, the other way round, in which order they go.

The whole order stands in `EDGES`; components ask an `Order` what they wait for and tell it what they made.
An edge that is missing here is missing in the stack: whoever destroys it then waits for finalizers whose
controller is gone, or for a VPC that a forgotten instance pins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi

ROUTES: Final = "routes"
CLUSTER: Final = "cluster"
DISCOVERY: Final = "discovery tag"
FARGATE: Final = "fargate"
FARGATE_LOGS: Final = "logs of pods on Fargate"
CORE_ADDONS: Final = "core add-ons"
CLUSTER_DNS: Final = "cluster DNS"
KARPENTER_RIGHTS: Final = "Karpenter's rights"
KARPENTER_CRDS: Final = "Karpenter's CRDs"
KARPENTER: Final = "Karpenter"
NODE_CLASSES: Final = "node classes"
NODE_POOLS: Final = "node pools"
NODE_ADDONS: Final = "add-ons on nodes"
BALANCER_RIGHTS: Final = "load balancer controller's rights"
BALANCER: Final = "load balancer controller"
ENTRANCE: Final = "ingress class"
WORKLOAD: Final = "workload"
MONITORING: Final = "Prometheus and Grafana"
RELEASES: Final = "release function"


@dataclass(frozen=True, kw_only=True)
class Edge:
    """`part` is made after `needs`, and gone before `needs` goes."""

    part: str
    needs: str
    why: str


EDGES: Final = (
    Edge(part=RELEASES, needs=ROUTES, why="its interfaces lie in the private subnets"),
    Edge(part=FARGATE, needs=CLUSTER, why="a cluster with a Fargate profile cannot be deleted"),
    Edge(part=FARGATE, needs=ROUTES, why="Karpenter's pods pull, and end machines, through them"),
    Edge(part=CORE_ADDONS, needs=CLUSTER, why="they are installed in it"),
    Edge(part=CLUSTER_DNS, needs=FARGATE, why="its pods run there"),
    Edge(part=KARPENTER_RIGHTS, needs=CLUSTER, why="they trust the cluster's identity provider"),
    Edge(part=KARPENTER_CRDS, needs=CLUSTER, why="they are objects in it"),
    Edge(part=KARPENTER_CRDS, needs=ROUTES, why="objects go while the cluster is whole and reachable"),
    Edge(part=KARPENTER, needs=KARPENTER_CRDS, why="deleting a CRD deletes every NodePool at once"),
    Edge(part=KARPENTER, needs=KARPENTER_RIGHTS, why="without them it can end no instance"),
    Edge(part=KARPENTER, needs=FARGATE, why="its pods run there"),
    Edge(
        part=KARPENTER,
        needs=FARGATE_LOGS,
        why="a pod's logs are sent if that is set up before it starts",
    ),
    Edge(part=NODE_CLASSES, needs=DISCOVERY, why="a class without a security group starts no machine"),
    Edge(part=NODE_CLASSES, needs=KARPENTER, why="their finalizers need it alive"),
    Edge(part=NODE_POOLS, needs=NODE_CLASSES, why="a class in use is not let go"),
    Edge(part=NODE_POOLS, needs=KARPENTER, why="their finalizers need it alive"),
    Edge(
        part=NODE_POOLS, needs=CORE_ADDONS, why="a node is ready only with its network, and drained with it"
    ),
    Edge(part=NODE_POOLS, needs=CLUSTER_DNS, why="what runs on nodes resolves names"),
    Edge(part=NODE_ADDONS, needs=NODE_POOLS, why="their pods run on nodes"),
    Edge(part=BALANCER_RIGHTS, needs=CORE_ADDONS, why="the Pod Identity agent hands them out"),
    Edge(part=BALANCER, needs=BALANCER_RIGHTS, why="without them it can delete no load balancer"),
    Edge(part=BALANCER, needs=NODE_POOLS, why="its pods run on nodes"),
    Edge(part=ENTRANCE, needs=BALANCER, why="its chart brings the CRD, and its webhook admits them"),
    Edge(part=WORKLOAD, needs=ENTRANCE, why="an Ingress goes only while its class is known"),
    Edge(part=WORKLOAD, needs=BALANCER, why="an Ingress's finalizer needs the controller alive"),
    Edge(part=MONITORING, needs=NODE_ADDONS, why="its volumes go only while their driver is there"),
    Edge(part=MONITORING, needs=NODE_POOLS, why="its pods and volumes hold nodes"),
    Edge(part=WORKLOAD, needs=NODE_POOLS, why="pods that cannot be moved would block the nodes' draining"),
)

GOES_WITH_CLUSTER: Final = frozenset(
    {
        "aws:eks/accessEntry:AccessEntry",
        "aws:eks/accessPolicyAssociation:AccessPolicyAssociation",
        "aws:eks/addon:Addon",
        "aws:eks/podIdentityAssociation:PodIdentityAssociation",
        "kubernetes:autoscaling/v2:HorizontalPodAutoscaler",
        "kubernetes:batch/v1:CronJob",
        "kubernetes:core/v1:ConfigMap",
        "kubernetes:core/v1:LimitRange",
        "kubernetes:core/v1:Namespace",
        "kubernetes:core/v1:ResourceQuota",
        "kubernetes:core/v1:Secret",
        "kubernetes:core/v1:Service",
        "kubernetes:core/v1:ServiceAccount",
        "kubernetes:elbv2.k8s.aws/v1beta1:IngressClassParams",
        "kubernetes:monitoring.coreos.com/v1:PrometheusRule",
        "kubernetes:monitoring.coreos.com/v1:ServiceMonitor",
        "kubernetes:networking.k8s.io/v1:IngressClass",
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
        "kubernetes:policy/v1:PodDisruptionBudget",
        "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole",
        "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
        "kubernetes:rbac.authorization.k8s.io/v1:Role",
        "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
        "kubernetes:secrets-store.csi.x-k8s.io/v1:SecretProviderClass",
        "kubernetes:storage.k8s.io/v1:StorageClass",
    }
)
"""What is gone with the cluster, and owns nothing outside it: a destroy does not delete it one by one.

Not here: what owns cloud resources (Ingress, load balancer Services, NodePools and their classes, volumes),
controllers, and Deployments, which would ask for new nodes while the old ones go.
"""


OWNS: Final = "trainserve/owns"
"""Annotation, or tag, of what goes by itself: the cluster would leave behind what it owns."""


class Order:
    """Knows what each part is made of, and so what the next part waits for.

    Made before the platform is: what it does to resources holds for those whose parents come after it.
    """

    def __init__(self, edges: Sequence[Edge] = EDGES) -> None:
        self._edges = edges
        self._made: dict[str, list[pulumi.Resource]] = {}
        self._cluster: pulumi.Resource | None = None
        self._all: list[pulumi.Input[pulumi.Resource]] = []
        pulumi.runtime.register_stack_transformation(self._see)

    def take_along(self, cluster: pulumi.Resource, inner: pulumi.Output[Any]) -> None:
        """From now on, what goes with the cluster is not deleted by itself when the cluster is.

        The cluster is a component made elsewhere: `inner` is what in it is the cluster itself.
        """
        self._cluster = cluster
        self._all += [cluster, inner]

    def everything(self) -> list[pulumi.Input[pulumi.Resource]]:
        """All that has been made so far: what depends on it comes last, and goes first."""
        return list(self._all)

    def _see(self, args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        if isinstance(args.resource, pulumi.CustomResource):
            self._all.append(args.resource)
        if self._cluster is None or not goes_with(args.type_, args.props):
            return None
        opts = pulumi.ResourceOptions.merge(args.opts, pulumi.ResourceOptions(deleted_with=self._cluster))
        return pulumi.ResourceTransformationResult(props=args.props, opts=opts)

    def made(self, part: str, resources: Sequence[pulumi.Resource]) -> None:
        """Records what a part consists of."""
        self._made.setdefault(part, []).extend(resources)

    def before(self, part: str) -> list[pulumi.Resource]:
        """Everything that `part` waits for; its needs must have been made."""
        found: list[pulumi.Resource] = []
        for edge in self._edges:
            if edge.part == part:
                if edge.needs not in self._made:
                    raise ValueError(f"{part} is made before {edge.needs}, but {edge.why}")
                found += self._made[edge.needs]
        return found


def goes_with(type_: str, props: Mapping[str, Any]) -> bool:
    """Whether the cluster takes an object of this type, with these properties, along when it goes."""
    marks = (props.get("metadata") or {}).get("annotations"), props.get("tags")
    if any(OWNS in (found or {}) for found in marks):
        return False
    if type_ == "kubernetes:core/v1:Service":
        spec = props.get("spec")
        return isinstance(spec, Mapping) and spec.get("type") != "LoadBalancer"
    return type_ in GOES_WITH_CLUSTER
