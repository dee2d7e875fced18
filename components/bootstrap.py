"""The first model: files beside the program become a data set, and one training job of the program's own.

Every later job comes from events. The job's end is an event like any other's, so it is made last, when
everything that reacts to it is in place.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from components import datasets, names
from components.archives import ROOT
from components.base import PlatformComponent

_SUFFIX: Final = 6


@dataclass(frozen=True, kw_only=True)
class BootstrapArgs:
    """One model's files and the template that its jobs share."""

    stack: str
    model: str
    files: Sequence[str]
    template: Mapping[str, Any]
    data_bucket: pulumi.Input[str]
    artifact_bucket: pulumi.Input[str]
    after: Sequence[pulumi.Resource]
    root: Path = ROOT

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError(f"{self.model}: bootstrap training needs at least one file")


class Bootstrap(PlatformComponent):
    """Uploads the files, writes the data set's manifests and starts the job."""

    TYPE = "trainserve:training:Bootstrap"
    job_name: pulumi.Output[str]
    uploaded: Sequence[pulumi.Resource]

    def __init__(self, name: str, args: BootstrapArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        files = datasets.bootstrap_files(args.root, args.files)
        identity = datasets.bootstrap_hash(args.model, files)
        self.uploaded = [self._upload(file) for file in files]
        request = self._request(files, identity)
        # The request as an object: every change of it gives the object a new version, whose id no other
        # object ever has. So the job's name is new exactly when the job must be replaced, and also after a
        # destroy, when S3 gives the same content another version: names of jobs are never reusable.
        written = self._document(
            "request",
            f"{names.BOOTSTRAP}{args.model}.json",
            pulumi.Output.json_dumps(request, sort_keys=True, indent=1),
            keep=False,
        )
        self.job_name = written.version_id.apply(
            lambda version: bootstrap_job_name(args.stack, args.model, identity, version)
        )
        aws.sagemaker.TrainingJob(
            f"{name}-job",
            training_job_name=self.job_name,
            opts=self.child(depends_on=[*self.uploaded, *args.after]),
            **job_arguments(
                {**request, "CheckpointConfig": self._own_checkpoints(request["CheckpointConfig"])}
            ),
        )
        self.finish("job_name")

    def _upload(self, file: datasets.BootstrapFile) -> aws.s3.BucketObjectv2:
        return aws.s3.BucketObjectv2(
            f"{self._name}-{file.name}",
            bucket=self._args.data_bucket,
            key=file.key(self._args.model),
            source=pulumi.FileAsset(str(file.path)),
            # Later data sets extend this one: it stays when the setting names other files.
            opts=self.child(retain_on_delete=True),
        )

    def _request(self, files: Sequence[datasets.BootstrapFile], identity: str) -> dict[str, Any]:
        """The job's request, without its name, and the manifests that it refers to."""
        model, template = self._args.model, self._args.template
        bucket = pulumi.Output.from_input(self._args.data_bucket)
        manifest = self._document(
            f"manifest-{identity[:8]}",
            f"{names.DATASETS}{model}/{identity}.json",
            bucket.apply(lambda b: _json(datasets.manifest(model, files, b))),
            keep=True,
        )
        listing = self._document(
            f"listing-{identity[:8]}",
            f"{names.DATASETS}{model}/{identity}.sagemaker.json",
            bucket.apply(lambda b: _json(datasets.sagemaker_manifest(model, files, b))),
            keep=True,
        )
        return {
            **template,
            "HyperParameters": {
                **template["HyperParameters"],
                "dataset_hash": identity,
                "manifest_uri": self._uri(manifest),
            },
            "InputDataConfig": [train_channel(self._uri(listing))],
        }

    def _document(
        self, label: str, key: str, content: pulumi.Output[str], *, keep: bool
    ) -> aws.s3.BucketObjectv2:
        return aws.s3.BucketObjectv2(
            f"{self._name}-{label}",
            bucket=self._args.artifact_bucket,
            key=key,
            content=content,
            content_type="application/json",
            opts=self.child(retain_on_delete=keep),
        )

    def _own_checkpoints(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A job resumes from its own checkpoints after an interruption, never from another job's."""
        return {**config, "S3Uri": pulumi.Output.concat(config["S3Uri"], "/", self.job_name)}

    def _uri(self, written: aws.s3.BucketObjectv2) -> pulumi.Output[str]:
        return pulumi.Output.concat("s3://", self._args.artifact_bucket, "/", written.key)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def bootstrap_job_name(stack: str, model: str, identity: str, version: str | None) -> str:
    """The name of a bootstrap job: its data set, and six digits from its request's version on S3."""
    suffix = hashlib.sha256(str(version).encode()).hexdigest()[:_SUFFIX]
    return f"{names.job_prefix(stack)}{model}-{identity[:8]}-{suffix}"


def train_channel(manifest_uri: pulumi.Input[str]) -> dict[str, Any]:
    """The `train` channel of a job: the objects that a SageMaker manifest lists."""
    return {
        "ChannelName": "train",
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "ManifestFile",
                "S3Uri": manifest_uri,
                "S3DataDistributionType": "FullyReplicated",
            }
        },
        "InputMode": "File",
    }


def job_arguments(request: Mapping[str, Any]) -> dict[str, Any]:
    """A `create_training_job` request as arguments of `aws.sagemaker.TrainingJob`."""
    algorithm = request["AlgorithmSpecification"]
    output, resources = request["OutputDataConfig"], request["ResourceConfig"]
    stopping = request["StoppingCondition"]
    return {
        "role_arn": request["RoleArn"],
        "algorithm_specification": {
            "training_image": algorithm["TrainingImage"],
            "training_input_mode": algorithm["TrainingInputMode"],
        },
        "hyper_parameters": request["HyperParameters"],
        "input_data_configs": [
            {
                "channel_name": channel["ChannelName"],
                "input_mode": channel["InputMode"],
                "data_source": {
                    "s3_data_source": {
                        "s3_data_type": channel["DataSource"]["S3DataSource"]["S3DataType"],
                        "s3_uri": channel["DataSource"]["S3DataSource"]["S3Uri"],
                        "s3_data_distribution_type": channel["DataSource"]["S3DataSource"][
                            "S3DataDistributionType"
                        ],
                    }
                },
            }
            for channel in request["InputDataConfig"]
        ],
        "output_data_config": {"s3_output_path": output["S3OutputPath"], "kms_key_id": output["KmsKeyId"]},
        "resource_config": {
            "instance_type": resources["InstanceType"],
            "instance_count": resources["InstanceCount"],
            "volume_size_in_gb": resources["VolumeSizeInGB"],
        },
        "stopping_condition": {
            "max_runtime_in_seconds": stopping["MaxRuntimeInSeconds"],
            "max_wait_time_in_seconds": stopping.get("MaxWaitTimeInSeconds"),
        },
        "enable_managed_spot_training": request["EnableManagedSpotTraining"],
        "enable_inter_container_traffic_encryption": request["EnableInterContainerTrafficEncryption"],
        "checkpoint_config": {"s3_uri": request["CheckpointConfig"]["S3Uri"]},
    }
