"""The EKS cluster: API authentication, a private endpoint, encrypted secrets, and what every node needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks
import pulumi_kubernetes as k8s

from components import addresses, iam, names, teardown
from components.addons import Addons
from components.base import PlatformComponent

_POLICIES: Final = "arn:aws:eks::aws:cluster-access-policy/"
_ADMIN: Final = f"{_POLICIES}AmazonEKSClusterAdminPolicy"
_VIEW: Final = f"{_POLICIES}AmazonEKSViewPolicy"
_FARGATE_EXECUTION: Final = "arn:aws:iam::aws:policy/AmazonEKSFargatePodExecutionRolePolicy"


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """What a caller decides, where the cluster lies, and who comes in."""

    cluster_name: str
    version: str
    account_id: pulumi.Input[str]
    region: str
    vpc_id: pulumi.Input[str]
    vpc_cidr: str
    intra_subnet_ids: Sequence[pulumi.Input[str]]
    private_subnet_ids: Sequence[pulumi.Input[str]]
    public_access_cidrs: Sequence[str]
    private_access_cidrs: Sequence[str]
    """Networks that reach the private endpoint beside the cluster's own members."""

    log_types: Sequence[str]
    log_retention_days: int
    admins: Sequence[str]
    developers: Sequence[str]
    developer_namespaces: Sequence[str]
    key_arn: pulumi.Input[str]
    fargate_namespaces: Sequence[str]
    release_role_arn: pulumi.Input[str]
    release_security_group_id: pulumi.Input[str]
    protect: bool
    order: teardown.Order


class Cluster(PlatformComponent):
    """The cluster, its provider for Kubernetes objects, and who may come in."""

    TYPE = "trainserve:cluster:Cluster"
    cluster_name: str
    arn: pulumi.Output[str]
    oidc_provider_arn: pulumi.Output[str]
    oidc_issuer: pulumi.Output[str]
    security_group_id: pulumi.Output[str]
    provider: k8s.Provider
    fargate_role_id: pulumi.Output[str]
    release_access: list[pulumi.Resource]

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        cluster = self._cluster()
        self.cluster_name = args.cluster_name
        self.arn = pulumi.Output.concat(
            f"arn:aws:eks:{args.region}:", args.account_id, f":cluster/{args.cluster_name}"
        )
        self.oidc_provider_arn, self.oidc_issuer = cluster.oidc_provider_arn, cluster.oidc_issuer
        self.security_group_id = cluster.cluster_security_group_id
        discovery = aws.ec2.Tag(
            f"{name}-discovery",
            resource_id=cluster.cluster_security_group_id,
            key=names.DISCOVERY,
            value=args.cluster_name,
            opts=self.child(),
        )
        args.order.made(teardown.CLUSTER, [cluster])
        args.order.made(teardown.DISCOVERY, [discovery])
        args.order.take_along(cluster, cluster.eks_cluster)
        self._people(cluster)
        self.release_access = self._release_access(cluster)
        self._fargate()
        self._core_addons()
        ways_in = self._private_access(cluster)
        self.provider = k8s.Provider(
            f"{name}-objects",
            kubeconfig=cluster.kubeconfig_json,
            enable_server_side_apply=True,
            opts=self.child(depends_on=[cluster, *ways_in]),
        )
        self.finish("cluster_name", "arn", "security_group_id")

    def _cluster(self) -> eks.Cluster:
        args = self._args
        # EKS would make this group itself, unencrypted and kept for ever.
        logs = aws.cloudwatch.LogGroup(
            f"{self._name}-logs",
            name=f"/aws/eks/{args.cluster_name}/cluster",
            retention_in_days=args.log_retention_days,
            kms_key_id=args.key_arn,
            opts=self.child(),
        )
        return eks.Cluster(
            f"{self._name}-eks",
            name=args.cluster_name,
            version=args.version,
            upgrade_policy={"support_type": "STANDARD"},
            authentication_mode=eks.AuthenticationMode.API,
            vpc_id=args.vpc_id,
            # The control plane's own interfaces; nodes and pods lie in the private subnets. It needs no way
            # out, so it comes while NAT does: what runs in it waits for the routes by itself.
            private_subnet_ids=list(args.intra_subnet_ids),
            node_subnet_ids=args.private_subnet_ids,
            endpoint_private_access=True,
            endpoint_public_access=bool(args.public_access_cidrs),
            public_access_cidrs=list(args.public_access_cidrs) or None,
            kubernetes_service_ip_address_range=service_cidr(args.vpc_cidr, args.private_access_cidrs),
            enabled_cluster_log_types=list(args.log_types),
            encryption_config_key_arn=args.key_arn,
            create_oidc_provider=True,
            deletion_protection=args.protect,
            # Nodes are Karpenter's, in the security group that EKS makes; add-ons are named and pinned below.
            skip_default_node_group=True,
            skip_default_security_groups=True,
            bootstrap_self_managed_addons=False,
            use_default_vpc_cni=True,
            coredns_addon_options={"enabled": False},
            kube_proxy_addon_options={"enabled": False},
            opts=self.child(
                protect=args.protect,
                retain_on_delete=args.protect,
                depends_on=[logs],
            ),
        )

    def _fargate(self) -> None:
        """A profile of our own with narrow selectors: Karpenter cannot run on nodes that it makes itself."""
        args = self._args
        role = aws.iam.Role(
            f"{self._name}-fargate",
            assume_role_policy=iam.assume_by_fargate(args.account_id, args.region, args.cluster_name),
            opts=self.child(),
        )
        policy = aws.iam.RolePolicyAttachment(
            f"{self._name}-fargate", role=role.name, policy_arn=_FARGATE_EXECUTION, opts=self.child()
        )
        profile = aws.eks.FargateProfile(
            f"{self._name}-fargate",
            cluster_name=args.cluster_name,
            pod_execution_role_arn=role.arn,
            subnet_ids=args.private_subnet_ids,
            selectors=[
                {"namespace": names.KUBE_SYSTEM, "labels": {"k8s-app": "kube-dns"}},
                {"namespace": names.KUBE_SYSTEM, "labels": {"app.kubernetes.io/name": names.KARPENTER}},
                *({"namespace": namespace} for namespace in args.fargate_namespaces),
            ],
            opts=self.child(depends_on=[policy, *args.order.before(teardown.FARGATE)]),
        )
        args.order.made(teardown.FARGATE, [policy, profile])
        self.fargate_role_id = role.id

    def _core_addons(self) -> None:
        """What every node needs from its first second, and the cluster's DNS, on Fargate."""
        args = self._args
        addons = Addons(cluster_name=args.cluster_name, kubernetes=args.version, order=args.order)
        part = teardown.CORE_ADDONS
        network = {"enableNetworkPolicy": "true"}
        core = [
            addons.install(self, self._name, "vpc-cni", part, values=network),
            addons.install(self, self._name, "kube-proxy", part),
            addons.install(self, self._name, "eks-pod-identity-agent", part),
        ]
        args.order.made(part, core)
        dns = addons.install(self, self._name, "coredns", teardown.CLUSTER_DNS, values=dns_values())
        args.order.made(teardown.CLUSTER_DNS, [dns])

    def _release_access(self, cluster: eks.Cluster) -> list[pulumi.Resource]:
        """Lets the release function in; what it may do there is the workload's say."""
        entry = aws.eks.AccessEntry(
            f"{self._name}-release",
            cluster_name=self.cluster_name,
            principal_arn=self._args.release_role_arn,
            kubernetes_groups=[names.RELEASE_GROUP],
            type="STANDARD",
            opts=self.child(depends_on=[cluster]),
        )
        way_in = aws.vpc.SecurityGroupIngressRule(
            f"{self._name}-from-release",
            security_group_id=cluster.cluster_security_group_id,
            referenced_security_group_id=self._args.release_security_group_id,
            description="The release function to the cluster's API",
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            opts=self.child(),
        )
        return [entry, way_in]

    def _private_access(self, cluster: eks.Cluster) -> list[pulumi.Resource]:
        """The API's security group lets in its members only: others in reach are named here."""
        return [
            aws.vpc.SecurityGroupIngressRule(
                f"{self._name}-from-network-{index}",
                security_group_id=cluster.cluster_security_group_id,
                cidr_ipv4=network,
                description="A network that runs this program, or kubectl, to the cluster's API",
                ip_protocol="tcp",
                from_port=443,
                to_port=443,
                opts=self.child(),
            )
            for index, network in enumerate(self._args.private_access_cidrs)
        ]

    def _people(self, cluster: eks.Cluster) -> None:
        """Administrators may do everything, developers look at the named namespaces."""
        for index, principal in enumerate(self._args.admins):
            self._let_in(f"admin-{index}", principal, _ADMIN, {"type": "cluster"}, cluster)
        scope = {"type": "namespace", "namespaces": list(self._args.developer_namespaces)}
        for index, principal in enumerate(self._args.developers):
            self._let_in(f"developer-{index}", principal, _VIEW, scope, cluster)

    def _let_in(
        self, label: str, principal: str, policy_arn: str, scope: Mapping[str, Any], cluster: eks.Cluster
    ) -> None:
        entry = aws.eks.AccessEntry(
            f"{self._name}-{label}",
            cluster_name=self.cluster_name,
            principal_arn=principal,
            type="STANDARD",
            opts=self.child(depends_on=[cluster]),
        )
        aws.eks.AccessPolicyAssociation(
            f"{self._name}-{label}",
            cluster_name=self.cluster_name,
            principal_arn=entry.principal_arn,
            policy_arn=policy_arn,
            access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(
                type=scope["type"], namespaces=scope.get("namespaces")
            ),
            opts=self.child(),
        )


def service_cidr(vpc_cidr: str, peers: Sequence[str]) -> str:
    """Where Services have their addresses: said here, for EKS knows nothing of a peer's network."""
    found = addresses.service_network(addresses.IPv4Network(text) for text in (vpc_cidr, *peers))
    if found is None:
        raise ValueError(f"no network is left for Services beside {vpc_cidr} and {', '.join(peers)}")
    return str(found)


def dns_values() -> dict[str, Any]:
    """CoreDNS on Fargate, over the zones, at the smallest size that Fargate sells."""
    resources = {"cpu": "0.25", "memory": "256M"}
    return {
        "computeType": "Fargate",
        "replicaCount": 2,
        "resources": {"requests": resources, "limits": resources},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            }
        ],
    }
