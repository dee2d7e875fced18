"""What settings must satisfy together: each check yields sentences that name the keys involved."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from components import addresses, infra_checks, model_checks, operations_checks, pod_checks
from components.names import DRAIN_MARGIN_S
from components.quantities import cpu_milli, memory_mib
from components.section import NAME_PATTERN
from components.settings import MAX_STACK_LENGTH, Settings
from components.tagging import FOREIGN, RESERVED

_LONGEST_HEADER: Final = 1 << 16
_LONGEST_PATH: Final = 1000
_LONGEST_NAME: Final = 255
_DATA_SUFFIXES: Final = (".csv", ".parquet")


def problems(settings: Settings, stack: str, region: str, root: Path) -> list[str]:
    """Everything that is wrong between settings; paths of files are relative to `root`."""
    return [
        *_stack(settings, stack),
        *_network(settings, region),
        *_cluster(settings),
        *_production(settings),
        *_training(settings, root),
        *_workload(settings),
        *pod_checks.problems(settings),
        *infra_checks.problems(settings, region),
        *operations_checks.problems(settings, region),
        *_tags(settings),
        *model_checks.problems(settings),
    ]


def _stack(settings: Settings, stack: str) -> Iterator[str]:
    if len(stack) > MAX_STACK_LENGTH or not re.fullmatch(NAME_PATTERN, stack):
        yield (
            f"the stack's name {stack!r}: want at most {MAX_STACK_LENGTH} lower-case letters, digits and "
            "single hyphens, starting with a letter (training jobs are named after it)"
        )
    if stack.rsplit("-", 1)[-1] in {"prod", "production"} and not settings.environment.production:
        yield f"trainserve:environment.production: want true for a stack that is called {stack}"


def _network(settings: Settings, region: str) -> Iterator[str]:
    network = addresses.network(settings.network.cidr)
    if network is None:
        yield f"trainserve:network.cidr: {addresses.fault(settings.network.cidr)}"
    elif not 16 <= network.prefixlen <= 20 or not addresses.is_private(network):
        yield f"trainserve:network.cidr: want a private network from /16 to /20, got {settings.network.cidr}"
    zones = settings.network.availability_zones
    if len(set(zones)) != len(zones):
        yield f"trainserve:network.availabilityZones: want different zones, got {', '.join(zones)}"
    for index, zone in enumerate(zones):
        if zone[:-1] != region:
            yield (
                f"trainserve:network.availabilityZones[{index}]: want a zone of aws:region "
                f"{region or '(not set)'}, got {zone}"
            )


def _cluster(settings: Settings) -> Iterator[str]:
    seen: list[tuple[int, addresses.IPv4Network]] = []
    for index, text in enumerate(settings.cluster.public_access_cidrs):
        place = f"trainserve:cluster.publicAccessCidrs[{index}]"
        network = addresses.network(text)
        if network is None:
            yield f"{place}: {addresses.fault(text)}"
            continue
        if addresses.is_private(network):
            yield f"{place}: {text} is private: it reaches the private endpoint without being listed"
        if settings.environment.production and network.prefixlen < 16:
            yield f"{place}: {text} is too wide for production: want /16 or narrower"
        for other, earlier in seen:
            if network.overlaps(earlier):
                yield f"{place}: {text} overlaps publicAccessCidrs[{other}] {earlier}"
        seen.append((index, network))
    kinds = settings.cluster.log_types
    if len(set(kinds)) != len(kinds):
        yield f"trainserve:cluster.logTypes: want each type once, got {', '.join(kinds)}"


def _production(settings: Settings) -> Iterator[str]:
    if not settings.environment.production:
        return
    if not settings.environment.protect:
        yield "trainserve:environment.protect: want true where trainserve:environment.production is true"
    if settings.storage.force_destroy:
        yield "trainserve:storage.forceDestroy: want false where trainserve:environment.production is true"
    if not settings.network.nat_per_zone:
        yield "trainserve:network.natPerZone: want true where trainserve:environment.production is true"
    if settings.workload.min_replicas < 2:
        yield (
            "trainserve:workload.minReplicas: want 2 or more where trainserve:environment.production is true"
        )
    if settings.workload.memory_request != settings.workload.memory_limit:
        yield (
            "trainserve:workload.memoryRequest: want the same as memoryLimit "
            f"({settings.workload.memory_limit}) where trainserve:environment.production is true"
        )


def _training(settings: Settings, root: Path) -> Iterator[str]:
    training = settings.training
    if training.spot and training.max_wait_seconds < training.max_runtime_seconds:
        yield (
            "trainserve:training.maxWaitSeconds: want at least maxRuntimeSeconds "
            f"({training.max_runtime_seconds}) with spot, got {training.max_wait_seconds}"
        )
    for name, files in training.bootstrap_data.items():
        place = f"trainserve:training.bootstrapData.{name}"
        if name not in settings.models:
            yield f"{place}: want a name from trainserve:models ({', '.join(settings.models)}), got {name}"
        if not files:
            yield f"{place}: want at least one file; leave the model out to train it on its first upload"
        if len(set(files)) != len(files):
            yield f"{place}: want each file once"
        for index, file in enumerate(files):
            model = settings.models.get(name)
            yield from _bootstrap_file(f"{place}[{index}]", file, root, model.target if model else None)


def _bootstrap_file(place: str, file: str, root: Path, target: str | None) -> Iterator[str]:
    path = root / file
    longest = max(map(len, path.parts))
    if len(file) > _LONGEST_PATH or longest > _LONGEST_NAME or not file.isprintable():
        limits = f"{_LONGEST_PATH} printable characters, {_LONGEST_NAME} each part"
        yield f"{place}: want a path of at most {limits}"
    elif "://" in file:
        yield (
            f"{place}: want a file beside the program, got {file}; copy what is on S3 already to "
            "incoming/<model>/ of the data bucket, and that upload trains the model"
        )
    elif path.suffix not in _DATA_SUFFIXES:
        yield f"{place}: want a .csv or .parquet file, got {file}"
    elif not path.is_file():
        yield f"{place}: there is no file {file} (paths are relative to the program's folder)"
    elif not path.stat().st_size:
        yield f"{place}: {file} is empty"
    elif target is not None and path.suffix == ".csv" and target not in (columns := _header(path)):
        there = ", ".join(columns) or "none"
        yield f"{place}: {file} has no column {target}, the model's target; it has {there}"


def _header(path: Path) -> list[str]:
    """The column names of a CSV file; none if it is no text."""
    with path.open("rb") as file:
        first = file.readline(_LONGEST_HEADER)
    try:
        return next(csv.reader([first.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def _workload(settings: Settings) -> Iterator[str]:
    workload = settings.workload
    if workload.min_replicas > workload.max_replicas:
        yield (
            f"trainserve:workload.minReplicas: want at most maxReplicas ({workload.max_replicas}), "
            f"got {workload.min_replicas}"
        )
    if not workload.min_replicas <= workload.replicas <= workload.max_replicas:
        yield (
            f"trainserve:workload.replicas: want from minReplicas ({workload.min_replicas}) to maxReplicas "
            f"({workload.max_replicas}), got {workload.replicas}"
        )
    if workload.pre_stop_seconds + DRAIN_MARGIN_S >= workload.grace_period_seconds:
        yield (
            f"trainserve:workload.preStopSeconds: want at least {DRAIN_MARGIN_S + 1} less than "
            f"gracePeriodSeconds ({workload.grace_period_seconds}), for a pod answers what it has begun "
            f"in what is left, got {workload.pre_stop_seconds}"
        )
    if cpu_milli(workload.cpu_request) > cpu_milli(workload.cpu_limit):
        yield (
            f"trainserve:workload.cpuRequest: want at most cpuLimit ({workload.cpu_limit}), "
            f"got {workload.cpu_request}"
        )
    if memory_mib(workload.memory_request) > memory_mib(workload.memory_limit):
        yield (
            f"trainserve:workload.memoryRequest: want at most memoryLimit ({workload.memory_limit}), "
            f"got {workload.memory_request}"
        )
    if workload.namespace == "default" or workload.namespace.startswith("kube-"):
        yield f"trainserve:workload.namespace: want a namespace of its own, got {workload.namespace}"


def _tags(settings: Settings) -> Iterator[str]:
    reserved = {name.lower() for name in RESERVED}
    seen: set[str] = set()
    for name in settings.tags:
        place, low = f"trainserve:tags.{name}", name.lower()
        if low in reserved:
            yield f"{place}: the program sets this tag itself ({', '.join(sorted(RESERVED))})"
        elif low in seen:
            yield f"{place}: IAM does not tell it from a tag that differs in case only: want one of them"
        if low.startswith(FOREIGN):
            yield f"{place}: tags like {', '.join(FOREIGN)} are set by AWS and by controllers only"
        seen.add(low)
