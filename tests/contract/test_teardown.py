"""The order in which things go: every edge of the table is in the program, and the program needs each."""

import json
from collections.abc import Callable, Iterator

import pytest

from components import teardown
from components.teardown import EDGES, GOES_WITH_CLUSTER, Edge, Order, goes_with
from tests.contract.recorder import Program, Registered, run, stack_config

Run = Callable[[str], Program]
STACKS = ["dev", "prod"]
DESCRIPTION = ("aws:s3/bucketObjectv2:BucketObjectv2", "trainserve-environment")
EKS = "eks:index:Cluster"
PARTS: dict[str, tuple[str, ...]] = {
    # Part → what it consists of, as `type` or `type::name`, told independently of the program.
    teardown.ROUTES: (
        "aws:ec2/internetGateway:InternetGateway",
        "aws:ec2/natGateway:NatGateway",
        "aws:ec2/route:Route",
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "aws:ec2/vpcEndpoint:VpcEndpoint::trainserve-network-s3",
    ),
    teardown.CLUSTER: (EKS,),
    teardown.DISCOVERY: ("aws:ec2/tag:Tag",),
    teardown.FARGATE: (
        "aws:eks/fargateProfile:FargateProfile",
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment::trainserve-cluster-fargate",
    ),
    teardown.FARGATE_LOGS: (
        "aws:iam/rolePolicy:RolePolicy::trainserve-fargate-logs-write",
        "kubernetes:core/v1:ConfigMap::trainserve-fargate-logs-router",
    ),
    teardown.CORE_ADDONS: (
        "aws:eks/addon:Addon::trainserve-cluster-vpc-cni",
        "aws:eks/addon:Addon::trainserve-cluster-kube-proxy",
        "aws:eks/addon:Addon::trainserve-cluster-eks-pod-identity-agent",
    ),
    teardown.CLUSTER_DNS: ("aws:eks/addon:Addon::trainserve-cluster-coredns",),
    teardown.KARPENTER_RIGHTS: (
        "aws:sqs/queue:Queue::trainserve-nodes-interruptions",
        "aws:sqs/queuePolicy:QueuePolicy::trainserve-nodes-interruptions",
        "aws:cloudwatch/eventTarget:EventTarget::trainserve-nodes-spot",
        "aws:iam/instanceProfile:InstanceProfile",
        "aws:iam/role:Role::trainserve-nodes-karpenter",
        "aws:iam/rolePolicy:RolePolicy::trainserve-nodes-karpenter-node-lifecycle",
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment::trainserve-nodes-node-worker",
        "aws:eks/accessEntry:AccessEntry::trainserve-nodes-node",
    ),
    teardown.KARPENTER_CRDS: ("kubernetes:helm.sh/v3:Release::trainserve-nodes-karpenter-crd",),
    teardown.KARPENTER: ("kubernetes:helm.sh/v3:Release::trainserve-nodes-karpenter",),
    teardown.NODE_CLASSES: ("kubernetes:karpenter.k8s.aws/v1:EC2NodeClass",),
    teardown.NODE_POOLS: ("kubernetes:karpenter.sh/v1:NodePool",),
    teardown.NODE_ADDONS: (
        "aws:eks/addon:Addon::trainserve-addons-metrics-server",
        "aws:eks/addon:Addon::trainserve-addons-aws-ebs-csi-driver",
        "aws:eks/addon:Addon::trainserve-addons-amazon-cloudwatch-observability",
    ),
    teardown.BALANCER_RIGHTS: (
        "aws:iam/rolePolicy:RolePolicy::trainserve-balancer-controller",
        "aws:eks/podIdentityAssociation:PodIdentityAssociation::trainserve-balancer-controller",
    ),
    teardown.BALANCER: ("kubernetes:helm.sh/v3:Release::trainserve-balancer-controller",),
    teardown.ENTRANCE: (
        "kubernetes:elbv2.k8s.aws/v1beta1:IngressClassParams",
        "kubernetes:networking.k8s.io/v1:IngressClass",
    ),
    teardown.MONITORING: (
        "kubernetes:core/v1:Namespace::trainserve-prometheus-namespace",
        "kubernetes:helm.sh/v3:Release::trainserve-prometheus-chart",
    ),
    teardown.WORKLOAD: ("kubernetes:networking.k8s.io/v1:Ingress", "kubernetes:apps/v1:Deployment"),
    teardown.RELEASES: ("aws:lambda/function:Function::trainserve-releases-release-model-function",),
}
# What of a part asks for the wait; the rest of it is what others wait for.
WAITING: dict[str, tuple[str, ...]] = {
    teardown.FARGATE: ("aws:eks/fargateProfile:FargateProfile",),
    teardown.KARPENTER_RIGHTS: ("aws:eks/accessEntry:AccessEntry::trainserve-nodes-node",),
    teardown.BALANCER_RIGHTS: (
        "aws:eks/podIdentityAssociation:PodIdentityAssociation::trainserve-balancer-controller",
    ),
    teardown.ENTRANCE: ("kubernetes:elbv2.k8s.aws/v1beta1:IngressClassParams",),
}


def consisting(program: Program, part: tuple[str, ...]) -> list[Registered]:
    found: list[Registered] = []
    for entry in part:
        kind, _, name = entry.partition("::")
        chosen = [r for r in program.of(kind) if not name or r.name == name]
        assert chosen, f"{program.stack} has no {entry}"
        found += chosen
    return found


def reached(program: Program, start: Registered) -> set[str]:
    """Everything that goes only after `start` has gone, by any chain of dependencies."""
    known = program.by_urn()
    seen: set[str] = set()
    waiting = list(start.dependencies)
    while waiting:
        urn = waiting.pop()
        if urn not in seen:
            seen.add(urn)
            waiting += known[urn].dependencies if urn in known else ()
    return seen


def missing(program: Program, edge: Edge) -> Iterator[str]:
    """Where an edge of the table is not in the graph."""
    needed = consisting(program, PARTS[edge.needs])
    for resource in consisting(program, WAITING.get(edge.part, PARTS[edge.part])):
        behind = reached(program, resource)
        for other in needed:
            if other.urn not in behind:
                yield f"{resource.type}::{resource.name} does not wait for {other.type}::{other.name}"


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: f"{edge.part}-after-{edge.needs}".replace(" ", "-"))
def test_every_edge_of_the_table_is_in_the_program(up: Run, stack: str, edge: Edge) -> None:
    assert list(missing(up(stack), edge)) == []


# Edges without which nothing else keeps the order: a chain through other edges would hide their loss.
ESSENTIAL = [
    (teardown.RELEASES, teardown.ROUTES),
    (teardown.FARGATE, teardown.ROUTES),
    (teardown.KARPENTER_CRDS, teardown.ROUTES),
    (teardown.CLUSTER_DNS, teardown.FARGATE),
    (teardown.KARPENTER, teardown.KARPENTER_CRDS),
    (teardown.KARPENTER, teardown.KARPENTER_RIGHTS),
    (teardown.KARPENTER, teardown.FARGATE),
    (teardown.KARPENTER, teardown.FARGATE_LOGS),
    (teardown.NODE_CLASSES, teardown.DISCOVERY),
    (teardown.NODE_CLASSES, teardown.KARPENTER),
    (teardown.NODE_POOLS, teardown.NODE_CLASSES),
    (teardown.NODE_POOLS, teardown.CORE_ADDONS),
    (teardown.NODE_ADDONS, teardown.NODE_POOLS),
    (teardown.BALANCER, teardown.BALANCER_RIGHTS),
    (teardown.BALANCER, teardown.NODE_POOLS),
    (teardown.ENTRANCE, teardown.BALANCER),
    (teardown.WORKLOAD, teardown.ENTRANCE),
    (teardown.MONITORING, teardown.NODE_ADDONS),
]


def test_what_goes_before_what_is_known_for_every_part() -> None:
    assert {edge.part for edge in EDGES} | {edge.needs for edge in EDGES} == PARTS.keys()
    assert {(edge.part, edge.needs) for edge in EDGES} >= set(ESSENTIAL)
    assert all(edge.why for edge in EDGES)


@pytest.mark.parametrize(("part", "needs"), ESSENTIAL)
def test_a_dropped_edge_is_noticed(monkeypatch: pytest.MonkeyPatch, part: str, needs: str) -> None:
    dropped = {(part, needs)}
    if part == teardown.KARPENTER and needs == teardown.FARGATE:
        dropped.add((teardown.CLUSTER_DNS, needs))
    kept = tuple(edge for edge in EDGES if (edge.part, edge.needs) not in dropped)
    # Longer ways round (workload → balancer) go with what they lead through, or the loss would not show.
    if (part, needs) == (teardown.WORKLOAD, teardown.ENTRANCE):
        kept = tuple(edge for edge in kept if edge.part != teardown.WORKLOAD)
    monkeypatch.setattr(Order.__init__, "__defaults__", (kept,))
    program = run("dev", like="dev")
    assert list(missing(program, Edge(part=part, needs=needs, why="")))


@pytest.mark.parametrize("stack", STACKS)
def test_what_owns_cloud_resources_is_deleted_by_itself(up: Run, stack: str) -> None:
    owning = {
        "aws:eks/fargateProfile:FargateProfile",
        "kubernetes:apps/v1:Deployment",
        "kubernetes:helm.sh/v3:Release",
        "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass",
        "kubernetes:karpenter.sh/v1:NodePool",
        "kubernetes:networking.k8s.io/v1:Ingress",
    }
    program = up(stack)
    for kind in owning:
        assert [r.deleted_with for r in program.of(kind)] == [""] * len(program.of(kind))
        assert program.of(kind), kind
    assert not owning & GOES_WITH_CLUSTER


@pytest.mark.parametrize("stack", STACKS)
def test_what_the_cluster_takes_along_is_left_to_it(up: Run, stack: str) -> None:
    program = up(stack)
    (cluster,) = program.of(EKS)
    left = [r for r in program.resources if goes_with(r.type, r.inputs)]
    assert {r.deleted_with for r in left} == {cluster.urn}
    assert len(left) > 15
    assert [r.urn for r in program.resources if r.deleted_with and r not in left] == []


@pytest.mark.parametrize("stack", STACKS)
def test_every_object_in_the_cluster_is_decided_about(up: Run, stack: str) -> None:
    deleted = {
        "kubernetes:apps/v1:Deployment",
        "kubernetes:helm.sh/v3:Release",
        "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass",
        "kubernetes:karpenter.sh/v1:NodePool",
        "kubernetes:networking.k8s.io/v1:Ingress",
    }
    kinds = {r.type for r in up(stack).resources if r.type.startswith("kubernetes:")}
    assert kinds - GOES_WITH_CLUSTER - deleted == set()


@pytest.mark.parametrize("stack", STACKS)
def test_prometheus_volumes_do_not_outlive_the_cluster(up: Run, stack: str) -> None:
    namespace = up(stack).one("kubernetes:core/v1:Namespace", "trainserve-prometheus-namespace")
    assert namespace.deleted_with == ""


@pytest.mark.parametrize("stack", STACKS)
def test_log_groups_are_there_before_container_insights_and_after_it(up: Run, stack: str) -> None:
    program = up(stack)
    addon = program.one("aws:eks/addon:Addon", "trainserve-addons-amazon-cloudwatch-observability")
    cluster = f"/aws/containerinsights/trainserve-{stack}/"
    groups = {
        r.inputs["name"].removeprefix(cluster): r
        for r in program.of("aws:cloudwatch/logGroup:LogGroup")
        if str(r.inputs.get("name")).startswith(cluster)
    }
    assert groups.keys() == {"application", "dataplane", "host", "performance"}
    assert {r.urn for r in groups.values()} <= addon.dependencies
    assert all(r.inputs["retentionInDays"] and r.inputs["kmsKeyId"] for r in groups.values())
    # Its agents must be gone before the groups are, or they would make them anew.
    assert addon.deleted_with == ""


def test_a_peering_goes_after_everything_that_is_taken_down_through_it() -> None:
    config = stack_config("dev")["trainserve:network"]
    peering = {"peerVpcId": "vpc-0a1b2c3d4e5f60718", "peerCidr": "10.99.0.0/16"}
    program = run("dev", like="dev", changes={"trainserve:network": {**config, "peering": peering}})
    (connection,) = program.of("aws:ec2/vpcPeeringConnection:VpcPeeringConnection")
    routes = [r for r in program.of("aws:ec2/route:Route") if "vpcPeeringConnectionId" in r.inputs]
    # Nodes and load balancers, and the intra subnets, where the cluster's API answers.
    tables = {r.inputs["routeTableId"].removeprefix("trainserve-network-") for r in routes}
    assert tables == {"private-a-id", "private-b-id", "intra-id"}
    (way_in,) = [
        r
        for r in program.of("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
        if r.inputs.get("cidrIpv4") == peering["peerCidr"]
    ]
    assert (way_in.inputs["fromPort"], way_in.inputs["securityGroupId"]) == (443, "sg-cluster")
    for part in (teardown.KARPENTER_CRDS, teardown.KARPENTER, teardown.WORKLOAD):
        for resource in consisting(program, PARTS[part]):
            behind = reached(program, resource)
            assert {connection.urn, *(r.urn for r in routes)} <= behind, resource.name
    (provider,) = program.of("pulumi:providers:kubernetes")
    assert way_in.urn in reached(program, provider)


def test_a_load_balancer_service_is_deleted_by_itself() -> None:
    workload = {"grpcPort": 9000}
    program = run("dev", like="dev", changes={"trainserve:workload": workload})
    (service,) = [
        r for r in program.of("kubernetes:core/v1:Service") if r.inputs["spec"].get("type") == "LoadBalancer"
    ]
    assert service.deleted_with == ""
    (controller,) = consisting(program, PARTS[teardown.BALANCER])
    assert controller.urn in reached(program, service)


@pytest.mark.parametrize("stack", STACKS)
def test_the_release_functions_interfaces_go_before_what_they_lie_in(up: Run, stack: str) -> None:
    program = up(stack)
    (function,) = consisting(program, PARTS[teardown.RELEASES])
    behind = reached(program, function)
    for kind in ("aws:ec2/subnet:Subnet", "aws:ec2/natGateway:NatGateway"):
        needed = {r.urn for r in program.of(kind) if "public" not in r.name and "intra" not in r.name}
        assert needed <= behind, kind
    group = program.one("aws:ec2/securityGroup:SecurityGroup", "trainserve-releases-function")
    rights = program.one("aws:iam/rolePolicy:RolePolicy", "trainserve-releases-release-model-policy")
    assert {group.urn, rights.urn} <= behind
    (way_in,) = [
        r
        for r in program.of("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
        if r.name == "trainserve-cluster-from-release"
    ]
    assert group.urn in way_in.dependencies


@pytest.mark.parametrize("stack", STACKS)
def test_the_control_plane_does_not_wait_for_nat(up: Run, stack: str) -> None:
    program = up(stack)
    (cluster,) = program.of(EKS)
    assert not {r.urn for r in consisting(program, PARTS[teardown.ROUTES])} & reached(program, cluster)


def test_prod_keeps_what_holds_state(up: Run) -> None:
    kept = {r.type for r in up("prod").resources if r.retain}
    assert kept == {
        "aws:dynamodb/table:Table",
        "aws:ecr/repository:Repository",
        "aws:kms/key:Key",
        "aws:s3/bucket:Bucket",
        "aws:sagemaker/modelPackageGroup:ModelPackageGroup",
        EKS,
    }
    assert {r.type for r in up("prod").resources if r.protect} == {*kept, DESCRIPTION[0]}
    # Objects of the first data set outlive the setting that named them; dev's bucket goes with its contents.
    assert {r.type for r in up("dev").resources if r.retain} == {"aws:s3/bucketObjectv2:BucketObjectv2"}


@pytest.mark.parametrize("stack", STACKS)
def test_a_destroy_begins_with_one_thing_which_production_protects(up: Run, stack: str) -> None:
    """The engine deletes in groups, and stops after a group in which something is protected."""
    program = up(stack)
    described = program.one(*DESCRIPTION)
    assert described.protect == (stack == "prod")
    behind = reached(program, described)
    first = [r for r in program.resources if r.urn not in behind and (r.custom or r.remote)]
    assert [r.name for r in first] == [described.name]
    assert json.loads(described.inputs["content"])["clusterName"] == f"trainserve-{stack}"


def test_a_part_cannot_come_before_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: object) -> None:
        return

    monkeypatch.setattr("pulumi.runtime.register_stack_transformation", nothing)
    with pytest.raises(ValueError, match="Karpenter is made before Karpenter's CRDs, but"):
        Order().before(teardown.KARPENTER)
