"""Puts the components together: what depends on what, and in which order things come and go."""

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from components import names, teardown
from components.base import PlatformComponent
from components.bootstrap import Bootstrap, BootstrapArgs
from components.compute_layer import ComputeLayer
from components.environment import Stack
from components.layer import Site
from components.loop_layer import LoopLayer
from components.model_config import ModelConfig


class Platform(PlatformComponent):
    """One environment: everything that one stack consists of."""

    TYPE = "trainserve:platform:Platform"
    outputs: dict[str, Any]

    def __init__(self, name: str, stack: Stack, opts: pulumi.ResourceOptions | None = None) -> None:
        order = teardown.Order()
        super().__init__(name, opts)
        self._name = name
        self._stack = stack
        account_id = aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(parent=self)).account_id
        site = Site(platform=self, name=name, stack=stack, account_id=account_id, order=order)
        self._loop = LoopLayer(site)
        self._compute = ComputeLayer(site, self._loop)
        self._start()
        self.outputs = self._outputs()
        self._describe(order.everything())
        self.finish("outputs")

    def _start(self) -> None:
        """Starts the first build and trainings, once everything that reacts to their end is there."""
        configs = [self._configure(model) for model in self._stack.settings.models]
        # A build's end is an event that the release function answers; the cluster may still be coming.
        self._loop.registry.start_build(
            after=[*self._loop.network.ready, *self._loop.releases.ready, *configs]
        )
        everything: list[pulumi.Resource] = [
            *configs,
            *self._loop.network.ready,
            *self._loop.training.ready,
            *self._loop.retraining.ready,
            *self._loop.releases.ready,
            *self._compute.cluster.release_access,
            *self._compute.workload.ready,
        ]
        data = [
            Bootstrap(
                f"{self._name}-bootstrap-{model}",
                BootstrapArgs(
                    stack=self._stack.name,
                    model=model,
                    files=files,
                    template=self._loop.training.templates[model],
                    data_bucket=self._loop.storage.data_bucket,
                    artifact_bucket=self._loop.storage.artifact_bucket,
                    after=everything,
                ),
                self.child(),
            )
            for model, files in self._stack.settings.training.bootstrap_data.items()
        ]
        uploaded = [file for bootstrap in data for file in bootstrap.uploaded]
        self._loop.make_sagemaker_extras([*self._loop.training.ready, *uploaded])

    def _configure(self, model: str) -> pulumi.Resource:
        settings = self._stack.settings
        config = ModelConfig(
            model=model,
            stack=self._stack.name,
            template=self._loop.training.templates[model],
            gate_margin=settings.models[model].gate_margin,
            data_bucket=self._loop.storage.data_bucket,
            artifact_bucket=self._loop.storage.artifact_bucket,
            package_group=self._loop.package_groups.group_names[model],
            repository_url=self._loop.registry.repository_url,
            server_tag=settings.workload.image_digest or self._loop.registry.server_tag,
            cluster_name=self._compute.cluster.cluster_name,
            namespace=self._compute.workload.namespace,
            queue_url=self._loop.retraining.queue_url,
            rollout_timeout_s=settings.workload.rollout_timeout_seconds,
            max_attempts=settings.retraining.max_attempts,
        )
        return aws.s3.BucketObjectv2(
            f"{self._name}-config-{model}",
            bucket=self._loop.storage.artifact_bucket,
            key=config.key,
            content=pulumi.Output.json_dumps(config.document(), sort_keys=True, indent=1),
            content_type="application/json",
            opts=self.child(),
        )

    def _describe(self, everything: Sequence[pulumi.Input[pulumi.Resource]]) -> None:
        """What the environment consists of, for who cannot read its state: made last, so the first to go.

        Where state is protected, so is this: a destroy, previewed or not, stops here and touches nothing.
        Buckets go last of all: their protection alone would leave nothing else standing.
        """
        aws.s3.BucketObjectv2(
            f"{self._name}-environment",
            bucket=self._loop.storage.artifact_bucket,
            key=names.ENVIRONMENT,
            content=pulumi.Output.json_dumps(self.outputs, sort_keys=True, indent=1),
            content_type="application/json",
            opts=self.child(protect=self._stack.settings.environment.protect, depends_on=everything),
        )

    def _outputs(self) -> dict[str, Any]:
        storage = self._loop.storage
        return {
            "dataBucket": storage.data_bucket,
            "artifactBucket": storage.artifact_bucket,
            "stateTable": storage.state_table,
            "repositoryUrl": self._loop.registry.repository_url,
            "queueUrl": self._loop.retraining.queue_url,
            "stateMachineArn": self._loop.releases.state_machine_arn,
            "clusterName": self._compute.cluster.cluster_name,
            "models": {
                model: {
                    "incoming": pulumi.Output.concat(
                        "s3://", storage.data_bucket, "/", names.incoming(model)
                    ),
                    "packageGroup": self._loop.package_groups.group_names[model],
                    "deployment": model,
                    "namespace": self._compute.workload.namespace,
                    "service": model,
                }
                for model in self._stack.settings.models
            },
        }
