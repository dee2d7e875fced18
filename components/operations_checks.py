"""What the settings of workload, observability, security and SageMaker's extras must satisfy together."""

import re
from collections.abc import Iterator
from typing import Final

from components import names
from components.settings import Settings

# Minute, hour, day of the month, month, day of the week: the least and the greatest.
_CRON: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CRON_FIELDS: Final = ("minute", "hour", "day of the month", "month", "day of the week")
_OTHERS_NAMESPACES: Final = frozenset({"amazon-cloudwatch", "aws-observability", "karpenter"})
_NOT_THE_IMAGES: Final = frozenset({"brier"})
"""Metrics of the training script that SageMaker's image does not define, so no tuning job can read them."""


def problems(settings: Settings, region: str) -> list[str]:
    """Everything that is wrong, as sentences that name the keys."""
    return [
        *_fargate(settings),
        *_namespaces(settings),
        *_grpc(settings),
        *_training(settings, region),
        *_security(settings),
        *_production(settings),
    ]


def _fargate(settings: Settings) -> Iterator[str]:
    if settings.workload.compute != "fargate":
        return
    place = "trainserve:workload.compute"
    if settings.security.network_policies:
        yield f"{place}: Fargate enforces no NetworkPolicy: set trainserve:security.networkPolicies to false"
    if settings.security.subject_key:
        yield (
            f"{place}: Fargate has neither Pod Identity nor the secrets driver: "
            "set trainserve:security.subjectKey to false"
        )
    if settings.workload.capture is not None:
        yield f"{place}: Fargate has no Pod Identity: take trainserve:workload.capture away"
    if settings.node_pools.gpu:
        yield f"{place}: Fargate has no GPUs: take trainserve:nodePools.gpu away or set compute to nodes"
    if settings.workload.zone_spread == "require":
        yield f"{place}: Fargate chooses the zone itself: set trainserve:workload.zoneSpread to prefer"


def _namespaces(settings: Settings) -> Iterator[str]:
    taken = {names.MONITORING_NAMESPACE, names.BENCH_NAMESPACE, *_OTHERS_NAMESPACES}
    if settings.workload.namespace in taken:
        yield f"trainserve:workload.namespace: {settings.workload.namespace} is taken by another part"


def _grpc(settings: Settings) -> Iterator[str]:
    if settings.workload.grpc_port is None:
        return
    for model in settings.models:
        if names.grpc_service(model) in settings.models:
            taken = names.grpc_service(model)
            yield f"trainserve:models.{taken}: with workload.grpcPort, so {model}'s Service is called"


def _training(settings: Settings, region: str) -> Iterator[str]:
    training = settings.training
    if training.image is not None and f".ecr.{region}." not in training.image:
        yield f"trainserve:training.image: want an image in aws:region {region}, got {training.image}"
    if training.model_monitor is not None and settings.workload.capture is None:
        yield (
            "trainserve:training.modelMonitor: want trainserve:workload.capture too: "
            "what is captured is all that the monitor sees"
        )
    tuning = training.tuning
    if tuning is None:
        return
    if tuning.parallel_jobs > tuning.max_jobs:
        yield (
            f"trainserve:training.tuning.parallelJobs: want at most maxJobs ({tuning.max_jobs}), "
            f"got {tuning.parallel_jobs}"
        )
    if not training.bootstrap_data:
        yield (
            "trainserve:training.tuning: want trainserve:training.bootstrapData too: "
            "tuning searches over that data"
        )
    for name, model in settings.models.items():
        if training.image is None and model.metric in _NOT_THE_IMAGES and name in training.bootstrap_data:
            yield (
                f"trainserve:models.{name}.metric: SageMaker's image reports no {model.metric}, so "
                "trainserve:training.tuning could not search by it: want another, or leave tuning out"
            )


def _security(settings: Settings) -> Iterator[str]:
    bench = settings.security.kube_bench
    if bench is not None:
        yield from _cron("trainserve:security.kubeBench.schedule", bench.schedule)


def _cron(place: str, schedule: str) -> Iterator[str]:
    for name, text, (low, high) in zip(_CRON_FIELDS, schedule.split(" "), _CRON, strict=True):
        for part in text.split(","):
            found = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?", part)
            numbers = [int(number) for number in found.groups()[:2] if number] if found else [-1]
            if not all(low <= number <= high for number in numbers) or sorted(numbers) != numbers:
                yield f"{place}: want {low} to {high}, a range or * as the {name}, got {part}"


def _production(settings: Settings) -> Iterator[str]:
    if not settings.environment.production:
        return
    suffix = "where trainserve:environment.production is true"
    if settings.environment.alarm_email is None:
        yield f"trainserve:environment.alarmEmail is missing: want somebody who is told {suffix}"
    if settings.workload.compute == "nodes" and not settings.security.network_policies:
        yield f"trainserve:security.networkPolicies: want true {suffix}"
