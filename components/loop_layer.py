"""The layer that trains and releases: storage, network, registry, training and what reacts to events."""

from collections.abc import Sequence

import pulumi

from components import names, teardown
from components.alerts import Alerts, AlertsArgs
from components.layer import Layer, Site
from components.network import Network, NetworkArgs
from components.observability import Observability, ObservabilityArgs
from components.package_groups import PackageGroups, PackageGroupsArgs
from components.registry import Registry, RegistryArgs
from components.releases import Releases, ReleasesArgs
from components.retraining import Retraining, RetrainingArgs
from components.sagemaker_extras import SageMakerExtras, SageMakerExtrasArgs
from components.storage import Storage, StorageArgs
from components.training import Training, TrainingArgs


class LoopLayer(Layer):
    """Everything but the cluster and what runs in it."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.storage = self._make_storage()
        self.network = self._make_network()
        self.alerts = self._make_alerts()
        self.registry = self._make_registry()
        self.training = self._make_training()
        self.package_groups = self._make_package_groups()
        self.retraining = self._make_retraining()
        self.releases = self._make_releases()
        self.observability = self._make_observability()

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
                key_arn=self.storage.key_arn,
                log_retention_days=self._stack.settings.environment.log_retention_days,
            ),
            self.child(),
        )
        self._order.made(teardown.ROUTES, network.ways_out)
        return network

    def _make_alerts(self) -> Alerts:
        environment = self._stack.settings.environment
        return Alerts(
            f"{self._name}-alerts",
            AlertsArgs(
                stack=self._stack.name,
                account_id=self._account_id,
                key_arn=self.storage.key_arn,
                email=environment.alarm_email,
                monthly_budget_usd=environment.monthly_budget_usd,
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
                key_arn=self.storage.key_arn,
                artifact_bucket=self.storage.artifact_bucket,
                artifact_bucket_arn=self.storage.artifact_bucket_arn,
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
                region=self._stack.region,
                account_id=self._account_id,
                settings=self._stack.settings.training,
                models=self._stack.settings.models,
                key_arn=self.storage.key_arn,
                data_bucket_arn=self.storage.data_bucket_arn,
                artifact_bucket=self.storage.artifact_bucket,
                artifact_bucket_arn=self.storage.artifact_bucket_arn,
            ),
            self.child(),
        )

    def _make_package_groups(self) -> PackageGroups:
        environment = self._stack.settings.environment
        return PackageGroups(
            f"{self._name}-packages",
            PackageGroupsArgs(
                stack=self._stack.name,
                region=self._stack.region,
                account_id=self._account_id,
                models=list(self._stack.settings.models),
                protect=environment.protect,
                key_arn=self.storage.key_arn,
                log_retention_days=environment.log_retention_days,
            ),
            self.child(),
        )

    def make_sagemaker_extras(self, after: Sequence[pulumi.Resource]) -> None:
        """Add what the settings ask for of SageMaker's own, once what its jobs need is there."""
        settings = self._stack.settings
        if not (settings.training.tuning or settings.training.pipeline or settings.training.model_monitor):
            return
        SageMakerExtras(
            f"{self._name}-sagemaker",
            SageMakerExtrasArgs(
                stack=self._stack.name,
                settings=settings.training,
                models=settings.models,
                templates=self.training.templates,
                role_arn=self.training.role_arn,
                data_bucket=self.storage.data_bucket,
                artifact_bucket=self.storage.artifact_bucket,
                key_arn=self.storage.key_arn,
                after=after,
            ),
            self.child(),
        )

    def _make_retraining(self) -> Retraining:
        settings, storage = self._stack.settings, self.storage
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
                training_role_arn=self.training.role_arn,
                alarm_topic_arn=self.alerts.topic_arn,
                log_retention_days=settings.environment.log_retention_days,
            ),
            self.child(),
        )

    def _make_releases(self) -> Releases:
        settings, storage = self._stack.settings, self.storage
        return Releases(
            f"{self._name}-releases",
            ReleasesArgs(
                stack=self._stack.name,
                region=self._stack.region,
                account_id=self._account_id,
                vpc_id=self.network.vpc_id,
                subnet_ids=self.network.private_subnet_ids,
                key_arn=storage.key_arn,
                artifact_bucket=storage.artifact_bucket,
                artifact_bucket_arn=storage.artifact_bucket_arn,
                state_table=storage.state_table,
                state_table_arn=storage.state_table_arn,
                repository_arn=self.registry.repository_arn,
                project_name=self.registry.project_name,
                package_group_arns=self.package_groups.arns,
                queue_arn=self.retraining.queue_arn,
                alarm_topic_arn=self.alerts.topic_arn,
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
                queues=self.retraining.queue_names,
                functions={
                    "start training": self.retraining.function_name,
                    "release model": self.releases.function_name,
                },
                state_machine_arn=self.releases.state_machine_arn,
                release_log_group=self.releases.function_log_group,
                build_project=self.registry.project_name,
                key_arn=self.storage.key_arn,
                topic_arn=self.alerts.topic_arn,
                log_retention_days=settings.environment.log_retention_days,
            ),
            self.child(),
        )
