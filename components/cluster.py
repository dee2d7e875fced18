"""The EKS cluster: API authentication, a private endpoint, encrypted secrets, pods on Fargate for now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks
import pulumi_kubernetes as k8s

from components import names
from components.base import PlatformComponent

_ADMIN_POLICY: Final = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """What a caller decides, where the cluster lies, and who comes in."""

    cluster_name: str
    version: str
    vpc_id: pulumi.Input[str]
    private_subnet_ids: Sequence[pulumi.Input[str]]
    public_subnet_ids: Sequence[pulumi.Input[str]]
    public_access_cidrs: Sequence[str]
    log_types: Sequence[str]
    admins: Sequence[str]
    key_arn: pulumi.Input[str]
    fargate_namespaces: Sequence[str]
    release_role_arn: pulumi.Input[str]
    release_security_group_id: pulumi.Input[str]
    protect: bool


class Cluster(PlatformComponent):
    """The cluster, its provider for Kubernetes objects, and the release function's way in."""

    TYPE = "trainserve:cluster:Cluster"
    cluster_name: str
    security_group_id: pulumi.Output[str]
    provider: k8s.Provider
    release_access: list[pulumi.Resource]

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        cluster = eks.Cluster(
            f"{name}-eks",
            name=args.cluster_name,
            version=args.version,
            upgrade_policy={"support_type": "STANDARD"},
            authentication_mode=eks.AuthenticationMode.API,
            vpc_id=args.vpc_id,
            private_subnet_ids=args.private_subnet_ids,
            public_subnet_ids=args.public_subnet_ids,
            endpoint_private_access=True,
            endpoint_public_access=bool(args.public_access_cidrs),
            public_access_cidrs=list(args.public_access_cidrs) or None,
            enabled_cluster_log_types=list(args.log_types),
            encryption_config_key_arn=args.key_arn,
            create_oidc_provider=True,
            deletion_protection=args.protect,
            # Own selectors: `fargate=True` would take all of default and kube-system.
            fargate={
                "selectors": [
                    {"namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
                    *({"namespace": namespace} for namespace in args.fargate_namespaces),
                ]
            },
            opts=self.child(protect=args.protect),
        )
        self.cluster_name = args.cluster_name
        self.security_group_id = cluster.cluster_security_group_id
        for index, principal in enumerate(args.admins):
            self._admin(f"{name}-admin-{index}", principal, cluster)
        self.release_access = self._release_access(name, args, cluster)
        self.provider = k8s.Provider(
            f"{name}-objects",
            kubeconfig=cluster.kubeconfig_json,
            enable_server_side_apply=True,
            opts=self.child(depends_on=[cluster]),
        )
        self.finish("cluster_name", "security_group_id")

    def _release_access(self, name: str, args: ClusterArgs, cluster: eks.Cluster) -> list[pulumi.Resource]:
        """Lets the release function in; what it may do there is the workload's say."""
        entry = aws.eks.AccessEntry(
            f"{name}-release",
            cluster_name=args.cluster_name,
            principal_arn=args.release_role_arn,
            kubernetes_groups=[names.RELEASE_GROUP],
            type="STANDARD",
            opts=self.child(depends_on=[cluster]),
        )
        way_in = aws.vpc.SecurityGroupIngressRule(
            f"{name}-from-release",
            security_group_id=cluster.cluster_security_group_id,
            referenced_security_group_id=args.release_security_group_id,
            description="The release function to the cluster's API",
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            opts=self.child(),
        )
        return [entry, way_in]

    def _admin(self, name: str, principal: str, cluster: eks.Cluster) -> None:
        entry = aws.eks.AccessEntry(
            name,
            cluster_name=self.cluster_name,
            principal_arn=principal,
            type="STANDARD",
            opts=self.child(depends_on=[cluster]),
        )
        aws.eks.AccessPolicyAssociation(
            name,
            cluster_name=self.cluster_name,
            principal_arn=entry.principal_arn,
            policy_arn=_ADMIN_POLICY,
            access_scope={"type": "cluster"},
            opts=self.child(),
        )
