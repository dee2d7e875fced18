"""SageMaker's optional parts, each behind its setting: tuning, a pipeline, its own model monitor.

The loop uses none of them yet: it trains by events, and looks for drift by itself. They are declared with
definitions that SageMaker accepts, for those who start them by hand.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from components import names, versions
from components import settings as s
from components.base import PlatformComponent

PIPELINE_VERSION: Final = "2020-12-01"
_TUNING_NAME: Final = 32
"""SageMaker's limit on a tuning job's name."""

GREATER_IS_BETTER: Final = frozenset({"auc", "accuracy", "r2"})
"""As the training script has it; an image of one's own may have more of XGBoost's."""

_GREATER: Final = GREATER_IS_BETTER | {"aucpr", "map", "ndcg"}
_MONITOR_RUNTIME_S: Final = 1800
_DAY_H: Final = 24


@dataclass(frozen=True, kw_only=True)
class SageMakerExtrasArgs:
    """What a caller decides, and what every job has in common."""

    stack: str
    settings: s.Training
    models: Mapping[str, s.Model]
    templates: Mapping[str, Mapping[str, Any]]
    role_arn: pulumi.Input[str]
    data_bucket: pulumi.Input[str]
    artifact_bucket: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    after: Sequence[pulumi.Resource]
    """The role's rights, the code and the data: a tuning job starts at once, a monitor's within the hour."""


class SageMakerExtras(PlatformComponent):
    """What of it the settings ask for, for each model."""

    TYPE = "trainserve:training:SageMakerExtras"

    def __init__(
        self, name: str, args: SageMakerExtrasArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        for model in args.models:
            if args.settings.tuning is not None and model in args.settings.bootstrap_data:
                self._tuning(model, args.settings.tuning)
            if args.settings.pipeline:
                self._pipeline(model)
            if args.settings.model_monitor is not None:
                self._monitor(model, args.settings.model_monitor)
        self.finish()

    def _tuning(self, model: str, tuning: s.Tuning) -> None:
        """A search over the bootstrap data; its jobs have names of their own, so none is ever released.

        A tuning job's name cannot be used again: after a destroy, change a setting of it before `up`.
        """
        template = self._args.templates[model]
        metric = str(template["HyperParameters"]["metric"])
        identity = {
            "stack": self._args.stack,
            "model": model,
            "tuning": tuning.model_dump(),
            "hyperparameters": template["HyperParameters"],
        }
        name = pulumi.Output.json_dumps(identity, sort_keys=True).apply(tuning_name)
        aws.sagemaker.HyperParameterTuningJob(
            f"{self._name}-tuning-{model}",
            name=name,
            config={
                "strategy": "Bayesian",
                "training_job_early_stopping_type": "Auto",
                "objective": {
                    "type": "Maximize" if metric in _GREATER else "Minimize",
                    "metric_name": f"validation:{metric}",  # the image's own definition reads train.py's line
                },
                "resource_limits": {
                    "max_number_of_training_jobs": tuning.max_jobs,
                    "max_parallel_training_jobs": tuning.parallel_jobs,
                },
                "parameter_ranges": parameter_ranges(),
            },
            training_job_definition=self._tuned_job(model, template),
            opts=self.child(depends_on=self._args.after),
        )

    def _tuned_job(self, model: str, template: Mapping[str, Any]) -> Any:  # noqa: ANN401  # the SDK's dictionary
        algorithm, resources = template["AlgorithmSpecification"], template["ResourceConfig"]
        output, stopping = template["OutputDataConfig"], template["StoppingCondition"]
        searched = {"eta", "max_depth"}
        return {
            "role_arn": template["RoleArn"],
            "algorithm_specification": {
                "training_image": algorithm["TrainingImage"],
                "training_input_mode": algorithm["TrainingInputMode"],
            },
            "static_hyper_parameters": {
                key: value for key, value in template["HyperParameters"].items() if key not in searched
            },
            "input_data_configs": [
                {
                    "channel_name": "train",
                    "input_mode": "File",
                    "data_source": {
                        "s3_data_source": {
                            "s3_data_type": "S3Prefix",
                            "s3_uri": self._uri(self._args.data_bucket, f"{names.BOOTSTRAP}{model}/"),
                            "s3_data_distribution_type": "FullyReplicated",
                        }
                    },
                }
            ],
            "output_data_config": {
                "s3_output_path": output["S3OutputPath"],
                "kms_key_id": output["KmsKeyId"],
            },
            "resource_config": {
                "instance_type": resources["InstanceType"],
                "instance_count": resources["InstanceCount"],
                "volume_size_in_gb": resources["VolumeSizeInGB"],
            },
            "stopping_condition": {
                "max_runtime_in_seconds": stopping["MaxRuntimeInSeconds"],
                "max_wait_time_in_seconds": stopping.get("MaxWaitTimeInSeconds"),
            },
            "enable_managed_spot_training": template["EnableManagedSpotTraining"],
            "enable_inter_container_traffic_encryption": True,
            "checkpoint_config": {"s3_uri": template["CheckpointConfig"]["S3Uri"]},
        }

    def _pipeline(self, model: str) -> None:
        definition = pulumi.Output.json_dumps(pipeline(self._args.templates[model]), sort_keys=True)
        name = f"trainserve-{self._args.stack}-{model}"
        aws.sagemaker.Pipeline(
            f"{self._name}-pipeline-{model}",
            pipeline_name=name,
            pipeline_display_name=name,
            pipeline_description=f"Trains {model} on the data set of one manifest",
            pipeline_definition=definition,
            role_arn=self._args.role_arn,
            opts=self.child(depends_on=self._args.after),
        )

    def _monitor(self, model: str, monitor: s.ModelMonitor) -> None:
        args = self._args
        image = aws.sagemaker.get_prebuilt_ecr_image_output(
            repository_name=versions.MODEL_MONITOR_REPOSITORY,
            opts=pulumi.InvokeOutputOptions(parent=self),
        )
        job = aws.sagemaker.DataQualityJobDefinition(
            f"{self._name}-monitor-{model}",
            role_arn=args.role_arn,
            data_quality_app_specification={"image_uri": image.registry_path},
            data_quality_job_input={
                "batch_transform_input": {
                    "data_captured_destination_s3_uri": self._uri(
                        args.data_bucket, f"{names.CAPTURES}{model}/"
                    ),
                    "dataset_format": {"json": {"line": True}},
                    "local_path": "/opt/ml/processing/input",
                }
            },
            data_quality_job_output_config={
                "kms_key_id": args.key_arn,
                "monitoring_outputs": {
                    "s3_output": {
                        "local_path": "/opt/ml/processing/output",
                        "s3_uri": self._uri(args.artifact_bucket, f"{names.MONITORING}{model}"),
                        "s3_upload_mode": "EndOfJob",
                    }
                },
            },
            job_resources={
                "cluster_config": {
                    "instance_count": 1,
                    "instance_type": monitor.instance_type,
                    "volume_size_in_gb": 20,
                    "volume_kms_key_id": args.key_arn,
                }
            },
            stopping_condition={"max_runtime_in_seconds": _MONITOR_RUNTIME_S},
            network_config={"enable_inter_container_traffic_encryption": True},
            opts=self.child(depends_on=args.after),
        )
        aws.sagemaker.MonitoringSchedule(
            f"{self._name}-monitor-{model}",
            monitoring_schedule_config={
                "monitoring_type": "DataQuality",
                "monitoring_job_definition_name": job.name,
                "schedule_config": {"schedule_expression": monitor_cron(monitor.schedule_hours)},
            },
            opts=self.child(),
        )

    def _uri(self, bucket: pulumi.Input[str], key: str) -> pulumi.Output[str]:
        return pulumi.Output.concat("s3://", bucket, "/", key)


def tuning_name(identity: str) -> str:
    """A name that changes with what is searched, and that no rule takes for a job of the loop."""
    return f"ts-{hashlib.sha256(identity.encode()).hexdigest()}"[:_TUNING_NAME]


def parameter_ranges() -> Any:  # noqa: ANN401  # the SDK's own dictionary
    """How fast and how deep: what matters most for boosted trees."""
    return {
        "continuous_parameter_ranges": [
            {"name": "eta", "min_value": "0.02", "max_value": "0.5", "scaling_type": "Logarithmic"}
        ],
        "integer_parameter_ranges": [
            {"name": "max_depth", "min_value": "3", "max_value": "10", "scaling_type": "Linear"}
        ],
    }


def pipeline(template: Mapping[str, Any]) -> dict[str, Any]:
    """A pipeline of one training step on the manifest that an execution names, in SageMaker's own form."""
    arguments = {
        **template,
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "InputMode": "File",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "ManifestFile",
                        "S3Uri": {"Get": "Parameters.Manifest"},
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
        ],
    }
    return {
        "Version": PIPELINE_VERSION,
        "Parameters": [{"Name": "Manifest", "Type": "String"}],
        "Steps": [{"Name": "Train", "Type": "Training", "Arguments": arguments}],
    }


def monitor_cron(hours: int) -> str:
    """Every so many hours in the form that monitoring schedules take: hourly, or from midnight on."""
    return (
        "cron(0 * ? * * *)"
        if hours == 1
        else f"cron(0 0/{hours} ? * * *)"
        if hours < 24
        else "cron(0 0 ? * * *)"
    )
