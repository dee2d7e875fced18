"""The layer that serves: the cluster, its nodes, the way in, the models' servers and what guards them."""

import pulumi

from components import names, tagging, teardown
from components.account_baseline import AccountBaseline, AccountBaselineArgs
from components.addons import NodeAddons, NodeAddonsArgs
from components.benchmark import Benchmark, BenchmarkArgs
from components.cluster import Cluster, ClusterArgs
from components.cluster_security import Guards, GuardsArgs, PodRights, PodRightsArgs
from components.entrance import Door
from components.fargate_logs import FargateLogs, FargateLogsArgs
from components.layer import Layer, Site
from components.load_balancer import LoadBalancer, LoadBalancerArgs
from components.loop_layer import LoopLayer
from components.node_pools import NodePools, NodePoolsArgs
from components.prometheus import PrometheusArgs, PrometheusStack
from components.workload import Workload, WorkloadArgs


class ComputeLayer(Layer):
    """The cluster and everything in it."""

    def __init__(self, site: Site, loop: LoopLayer) -> None:
        super().__init__(site)
        self._loop = loop
        self.cluster = self._make_cluster()
        self._make_fargate_logs()
        self._make_node_pools()
        self._make_node_addons()
        self._load_balancer = self._make_load_balancer()
        self._rights = self._make_rights()
        self.workload = self._make_workload()
        self._guard()
        self._watch()

    def _make_cluster(self) -> Cluster:
        settings, workload = self._stack.settings, self._stack.settings.workload
        peering = settings.network.peering
        return Cluster(
            f"{self._name}-cluster",
            ClusterArgs(
                cluster_name=names.cluster_name(self._stack.name),
                version=settings.cluster.version,
                account_id=self._account_id,
                region=self._stack.region,
                vpc_id=self._loop.network.vpc_id,
                vpc_cidr=settings.network.cidr,
                intra_subnet_ids=self._loop.network.intra_subnet_ids,
                private_subnet_ids=self._loop.network.private_subnet_ids,
                public_access_cidrs=settings.cluster.public_access_cidrs,
                private_access_cidrs=[peering.peer_cidr] if peering else [],
                log_types=settings.cluster.log_types,
                log_retention_days=settings.environment.log_retention_days,
                admins=settings.cluster.admins,
                developers=settings.cluster.developers,
                developer_namespaces=[workload.namespace, *settings.cluster.developer_namespaces],
                key_arn=self._loop.storage.key_arn,
                fargate_namespaces=[workload.namespace] if workload.compute == "fargate" else [],
                release_role_arn=self._loop.releases.function_role_arn,
                release_security_group_id=self._loop.releases.security_group_id,
                protect=settings.environment.protect,
                order=self._order,
            ),
            self.child(),
        )

    def _make_fargate_logs(self) -> None:
        FargateLogs(
            f"{self._name}-fargate-logs",
            FargateLogsArgs(
                cluster_name=self.cluster.cluster_name,
                region=self._stack.region,
                role_id=self.cluster.fargate_role_id,
                key_arn=self._loop.storage.key_arn,
                retention_days=self._stack.settings.environment.log_retention_days,
                order=self._order,
            ),
            self._inside_cluster(),
        )

    def _make_node_pools(self) -> None:
        NodePools(
            f"{self._name}-nodes",
            NodePoolsArgs(
                settings=self._stack.settings.node_pools,
                cluster_name=self.cluster.cluster_name,
                region=self._stack.region,
                account_id=self._account_id,
                oidc_provider_arn=self.cluster.oidc_provider_arn,
                oidc_issuer=self.cluster.oidc_issuer,
                tags=self._cloud_tags(),
                order=self._order,
            ),
            self._inside_cluster(),
        )

    def _make_node_addons(self) -> None:
        NodeAddons(
            f"{self._name}-addons",
            NodeAddonsArgs(
                cluster_name=self.cluster.cluster_name,
                cluster_arn=self.cluster.arn,
                account_id=self._account_id,
                kubernetes=self._stack.settings.cluster.version,
                key_arn=self._loop.storage.key_arn,
                log_groups=self._loop.observability.log_groups,
                order=self._order,
            ),
            self.child(),
        )

    def _make_load_balancer(self) -> LoadBalancer:
        settings = self._stack.settings
        return LoadBalancer(
            f"{self._name}-balancer",
            LoadBalancerArgs(
                settings=settings.load_balancer,
                cluster_name=self.cluster.cluster_name,
                cluster_arn=self.cluster.arn,
                cluster_security_group_id=self.cluster.security_group_id,
                region=self._stack.region,
                account_id=self._account_id,
                vpc_id=self._loop.network.vpc_id,
                log_days=settings.environment.log_retention_days,
                force_destroy=settings.storage.force_destroy,
                protect=settings.environment.protect,
                tags=self._cloud_tags(),
                order=self._order,
            ),
            self._inside_cluster(),
        )

    def _make_workload(self) -> Workload:
        return Workload(
            f"{self._name}-workload",
            WorkloadArgs(
                settings=self._stack.settings.workload,
                models=list(self._stack.settings.models),
                image=self._server_image(),
                data_bucket=self._loop.storage.data_bucket,
                stack=self._stack.name,
                trace_sample_percent=self._stack.settings.observability.trace_sample_percent,
                subject_key=self._stack.settings.security.subject_key,
                rights=self._rights.ready if self._rights else [],
                door=Door(
                    settings=self._stack.settings.load_balancer,
                    group=self.cluster.cluster_name,
                    vpc_cidr=self._stack.settings.network.cidr,
                    log_bucket=self._load_balancer.log_bucket,
                    tls_to_pods=self._stack.settings.workload.tls,
                ),
                order=self._order,
            ),
            self._inside_cluster(),
        )

    def _server_image(self) -> pulumi.Output[str]:
        """What pods start from before the first release: an own server, else the one that is built."""
        digest, url = self._stack.settings.workload.image_digest, self._loop.registry.repository_url
        if digest is not None:
            return pulumi.Output.concat(url, "@", digest)
        return pulumi.Output.concat(url, ":", self._loop.registry.server_tag)

    def _make_rights(self) -> PodRights | None:
        """On nodes only: Fargate has no Pod Identity."""
        settings = self._stack.settings
        if settings.workload.compute != "nodes":
            return None
        return PodRights(
            f"{self._name}-rights",
            PodRightsArgs(
                namespace=settings.workload.namespace,
                with_subject_key=settings.security.subject_key,
                account_id=self._account_id,
                cluster_name=self.cluster.cluster_name,
                cluster_arn=self.cluster.arn,
                key_arn=self._loop.storage.key_arn,
                data_bucket_arn=self._loop.storage.data_bucket_arn,
                nodes=self._order.before(teardown.NODE_ADDONS),
            ),
            self.child(),
        )

    def _guard(self) -> None:
        """Confines the workload, checks the nodes and, in one environment of an account, guards that."""
        settings = self._stack.settings
        Guards(
            f"{self._name}-guards",
            GuardsArgs(
                network_policies=settings.security.network_policies,
                workload=settings.workload,
                models=list(settings.models),
                region=self._stack.region,
                vpc_cidr=settings.network.cidr,
                subject_key_arn=self._rights.subject_key_arn if self._rights else None,
                secrets_driver=self._rights.secrets_driver if self._rights else [],
                namespace=self.workload.namespace_object,
            ),
            self._inside_cluster(),
        )
        if settings.security.kube_bench is not None:
            Benchmark(
                f"{self._name}-benchmark",
                BenchmarkArgs(schedule=settings.security.kube_bench.schedule),
                self._inside_cluster(),
            )
        if settings.security.account_baseline:
            AccountBaseline(
                f"{self._name}-account",
                AccountBaselineArgs(
                    stack=self._stack.name,
                    region=self._stack.region,
                    account_id=self._account_id,
                    vpc_id=self._loop.network.vpc_id,
                    vpc_cidr=settings.network.cidr,
                    subnet_ids=self._loop.network.private_subnet_ids,
                    cluster_name=self.cluster.cluster_name,
                    bucket_arns=[
                        self._loop.storage.data_bucket_arn,
                        self._loop.storage.artifact_bucket_arn,
                    ],
                    key_arn=self._loop.storage.key_arn,
                    protect=settings.environment.protect,
                    force_destroy=settings.storage.force_destroy,
                    nodes=self._order.before(teardown.NODE_ADDONS),
                ),
                self.child(),
            )

    def _watch(self) -> None:
        """Prometheus and Grafana, where the settings want them."""
        settings = self._stack.settings
        if settings.observability.prometheus is None:
            return
        PrometheusStack(
            f"{self._name}-prometheus",
            PrometheusArgs(
                stack=self._stack.name,
                region=self._stack.region,
                account_id=self._account_id,
                settings=settings.observability,
                own=settings.observability.prometheus,
                models=list(settings.models),
                workload_namespace=self.workload.namespace,
                tls_to_pods=settings.workload.tls,
                cluster_name=self.cluster.cluster_name,
                cluster_arn=self.cluster.arn,
                key_arn=self._loop.storage.key_arn,
                topic_arn=self._loop.alerts.topic_arn,
                nodes=self._order.before(teardown.MONITORING),
                workload=self.workload.namespace_object,
            ),
            self._inside_cluster(),
        )

    def _inside_cluster(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self._platform, providers=[self.cluster.provider])

    def _cloud_tags(self) -> dict[str, str]:
        """For what controllers make: the same tags as the program's own resources have."""
        return tagging.default_tags(self._stack.name, self._stack.settings.tags)
