"""Puts the components together: what depends on what, and in which order things come and go."""

from typing import Any

import pulumi
import pulumi_aws as aws

from components import names, tagging, teardown
from components.account_baseline import AccountBaseline, AccountBaselineArgs
from components.addons import NodeAddons, NodeAddonsArgs
from components.alerts import Alerts, AlertsArgs
from components.base import PlatformComponent
from components.benchmark import Benchmark, BenchmarkArgs
from components.bootstrap import Bootstrap, BootstrapArgs
from components.cluster import Cluster, ClusterArgs
from components.cluster_security import Guards, GuardsArgs, PodRights, PodRightsArgs
from components.entrance import Door
from components.environment import Stack
from components.load_balancer import LoadBalancer, LoadBalancerArgs
from components.model_config import ModelConfig
from components.network import Network, NetworkArgs
from components.node_pools import NodePools, NodePoolsArgs
from components.observability import Observability, ObservabilityArgs
from components.prometheus import PrometheusArgs, PrometheusStack
from components.registry import Registry, RegistryArgs
from components.releases import Releases, ReleasesArgs
from components.retraining import Retraining, RetrainingArgs
from components.sagemaker_extras import SageMakerExtras, SageMakerExtrasArgs
from components.storage import Storage, StorageArgs
from components.training import Training, TrainingArgs
from components.workload import Workload, WorkloadArgs


class Platform(PlatformComponent):
    """One environment: everything that one stack consists of."""

    TYPE = "trainserve:platform:Platform"
    outputs: dict[str, Any]

    def __init__(self, name: str, stack: Stack, opts: pulumi.ResourceOptions | None = None) -> None:
        self._order = teardown.Order()
        super().__init__(name, opts)
        self._name = name
        self._stack = stack
        self._account_id = aws.get_caller_identity_output(
            opts=pulumi.InvokeOutputOptions(parent=self)
        ).account_id
        self._storage = self._make_storage()
        self._network = self._make_network()
        self._alerts = Alerts(
            f"{name}-alerts",
            AlertsArgs(
                stack=stack.name,
                account_id=self._account_id,
                key_arn=self._storage.key_arn,
                email=stack.settings.environment.alarm_email,
                monthly_budget_usd=stack.settings.environment.monthly_budget_usd,
            ),
            self.child(),
        )
        self._registry = self._make_registry()
        self._training = self._make_training()
        self._make_sagemaker_extras()
        self._retraining = self._make_retraining()
        self._releases = self._make_releases()
        self._observability = self._make_observability()
        self._cluster = self._make_cluster()
        self._node_pools = self._make_node_pools()
        self._make_node_addons()
        self._load_balancer = self._make_load_balancer()
        self._rights = self._make_rights()
        self._workload = self._make_workload()
        self._guard()
        self._watch()
        self._start()
        self.outputs = self._outputs()
        self.finish("outputs")

    def _make_network(self) -> Network:
        settings = self._stack.settings.network
        network = Network(
            f"{self._name}-network",
            NetworkArgs(
                cidr=settings.cidr,
                availability_zones=settings.availability_zones,
                nat_per_zone=settings.nat_per_zone,
                region=self._stack.region,
                account_id=self._account_id,
                cluster_name=names.cluster_name(self._stack.name),
                interface_endpoints=settings.interface_endpoints,
                flow_logs=settings.flow_logs,
                peering=settings.peering,
                key_arn=self._storage.key_arn,
                log_retention_days=self._stack.settings.environment.log_retention_days,
            ),
            self.child(),
        )
        self._order.made(teardown.ROUTES, network.ways_out)
        return network

    def _make_storage(self) -> Storage:
        settings = self._stack.settings
        return Storage(
            f"{self._name}-storage",
            StorageArgs(
                account_id=self._account_id,
                region=self._stack.region,
                noncurrent_days=settings.storage.noncurrent_days,
                force_destroy=settings.storage.force_destroy,
                protect=settings.environment.protect,
            ),
            self.child(),
        )

    def _make_registry(self) -> Registry:
        settings = self._stack.settings
        return Registry(
            f"{self._name}-registry",
            RegistryArgs(
                region=self._stack.region,
                account_id=self._account_id,
                key_arn=self._storage.key_arn,
                artifact_bucket=self._storage.artifact_bucket,
                artifact_bucket_arn=self._storage.artifact_bucket_arn,
                keep_images=settings.storage.keep_images,
                force_delete=settings.storage.force_destroy,
                protect=settings.environment.protect,
                log_retention_days=settings.environment.log_retention_days,
            ),
            self.child(),
        )

    def _make_training(self) -> Training:
        return Training(
            f"{self._name}-training",
            TrainingArgs(
                stack=self._stack.name,
                region=self._stack.region,
                account_id=self._account_id,
                settings=self._stack.settings.training,
                models=self._stack.settings.models,
                key_arn=self._storage.key_arn,
                data_bucket_arn=self._storage.data_bucket_arn,
                artifact_bucket=self._storage.artifact_bucket,
                artifact_bucket_arn=self._storage.artifact_bucket_arn,
            ),
            self.child(),
        )

    def _make_sagemaker_extras(self) -> None:
        settings = self._stack.settings
        if not (settings.training.tuning or settings.training.pipeline or settings.training.model_monitor):
            return
        SageMakerExtras(
            f"{self._name}-sagemaker",
            SageMakerExtrasArgs(
                stack=self._stack.name,
                settings=settings.training,
                models=settings.models,
                templates=self._training.templates,
                role_arn=self._training.role_arn,
                data_bucket=self._storage.data_bucket,
                artifact_bucket=self._storage.artifact_bucket,
                key_arn=self._storage.key_arn,
            ),
            self.child(),
        )

    def _make_retraining(self) -> Retraining:
        settings, storage = self._stack.settings, self._storage
        return Retraining(
            f"{self._name}-retraining",
            RetrainingArgs(
                stack=self._stack.name,
                region=self._stack.region,
                account_id=self._account_id,
                models=list(settings.models),
                batch_delay_s=settings.retraining.batch_delay_seconds,
                max_attempts=settings.retraining.max_attempts,
                drift_schedule=settings.retraining.drift_schedule,
                key_arn=storage.key_arn,
                data_bucket=storage.data_bucket,
                data_bucket_arn=storage.data_bucket_arn,
                artifact_bucket=storage.artifact_bucket,
                artifact_bucket_arn=storage.artifact_bucket_arn,
                state_table=storage.state_table,
                state_table_arn=storage.state_table_arn,
                training_role_arn=self._training.role_arn,
                alarm_topic_arn=self._alerts.topic_arn,
                log_retention_days=settings.environment.log_retention_days,
            ),
            self.child(),
        )

    def _make_releases(self) -> Releases:
        settings, storage = self._stack.settings, self._storage
        return Releases(
            f"{self._name}-releases",
            ReleasesArgs(
                stack=self._stack.name,
                region=self._stack.region,
                account_id=self._account_id,
                vpc_id=self._network.vpc_id,
                subnet_ids=self._network.private_subnet_ids,
                key_arn=storage.key_arn,
                artifact_bucket=storage.artifact_bucket,
                artifact_bucket_arn=storage.artifact_bucket_arn,
                state_table=storage.state_table,
                state_table_arn=storage.state_table_arn,
                repository_arn=self._registry.repository_arn,
                project_name=self._registry.project_name,
                package_group_arns=self._training.package_group_arns,
                queue_arn=self._retraining.queue_arn,
                alarm_topic_arn=self._alerts.topic_arn,
                log_retention_days=settings.environment.log_retention_days,
                order=self._order,
            ),
            self.child(),
        )

    def _make_observability(self) -> Observability:
        settings = self._stack.settings
        return Observability(
            f"{self._name}-observability",
            ObservabilityArgs(
                stack=self._stack.name,
                region=self._stack.region,
                account_id=self._account_id,
                settings=settings.observability,
                models=list(settings.models),
                cluster_name=names.cluster_name(self._stack.name),
                queues=self._retraining.queue_names,
                functions={
                    "start training": self._retraining.function_name,
                    "release model": self._releases.function_name,
                },
                state_machine_arn=self._releases.state_machine_arn,
                key_arn=self._storage.key_arn,
                topic_arn=self._alerts.topic_arn,
                log_retention_days=settings.environment.log_retention_days,
            ),
            self.child(),
        )

    def _make_cluster(self) -> Cluster:
        settings, workload = self._stack.settings, self._stack.settings.workload
        return Cluster(
            f"{self._name}-cluster",
            ClusterArgs(
                cluster_name=names.cluster_name(self._stack.name),
                version=settings.cluster.version,
                account_id=self._account_id,
                region=self._stack.region,
                vpc_id=self._network.vpc_id,
                intra_subnet_ids=self._network.intra_subnet_ids,
                private_subnet_ids=self._network.private_subnet_ids,
                public_access_cidrs=settings.cluster.public_access_cidrs,
                log_types=settings.cluster.log_types,
                log_retention_days=settings.environment.log_retention_days,
                admins=settings.cluster.admins,
                developers=settings.cluster.developers,
                developer_namespaces=[workload.namespace, *settings.cluster.developer_namespaces],
                key_arn=self._storage.key_arn,
                fargate_namespaces=[workload.namespace] if workload.compute == "fargate" else [],
                release_role_arn=self._releases.function_role_arn,
                release_security_group_id=self._releases.security_group_id,
                protect=settings.environment.protect,
                order=self._order,
            ),
            self.child(),
        )

    def _inside_cluster(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, providers=[self._cluster.provider])

    def _cloud_tags(self) -> dict[str, str]:
        """For what controllers make: the same tags as the program's own resources have."""
        return tagging.default_tags(self._stack.name, self._stack.settings.tags)

    def _make_node_pools(self) -> NodePools:
        return NodePools(
            f"{self._name}-nodes",
            NodePoolsArgs(
                settings=self._stack.settings.node_pools,
                cluster_name=self._cluster.cluster_name,
                region=self._stack.region,
                account_id=self._account_id,
                oidc_provider_arn=self._cluster.oidc_provider_arn,
                oidc_issuer=self._cluster.oidc_issuer,
                tags=self._cloud_tags(),
                order=self._order,
            ),
            self._inside_cluster(),
        )

    def _make_node_addons(self) -> NodeAddons:
        return NodeAddons(
            f"{self._name}-addons",
            NodeAddonsArgs(
                cluster_name=self._cluster.cluster_name,
                cluster_arn=self._cluster.arn,
                account_id=self._account_id,
                kubernetes=self._stack.settings.cluster.version,
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
                cluster_name=self._cluster.cluster_name,
                cluster_arn=self._cluster.arn,
                cluster_security_group_id=self._cluster.security_group_id,
                region=self._stack.region,
                account_id=self._account_id,
                vpc_id=self._network.vpc_id,
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
                stack=self._stack.name,
                trace_sample_percent=self._stack.settings.observability.trace_sample_percent,
                subject_key=self._stack.settings.security.subject_key,
                rights=self._rights.ready if self._rights else [],
                door=Door(
                    settings=self._stack.settings.load_balancer,
                    group=self._cluster.cluster_name,
                    vpc_cidr=self._stack.settings.network.cidr,
                    log_bucket=self._load_balancer.log_bucket,
                ),
                order=self._order,
            ),
            self._inside_cluster(),
        )

    def _server_image(self) -> pulumi.Output[str]:
        """What pods start from before the first release: an own server, else the one that is built."""
        digest, url = self._stack.settings.workload.image_digest, self._registry.repository_url
        if digest is not None:
            return pulumi.Output.concat(url, "@", digest)
        return pulumi.Output.concat(url, ":", self._registry.server_tag)

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
                cluster_name=self._cluster.cluster_name,
                cluster_arn=self._cluster.arn,
                key_arn=self._storage.key_arn,
                data_bucket_arn=self._storage.data_bucket_arn,
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
                namespace=self._workload.namespace_object,
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
                    vpc_id=self._network.vpc_id,
                    vpc_cidr=settings.network.cidr,
                    subnet_ids=self._network.private_subnet_ids,
                    cluster_name=self._cluster.cluster_name,
                    key_arn=self._storage.key_arn,
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
                workload_namespace=self._workload.namespace,
                cluster_name=self._cluster.cluster_name,
                cluster_arn=self._cluster.arn,
                key_arn=self._storage.key_arn,
                topic_arn=self._alerts.topic_arn,
                nodes=self._order.before(teardown.MONITORING),
                workload=self._workload.namespace_object,
            ),
            self._inside_cluster(),
        )

    def _start(self) -> None:
        """Starts the first build and trainings, once everything that reacts to their end is there."""
        configs = [self._configure(model) for model in self._stack.settings.models]
        # A build's end is an event that the release function answers; the cluster may still be coming.
        self._registry.start_build(after=[*self._network.ready, *self._releases.ready, *configs])
        everything: list[pulumi.Resource] = [
            *configs,
            *self._network.ready,
            *self._training.ready,
            *self._retraining.ready,
            *self._releases.ready,
            *self._cluster.release_access,
            *self._workload.ready,
        ]
        for model, files in self._stack.settings.training.bootstrap_data.items():
            Bootstrap(
                f"{self._name}-bootstrap-{model}",
                BootstrapArgs(
                    stack=self._stack.name,
                    model=model,
                    files=files,
                    template=self._training.templates[model],
                    data_bucket=self._storage.data_bucket,
                    artifact_bucket=self._storage.artifact_bucket,
                    after=everything,
                ),
                self.child(),
            )

    def _configure(self, model: str) -> pulumi.Resource:
        settings = self._stack.settings
        config = ModelConfig(
            model=model,
            stack=self._stack.name,
            template=self._training.templates[model],
            gate_margin=settings.models[model].gate_margin,
            data_bucket=self._storage.data_bucket,
            artifact_bucket=self._storage.artifact_bucket,
            package_group=self._training.package_groups[model],
            repository_url=self._registry.repository_url,
            server_tag=settings.workload.image_digest or self._registry.server_tag,
            cluster_name=self._cluster.cluster_name,
            namespace=self._workload.namespace,
            queue_url=self._retraining.queue_url,
            rollout_timeout_s=settings.workload.rollout_timeout_seconds,
            max_attempts=settings.retraining.max_attempts,
        )
        return aws.s3.BucketObjectv2(
            f"{self._name}-config-{model}",
            bucket=self._storage.artifact_bucket,
            key=config.key,
            content=pulumi.Output.json_dumps(config.document(), sort_keys=True, indent=1),
            content_type="application/json",
            opts=self.child(),
        )

    def _outputs(self) -> dict[str, Any]:
        storage = self._storage
        return {
            "dataBucket": storage.data_bucket,
            "artifactBucket": storage.artifact_bucket,
            "stateTable": storage.state_table,
            "repositoryUrl": self._registry.repository_url,
            "queueUrl": self._retraining.queue_url,
            "stateMachineArn": self._releases.state_machine_arn,
            "clusterName": self._cluster.cluster_name,
            "models": {
                model: {
                    "incoming": pulumi.Output.concat(
                        "s3://", storage.data_bucket, "/", names.incoming(model)
                    ),
                    "packageGroup": self._training.package_groups[model],
                    "deployment": model,
                    "namespace": self._workload.namespace,
                    "service": model,
                }
                for model in self._stack.settings.models
            },
        }
