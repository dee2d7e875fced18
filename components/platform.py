"""Puts the components together: what depends on what, and in which order things come and go."""

from typing import Any

import pulumi
import pulumi_aws as aws

from components import names
from components.alerts import Alerts, AlertsArgs
from components.base import PlatformComponent
from components.bootstrap import Bootstrap, BootstrapArgs
from components.cluster import Cluster, ClusterArgs
from components.environment import Stack
from components.model_config import ModelConfig
from components.network import Network, NetworkArgs
from components.registry import Registry, RegistryArgs
from components.releases import Releases, ReleasesArgs
from components.retraining import Retraining, RetrainingArgs
from components.storage import Storage, StorageArgs
from components.training import Training, TrainingArgs
from components.workload import Workload, WorkloadArgs


class Platform(PlatformComponent):
    """One environment: everything that one stack consists of."""

    TYPE = "trainserve:platform:Platform"
    outputs: dict[str, Any]

    def __init__(self, name: str, stack: Stack, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._stack = stack
        self._account_id = aws.get_caller_identity_output(
            opts=pulumi.InvokeOutputOptions(parent=self)
        ).account_id
        self._network = self._make_network()
        self._storage = self._make_storage()
        self._alerts = Alerts(
            f"{name}-alerts",
            AlertsArgs(key_arn=self._storage.key_arn, email=stack.settings.environment.alarm_email),
            self.child(),
        )
        self._registry = self._make_registry()
        self._training = self._make_training()
        self._retraining = self._make_retraining()
        self._releases = self._make_releases()
        self._cluster = self._make_cluster()
        self._workload = self._make_workload()
        self._start()
        self.outputs = self._outputs()
        self.finish("outputs")

    def _make_network(self) -> Network:
        settings = self._stack.settings.network
        return Network(
            f"{self._name}-network",
            NetworkArgs(
                cidr=settings.cidr,
                availability_zones=settings.availability_zones,
                nat_per_zone=settings.nat_per_zone,
                region=self._stack.region,
                cluster_name=names.cluster_name(self._stack.name),
            ),
            self.child(),
        )

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
            ),
            self.child(),
        )

    def _make_cluster(self) -> Cluster:
        settings = self._stack.settings
        return Cluster(
            f"{self._name}-cluster",
            ClusterArgs(
                cluster_name=names.cluster_name(self._stack.name),
                version=settings.cluster.version,
                vpc_id=self._network.vpc_id,
                private_subnet_ids=self._network.private_subnet_ids,
                public_subnet_ids=self._network.public_subnet_ids,
                public_access_cidrs=settings.cluster.public_access_cidrs,
                log_types=settings.cluster.log_types,
                admins=settings.cluster.admins,
                key_arn=self._storage.key_arn,
                fargate_namespaces=[settings.workload.namespace],
                release_role_arn=self._releases.function_role_arn,
                release_security_group_id=self._releases.security_group_id,
                protect=settings.environment.protect,
            ),
            self.child(),
        )

    def _make_workload(self) -> Workload:
        return Workload(
            f"{self._name}-workload",
            WorkloadArgs(
                settings=self._stack.settings.workload,
                models=list(self._stack.settings.models),
                image=pulumi.Output.concat(self._registry.repository_url, ":", self._registry.server_tag),
            ),
            pulumi.ResourceOptions(parent=self, providers=[self._cluster.provider]),
        )

    def _start(self) -> None:
        """Starts the first build and trainings, once everything that reacts to their end is there."""
        configs = [self._configure(model) for model in self._stack.settings.models]
        # A build's end is an event that the release function answers; the cluster may still be coming.
        self._registry.start_build(after=[*self._releases.ready, *configs])
        everything: list[pulumi.Resource] = [
            *configs,
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
            server_tag=self._registry.server_tag,
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
