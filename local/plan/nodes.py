"""The nodes that carry a stack's pods, as its Karpenter pools would choose them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from local.plan.compute import ADDONS, RELEASE, WORKLOADS, address, chart_of, memory, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from local.plan.compute import Pods
    from local.plan.snapshot import Item, Snapshot
    from local.plan.tables import Instance, Prices

_USABLE: Final = 0.92
"""The share of a node that pods may have, after what its system keeps."""
FALLBACK: Final = "m7g.large"


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Equal nodes."""

    instance: str
    """Of the spot nodes, if there are any."""
    floor: str
    """Of those on demand."""
    on_demand: int
    spot: int

    @property
    def count(self) -> int:
        """All of them."""
        return self.on_demand + self.spot


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A Karpenter NodePool, as far as its cost goes."""

    name: str
    weight: int
    spot: bool
    on_demand: bool
    gpu: bool
    instances: tuple[str, ...]
    """Those of the price table that it may choose."""


def daemons(snapshot: Snapshot, prices: Prices) -> tuple[float, float]:
    """(vCPU, GiB) that add-ons and charts take of every node."""
    charts = {chart_of(item) for item in [*snapshot.of(*ADDONS), *snapshot.of(RELEASE)]}
    taken = [prices.footprints[chart].daemon for chart in charts if chart in prices.footprints]
    return sum(d.get("vcpu", 0.0) for d in taken), sum(d.get("gib", 0.0) for d in taken)


def disk_gb(snapshot: Snapshot) -> float:
    """The disks of one node in GB, as the first node class has them; 0 if there is none."""
    for item in snapshot.resources():
        if item.type.startswith("kubernetes:karpenter.k8s.aws/") and item.type.endswith(":EC2NodeClass"):
            mappings = (item.inputs.get("spec") or {}).get("blockDeviceMappings") or []
            return sum(memory((of.get("ebs") or {}).get("volumeSize")) for of in mappings)
    return 0.0


def pools(snapshot: Snapshot, prices: Prices) -> list[Pool]:
    """The NodePools, the ones that Karpenter tries first in front."""
    found = [
        _pool(item, prices.instances)
        for item in snapshot.resources()
        if item.type.startswith("kubernetes:karpenter.sh/") and item.type.endswith(":NodePool")
    ]
    return sorted(found, key=lambda pool: (-pool.weight, pool.name))


def nodes(  # noqa: PLR0913  # the load, the machines, and the rules between them
    needed: Iterable[tuple[int, Pods]],
    pool_list: Sequence[Pool],
    prices: Prices,
    each: tuple[float, float],
    fewest: int,
    *,
    spot: bool,
) -> Nodes | None:
    """The cheapest nodes that carry `needed` (how many, of what); None if there is nothing, or no such node.

    One instance type for all, `fewest` at least; daemons take `each` (vCPU, GiB) of every node. With `spot`,
    and a pool for it, all but one are spot: the one is the on-demand floor.
    """
    groups = [(count, group) for count, group in needed if count and not group.gpus]
    if not groups:
        return None
    general = [pool for pool in pool_list if not pool.gpu]
    chosen = [pool for pool in general if (pool.spot if spot else pool.on_demand)] or general
    allowed = {name for pool in chosen for name in pool.instances} or {FALLBACK}
    best: tuple[float, int, str] | None = None
    for name in sorted(allowed):
        instance = prices.instances[name]
        room = instance.vcpu * _USABLE - each[0], instance.gib * _USABLE - each[1]
        if (packed := packed_on(groups, room)) is not None:
            count = max(fewest, packed)
            best = min(best or (math.inf, 0, ""), (count * instance.usd, count, name))
    if best is None:
        return None
    _, count, name = best
    on_spot = count - 1 if spot and any(pool.spot for pool in general) else 0
    if on_spot and not any(pool.on_demand for pool in general):
        on_spot = count
    floor = _floor(name, [pool for pool in general if pool.on_demand], prices) if on_spot else name
    return Nodes(instance=name, floor=floor, on_demand=count - on_spot, spot=on_spot)


def too_large(groups: Sequence[Pods]) -> str:
    """What to say where no node carries all of `groups`."""
    largest = {max(groups, key=lambda group: group.vcpu).name, max(groups, key=lambda group: group.gib).name}
    sizes = [f"{of.name} ({of.vcpu:g} vCPU, {of.gib:g} GiB)" for of in groups if of.name in largest]
    return (
        f"no node type of the price table that the pools may start has room for {', '.join(sizes)}:"
        " no nodes are in this bill"
    )


def _floor(instance: str, pool_list: Iterable[Pool], prices: Prices) -> str:
    """The cheapest type of the pools that is no smaller than `instance`; that one itself if there is none."""
    least = prices.instances[instance]
    large = {
        name: prices.instances[name].usd
        for pool in pool_list
        for name in pool.instances
        if prices.instances[name].vcpu >= least.vcpu and prices.instances[name].gib >= least.gib
    }
    return min(large, key=lambda name: (large[name], name), default=instance)


def fewest_nodes(snapshot: Snapshot) -> int:
    """Two, so that one may go; as many as zones where pods must spread over them."""
    zones = {item.inputs.get("availabilityZone") for item in snapshot.of("aws:ec2/subnet:Subnet")}
    found = 2
    for item in snapshot.of(*WORKLOADS):
        spec: Mapping[str, Any] = item.inputs.get("spec") or {}
        inside: Mapping[str, Any] = (spec.get("template") or {}).get("spec") or {}
        for rule in inside.get("topologySpreadConstraints") or []:
            strict = rule.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
            if strict and rule.get("topologyKey") == "topology.kubernetes.io/zone":
                found = max(found, min(len(zones), int(spec.get("replicas") or 1)))
    return found


def packed_on(groups: Iterable[tuple[int, Pods]], room: tuple[float, float]) -> int | None:
    """How many nodes with `room` (vCPU, GiB) hold the pods, largest first; None if one is too large."""
    left: list[tuple[float, float]] = []
    for count, group in sorted(groups, key=lambda pair: (-pair[1].vcpu, -pair[1].gib, pair[1].name)):
        need = group.vcpu, group.gib
        if need[0] > room[0] or need[1] > room[1]:
            return None
        for _ in range(count):
            fits = (i for i, free in enumerate(left) if free[0] >= need[0] and free[1] >= need[1])
            index = next(fits, len(left))
            free = left.pop(index) if index < len(left) else room
            left.insert(index, (free[0] - need[0], free[1] - need[1]))
    return len(left)


def _pool(item: Item, instances: Mapping[str, Instance]) -> Pool:
    spec: Mapping[str, Any] = item.inputs.get("spec") or {}
    inside: Mapping[str, Any] = (spec.get("template") or {}).get("spec") or {}
    requirements: list[Mapping[str, Any]] = inside.get("requirements") or []
    capacity = {
        value
        for rule in requirements
        if rule.get("key") == "karpenter.sh/capacity-type"
        for value in rule.get("values") or []
    }
    taints = inside.get("taints") or []
    chosen = [name for name, instance in instances.items() if _allowed(name, instance, requirements)]
    gpu = any("nvidia.com/gpu" in str(taint.get("key")) for taint in taints)
    return Pool(
        name=address(item)[1],
        weight=int(spec.get("weight") or 0),
        spot="spot" in capacity,
        on_demand="on-demand" in capacity or not capacity,
        gpu=gpu,
        instances=tuple(name for name in chosen if gpu or not instances[name].gpus),
    )


def _allowed(name: str, instance: Instance, requirements: Iterable[Mapping[str, Any]]) -> bool:
    family, _, size = name.partition(".")
    digits = "".join(character for character in family if character.isdigit())
    facts = {
        "node.kubernetes.io/instance-type": name,
        "kubernetes.io/arch": instance.arch,
        "karpenter.k8s.aws/instance-family": family,
        "karpenter.k8s.aws/instance-size": size,
        "karpenter.k8s.aws/instance-category": family.rstrip("abdefginz0123456789-")[:1] or family[:1],
        "karpenter.k8s.aws/instance-generation": digits,
        "karpenter.k8s.aws/instance-cpu": f"{instance.vcpu:g}",
        "karpenter.k8s.aws/instance-memory": f"{instance.gib * 1024:g}",
    }
    return all(_meets(facts[rule["key"]], rule) for rule in requirements if rule.get("key") in facts)


def _meets(fact: str, rule: Mapping[str, Any]) -> bool:
    values = [str(value) for value in rule.get("values") or []]
    match rule.get("operator"):
        case "In":
            return fact in values
        case "NotIn":
            return fact not in values
        case "Gt":
            return number(fact) > number(values[0])
        case "Lt":
            return number(fact) < number(values[0])
        case _:
            return True
