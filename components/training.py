"""Training: what every job has in common."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from components import archives, iam, names, versions
from components import settings as s
from components.base import PlatformComponent
from components.steps import declaration

METRICS: Final = {
    "binary": ("auc", "logloss", "accuracy", "brier"),
    "multiclass": ("mlogloss", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
}
"""What a model of each task can be judged by, as the training script has it; the first is the default."""


@dataclass(frozen=True, kw_only=True)
class TrainingArgs:
    """What a caller decides, and where data, artifacts and keys are."""

    region: str
    account_id: pulumi.Input[str]
    settings: s.Training
    models: Mapping[str, s.Model]
    key_arn: pulumi.Input[str]
    data_bucket_arn: pulumi.Input[str]
    artifact_bucket: pulumi.Input[str]
    artifact_bucket_arn: pulumi.Input[str]


class Training(PlatformComponent):
    """The role of training jobs, their code, and a job template for each model."""

    TYPE = "trainserve:training:Training"
    role_arn: pulumi.Output[str]
    templates: dict[str, dict[str, Any]]
    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: TrainingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        role = aws.iam.Role(
            f"{name}-role",
            assume_role_policy=iam.assume_role("sagemaker", args.account_id),
            opts=self.child(),
        )
        statements = [*job_statements(args), *monitor_statements(args), *pipeline_statements(args, role.arn)]
        policy = aws.iam.RolePolicy(
            f"{name}-policy", role=role.id, policy=iam.document(*statements), opts=self.child()
        )
        contents = archives.contents(archives.training_files())
        source = aws.s3.BucketObjectv2(
            f"{name}-source",
            bucket=args.artifact_bucket,
            key=f"{names.SOURCES}training-{archives.digest(contents)[:16]}.tar.gz",
            content_base64=base64.b64encode(archives.tar_gz_bytes(contents)).decode(),
            content_type="application/gzip",
            opts=self.child(),
        )
        image = aws.sagemaker.get_prebuilt_ecr_image_output(
            repository_name=versions.XGBOOST_CONTAINER_REPOSITORY,
            image_tag=versions.XGBOOST_CONTAINER_TAG,
            opts=pulumi.InvokeOutputOptions(parent=self),
        )
        self.role_arn = role.arn
        places = JobPlaces(
            image=args.settings.image or image.registry_path,
            role_arn=role.arn,
            source_uri=pulumi.Output.concat("s3://", args.artifact_bucket, "/", source.key),
            artifact_bucket=args.artifact_bucket,
            key_arn=args.key_arn,
        )
        self.templates = {
            name: job_template(name, model, args.settings, places) for name, model in args.models.items()
        }
        self.ready = [policy, source]
        self.finish("role_arn")


def job_statements(args: TrainingArgs) -> list[iam.Statement]:
    """What a training job may do: read its data, code and champion, write its model and logs."""
    return [
        iam.read_objects("ReadData", args.data_bucket_arn, names.OBJECTS, names.BOOTSTRAP),
        iam.list_bucket("ListData", args.data_bucket_arn),
        iam.read_objects(
            "ReadArtifacts",
            args.artifact_bucket_arn,
            names.DATASETS,
            names.SOURCES,
            names.TRAINING_OUTPUT,
            names.CHECKPOINTS,
        ),
        iam.list_bucket("ListArtifacts", args.artifact_bucket_arn),
        iam.write_objects("WriteModel", args.artifact_bucket_arn, names.TRAINING_OUTPUT, names.CHECKPOINTS),
        iam.use_key("UseKey", args.key_arn),
        _write_job_logs("WriteLogs", args, "TrainingJobs"),
        iam.Statement(
            sid="PublishMetrics",
            actions=["cloudwatch:PutMetricData"],
            resources=["*"],  # no resource level; the namespace narrows it
            conditions={"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
        ),
        iam.Statement(sid="RegistryLogin", actions=["ecr:GetAuthorizationToken"], resources=["*"]),
        iam.Statement(
            sid="PullContainer",
            actions=["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            resources=container_repositories(args.region, args.settings),
        ),
    ]


def monitor_statements(args: TrainingArgs) -> list[iam.Statement]:
    """What SageMaker's monitor reads and writes beside that, where it is on."""
    if args.settings.model_monitor is None:
        return []
    return [
        iam.read_objects("ReadCaptures", args.data_bucket_arn, names.CAPTURES),
        iam.list_bucket("ListCaptures", args.data_bucket_arn),
        iam.write_objects("WriteFindings", args.artifact_bucket_arn, names.MONITORING),
        _write_job_logs("WriteMonitorsLogs", args, "ProcessingJobs"),
        iam.Statement(
            sid="LendKeyToVolumes",
            actions=["kms:CreateGrant"],
            resources=[args.key_arn],
            conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
        ),
    ]


def _write_job_logs(sid: str, args: TrainingArgs, kind: str) -> iam.Statement:
    """Writing to the account's one log group for jobs of a kind, which SageMaker makes with the first."""
    group = pulumi.Output.concat(
        f"arn:aws:logs:{args.region}:", args.account_id, f":log-group:/aws/sagemaker/{kind}*"
    )
    actions = ["CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents"]
    return iam.Statement(sid=sid, actions=[f"logs:{action}" for action in actions], resources=[group])


def pipeline_statements(args: TrainingArgs, role_arn: pulumi.Input[str]) -> list[iam.Statement]:
    """What a pipeline of SageMaker's does with the same role, where there is one: it starts jobs."""
    if not args.settings.pipeline:
        return []
    jobs = pulumi.Output.concat(
        f"arn:aws:sagemaker:{args.region}:", args.account_id, ":training-job/pipelines-*"
    )
    return [
        iam.Statement(
            sid="RunSteps",
            actions=[
                "sagemaker:AddTags",
                "sagemaker:CreateTrainingJob",
                "sagemaker:DescribeTrainingJob",
                "sagemaker:StopTrainingJob",
            ],
            resources=[jobs],
        ),
        iam.Statement(
            sid="PassItself",
            actions=["iam:PassRole"],
            resources=[role_arn],
            conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        ),
    ]


def container_repositories(region: str, settings: s.Training) -> list[str]:
    """The repositories that jobs pull from; AWS's own lie in an account of their own in each region."""
    found: list[str] = []
    if settings.image is None:
        found.append(f"arn:aws:ecr:{region}:*:repository/{versions.XGBOOST_CONTAINER_REPOSITORY}")
    else:
        host, _, name = settings.image.partition("@")[0].partition("/")
        found.append(f"arn:aws:ecr:{region}:{host.split('.')[0]}:repository/{name}")
    if settings.model_monitor is not None:
        found.append(f"arn:aws:ecr:{region}:*:repository/{versions.MODEL_MONITOR_REPOSITORY}")
    return found


@dataclass(frozen=True, kw_only=True)
class JobPlaces:
    """What a job is made of that other resources give."""

    image: pulumi.Input[str]
    role_arn: pulumi.Input[str]
    source_uri: pulumi.Input[str]
    artifact_bucket: pulumi.Input[str]
    key_arn: pulumi.Input[str]


def job_template(name: str, model: s.Model, training: s.Training, places: JobPlaces) -> dict[str, Any]:
    """A `create_training_job` request (boto3's shape) without a name, channels and data set.

    The first job, which the program makes, and every later one, which a function makes, are built from this.
    No metric definitions: SageMaker refuses them for its own images, in script mode too. The metrics stand in
    the bundle, and one a line in the job's log.
    """
    stopping = {"MaxRuntimeInSeconds": training.max_runtime_seconds}
    if training.spot:
        stopping["MaxWaitTimeInSeconds"] = training.max_wait_seconds
    location = pulumi.Output.concat("s3://", places.artifact_bucket, "/")
    return {
        "AlgorithmSpecification": {
            "TrainingImage": places.image,
            "TrainingInputMode": "File",
        },
        "RoleArn": places.role_arn,
        "HyperParameters": {
            **hyperparameters(name, model),
            "output_uri": pulumi.Output.concat(location, names.TRAINING_OUTPUT, name),
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": places.source_uri,
        },
        "OutputDataConfig": {
            "S3OutputPath": pulumi.Output.concat(location, names.TRAINING_OUTPUT, name),
            "KmsKeyId": places.key_arn,
        },
        "ResourceConfig": {
            "InstanceType": training.instance_type,
            "InstanceCount": 1,
            "VolumeSizeInGB": training.volume_gb,
        },
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": training.spot,
        "CheckpointConfig": {"S3Uri": pulumi.Output.concat(location, names.CHECKPOINTS, name)},
        "EnableInterContainerTrafficEncryption": True,
    }


def hyperparameters(name: str, model: s.Model) -> dict[str, str]:
    """The model's settings as SageMaker's flat text values; lists and numbers as JSON."""
    values: dict[str, Any] = {
        "model": name,
        "target": model.target,
        "task": model.task,
        "unknown_category": model.unknown_category,
        "holdout_fraction": model.holdout_fraction,
        "metric": model.metric or METRICS[model.task][0],
        "steps": [declaration(step) for step in model.steps],
        "drop": list(model.drop),
    }
    if model.categorical is not None:
        values["categorical"] = list(model.categorical)
    values.update(model.hyperparameters)
    return {
        key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for key, value in values.items()
    }
