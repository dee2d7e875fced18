"""How large a pod may be: what asks for more than any node or Fargate has would wait for ever."""

import re
from collections.abc import Iterator
from typing import Final

from components.infra_settings import GIB_PER_CPU, MOST_GIB_PER_CPU, NODE_CPUS, OnDemand, Spot
from components.quantities import cpu_milli, memory_mib
from components.settings import Settings

_CPU_SHARE: Final = 15 / 16
_MEMORY_SHARE: Final = 0.9
"""What a node leaves to pods at the most: its kernel, the kubelet and the daemons have the rest."""

_FARGATE_CPUS: Final = 16
_FARGATE_MIB: Final = 120 * 1024 - 256
"""The largest pod that Fargate sells, without what its own parts take of it."""


def problems(settings: Settings) -> list[str]:
    """Everything that is wrong, as sentences that name the keys."""
    if settings.workload.compute == "fargate":
        return [*_on_fargate(settings)]
    pools = settings.node_pools
    general = {"onDemand": pools.on_demand, **({"spot": pools.spot} if pools.spot else {})}
    return [*_cpu_on_nodes(settings, general), *_memory_on_nodes(settings, general)]


def _on_fargate(settings: Settings) -> Iterator[str]:
    request = settings.workload.cpu_request
    if cpu_milli(request) > _FARGATE_CPUS * 1000:
        yield (
            f"trainserve:workload.cpuRequest: want at most {_FARGATE_CPUS}, for no pod on Fargate has more, "
            f"got {request}"
        )
    yield from _memory(settings, _FARGATE_MIB, "a pod on Fargate has 120 GB, and Fargate takes 256 MB of it")


def _cpu_on_nodes(settings: Settings, general: dict[str, OnDemand | Spot]) -> Iterator[str]:
    largest = max(_largest(pool) for pool in general.values())
    most, request = int(largest * 1000 * _CPU_SHARE), settings.workload.cpu_request
    if cpu_milli(request) <= most:
        return
    if largest == NODE_CPUS[-1]:
        why = f"no node has more than {largest}"
    else:
        keys = (f"trainserve:nodePools.{name}.maxCpus ({pool.max_cpus})" for name, pool in general.items())
        why = f"no node has more than {largest} with {' and '.join(keys)}"
    shown = f"{most // 1000}" if most % 1000 == 0 else f"{most}m"
    yield f"trainserve:workload.cpuRequest: want at most {shown}, for {why}, got {request}"


def _memory_on_nodes(settings: Settings, general: dict[str, OnDemand | Spot]) -> Iterator[str]:
    gib = max(
        _largest(pool) * GIB_PER_CPU.get(_category(family), MOST_GIB_PER_CPU)
        for pool in general.values()
        for family in pool.instance_families
    )
    why = f"the largest node that trainserve:nodePools may start has {gib:g} GiB, and a tenth is its own"
    yield from _memory(settings, int(gib * 1024 * _MEMORY_SHARE), why)


def _memory(settings: Settings, most: int, why: str) -> Iterator[str]:
    workload = settings.workload
    for key, quantity in (("memoryRequest", workload.memory_request), ("memoryLimit", workload.memory_limit)):
        if memory_mib(quantity) > most:
            yield f"trainserve:workload.{key}: want at most {most}Mi, for {why}, got {quantity}"


def _largest(pool: OnDemand | Spot) -> int:
    """The CPUs of the largest node that a pool may start."""
    return max(cpus for cpus in NODE_CPUS if cpus <= pool.max_cpus)


def _category(family: str) -> str:
    return re.split(r"\d", family, maxsplit=1)[0]
