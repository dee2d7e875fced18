"""What makes models and images: SageMaker, ECR, CodeBuild; and CloudWatch, which looks on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.realisers.base import Realised, Realiser, Resource, Site
from local.realisers.convert import request

if TYPE_CHECKING:
    from collections.abc import Mapping


def _training_job(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    client = site.client("sagemaker")
    parameters = request(
        client, "create_training_job", {**resource.inputs, "trainingJobName": name}, leave_out={"timeouts"}
    )
    arn = client.create_training_job(**parameters)["TrainingJobArn"]
    return Realised(name, {"arn": arn, "trainingJobName": name, "trainingJobStatus": "InProgress"})


def _package_group(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    client = site.client("sagemaker")
    parameters = request(
        client, "create_model_package_group", {**resource.inputs, "modelPackageGroupName": name}
    )
    arn = client.create_model_package_group(**parameters)["ModelPackageGroupArn"]
    return Realised(name, {"arn": arn, "modelPackageGroupName": name})


def _repository(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    repository = site.client("ecr").create_repository(
        repositoryName=name, imageTagMutability=resource.inputs.get("imageTagMutability") or "MUTABLE"
    )["repository"]
    outputs = {
        "arn": repository["repositoryArn"],
        "name": name,
        "registryId": repository["registryId"],
        "repositoryUrl": repository["repositoryUri"],
    }
    return Realised(name, outputs)


def _lifecycle(site: Site, resource: Resource) -> Realised:
    repository = resource.inputs["repository"]
    site.client("ecr").put_lifecycle_policy(
        repositoryName=repository, lifecyclePolicyText=resource.inputs["policy"]
    )
    return Realised(repository, {})


def _build_project(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    client = site.client("codebuild")
    parameters = request(
        client,
        "create_project",
        {**resource.inputs, "name": name},
        rename={"buildTimeout": "timeoutInMinutes", "queuedTimeout": "queuedTimeoutInMinutes"},
        leave_out={"projectVisibility", "namePrefix"},
    )
    arn = client.create_project(**parameters)["project"]["arn"]
    return Realised(arn, {"arn": arn, "name": name})


def _log_group(site: Site, resource: Resource) -> Realised:
    name, inputs = site.name(resource), resource.inputs
    logs = site.client("logs")
    logs.create_log_group(logGroupName=name)
    if days := inputs.get("retentionInDays"):
        logs.put_retention_policy(logGroupName=name, retentionInDays=days)
    return Realised(name, {"arn": site.plausible.arn(resource, name), "name": name})


def _alarm(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    client = site.client("cloudwatch")
    client.put_metric_alarm(**alarm_request(client, name, resource.inputs))
    return Realised(name, {"arn": site.plausible.arn(resource, name), "name": name})


def alarm_request(client: Any, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401  # of boto3
    """An alarm as `put_metric_alarm` takes it: a query's metric apart from how it is read."""
    queries = [_query(query) for query in inputs.get("metricQueries") or []]
    return request(
        client,
        "put_metric_alarm",
        {**_with_dimensions(inputs), "name": name, "metricQueries": queries or None},
        rename={"name": "alarmName", "metricQueries": "metrics"},
        leave_out={"evaluateLowSampleCountPercentiles"},
    )


def _query(query: Mapping[str, Any]) -> dict[str, Any]:
    metric = query.get("metric")
    if not metric:
        return dict(query)
    read = {key: metric[key] for key in ("period", "stat", "unit") if key in metric}
    named = {key: value for key, value in _with_dimensions(metric).items() if key not in read}
    others = {key: value for key, value in query.items() if key != "metric"}
    return {**others, "metricStat": {"metric": named, **read}}


def _with_dimensions(metric: Mapping[str, Any]) -> dict[str, Any]:
    names: Mapping[str, Any] = metric.get("dimensions") or {}
    return {**metric, "dimensions": [{"name": key, "value": value} for key, value in names.items()]}


REALISERS: Mapping[str, Realiser] = {
    "aws:cloudwatch/logGroup:LogGroup": _log_group,
    "aws:cloudwatch/metricAlarm:MetricAlarm": _alarm,
    "aws:codebuild/project:Project": _build_project,
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": _lifecycle,
    "aws:ecr/repository:Repository": _repository,
    "aws:sagemaker/modelPackageGroup:ModelPackageGroup": _package_group,
    "aws:sagemaker/trainingJob:TrainingJob": _training_job,
}
