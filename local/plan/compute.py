"""How much a stack computes at a given load: its pods, and the nodes or Fargate pods that carry them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from local.plan.tables import Footprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from local.plan.snapshot import Item, Snapshot
    from local.plan.tables import Instance, Prices

_WORKLOADS: Final = ("kubernetes:apps/v1:Deployment", "kubernetes:apps/v1:StatefulSet")
_SCALER: Final = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
_ADDONS: Final = ("aws:eks/addon:Addon", "eks:index:Addon")
_RELEASE: Final = "kubernetes:helm.sh/v3:Release"
_FARGATE: Final = (
    (0.25, (0.5, 1, 2)),
    (0.5, range(1, 5)),
    (1, range(2, 9)),
    (2, range(4, 17)),
    (4, range(8, 31)),
)
_KUBELET_GIB: Final = 0.25
_USABLE: Final = 0.92
"""The share of a node that pods may have, after what its system keeps."""
FALLBACK: Final = "m7g.large"
_UNKNOWN: Final = Footprint(pods=0, vcpu=0, gib=0, namespace="default", labels={})


@dataclass(frozen=True, kw_only=True)
class Pods:
    """Equal pods of one workload, chart or add-on; vCPU and GiB are what each asks for."""

    name: str
    component: str
    count: int
    peak: int
    """How many there are when the autoscaler is at its end."""
    vcpu: float
    gib: float
    fargate: bool
    gpus: int = 0
    carries: float | None = None
    """Requests a second that the autoscaler's most pods carry; None where load does not matter."""


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Equal nodes."""

    instance: str
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


def pods(snapshot: Snapshot, prices: Prices, load: float, per_core: float) -> list[Pods]:
    """Every pod of the stack at `load` requests a second in all, shared alike by what has an autoscaler."""
    scalers = {_target(item): item for item in snapshot.of(_SCALER)}
    workloads = snapshot.of(*_WORKLOADS)
    scaled = [item for item in workloads if _address(item) in scalers]
    share = load / len(scaled) if scaled else 0.0
    profiles = selectors(snapshot)
    found = [_workload(item, scalers.get(_address(item)), profiles, share, per_core) for item in workloads]
    for item in [*snapshot.of(*_ADDONS), *snapshot.of(_RELEASE)]:
        found += _charted(item, prices, profiles)
    return found


def _charted(item: Item, prices: Prices, profiles: Sequence[Mapping[str, Any]]) -> Iterator[Pods]:
    """The pods of a chart or an add-on: as its values say, else as is typical for it."""
    chart = _chart(item)
    footprint = prices.footprints.get(chart, _UNKNOWN)
    namespace = str(item.inputs.get("namespace") or footprint.namespace)
    typical = [(footprint.pods, footprint.vcpu, footprint.gib)]
    for count, vcpu, gib in list(asked(item.inputs.get("values"))) or typical:
        if count:
            yield Pods(
                name=chart,
                component=item.component,
                count=count,
                peak=count,
                vcpu=vcpu,
                gib=gib,
                fargate=_on_fargate(profiles, namespace, footprint.labels),
            )


def asked(values: object) -> Iterator[tuple[int, float, float]]:
    """(replicas, vCPU, GiB) of everything in a chart's values that says what it requests."""
    if not isinstance(values, Mapping):
        return
    replicas = values.get("replicas", values.get("replicaCount"))
    for of in (values, values.get("controller")):
        requests = (of.get("resources") or {}).get("requests") if isinstance(of, Mapping) else None
        if isinstance(requests, Mapping):
            yield int(_number(str(replicas or 1))), cpu(requests.get("cpu")), memory(requests.get("memory"))
    for key, inner in values.items():
        if key not in {"resources", "controller"}:
            yield from asked(inner)


def daemons(snapshot: Snapshot, prices: Prices) -> tuple[float, float]:
    """(vCPU, GiB) that add-ons and charts take of every node."""
    charts = {_chart(item) for item in [*snapshot.of(*_ADDONS), *snapshot.of(_RELEASE)]}
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


def nodes(
    needed: Iterable[tuple[int, Pods]],
    pool_list: Sequence[Pool],
    prices: Prices,
    taken: tuple[float, float],
    *,
    spot: bool,
) -> Nodes | None:
    """The cheapest nodes that carry `needed` (how many, of what); None if nothing is to be carried.

    One instance type for all; at least two nodes, so that one may go. With `spot`, and a pool for it, all
    but one are spot: the one is the on-demand floor.
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
        room = instance.vcpu * _USABLE - taken[0], instance.gib * _USABLE - taken[1]
        if (packed := packed_on(groups, room)) is not None:
            count = max(2, packed)
            best = min(best or (math.inf, 0, ""), (count * instance.usd, count, name))
    if best is None:
        return None
    _, count, name = best
    on_spot = count - 1 if spot and any(pool.spot for pool in general) else 0
    if on_spot and not any(pool.on_demand for pool in general):
        on_spot = count
    return Nodes(instance=name, on_demand=count - on_spot, spot=on_spot)


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


def fargate_size(vcpu: float, gib: float) -> tuple[float, float]:
    """The Fargate size that a pod gets: the smallest that holds it and the kubelet's share."""
    for size, memories in _FARGATE:
        for memory in memories:
            if size >= vcpu and memory >= gib + _KUBELET_GIB:
                return size, memory
    return vcpu, gib + _KUBELET_GIB


def selectors(snapshot: Snapshot) -> list[Mapping[str, Any]]:
    """The selectors of every Fargate profile."""
    found: list[Mapping[str, Any]] = []
    for item in snapshot.of("aws:eks/fargateProfile:FargateProfile"):
        found += item.inputs.get("selectors") or []
    for item in snapshot.of("eks:index:Cluster"):
        fargate: Any = item.inputs.get("fargate")
        if isinstance(fargate, Mapping):
            found += fargate.get("selectors") or []
    return found


def cpu(quantity: object) -> float:
    """A Kubernetes CPU quantity in cores; 0 for what is none."""
    text = str(quantity or 0)
    try:
        return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    except ValueError:
        return 0.0


def memory(quantity: object) -> float:
    """A Kubernetes memory quantity in GiB; 0 for what is none."""
    text = str(quantity or 0)
    units = {
        "Ki": 2**-20,
        "Mi": 2**-10,
        "Gi": 1.0,
        "Ti": 2.0**10,
        "k": 1e3 / 2**30,
        "M": 1e6 / 2**30,
        "G": 1e9 / 2**30,
    }
    for unit, factor in units.items():
        if text.endswith(unit):
            return _number(text.removesuffix(unit)) * factor
    return _number(text) / 2**30


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _workload(
    item: Item, scaler: Item | None, profiles: Sequence[Mapping[str, Any]], share: float, per_core: float
) -> Pods:
    spec: Mapping[str, Any] = item.inputs.get("spec") or {}
    template: Mapping[str, Any] = spec.get("template") or {}
    inside: Mapping[str, Any] = template.get("spec") or {}
    requests = [(c.get("resources") or {}).get("requests") or {} for c in inside.get("containers") or []]
    limits = [(c.get("resources") or {}).get("limits") or {} for c in inside.get("containers") or []]
    vcpu = sum(cpu(of.get("cpu")) for of in requests)
    count = peak = int(spec.get("replicas") or 1)
    carries: float | None = None
    if scaler is not None:
        low, high, target = _scaling(scaler)
        each = max(vcpu, 0.001) * per_core * target
        count, peak, carries = min(high, max(low, math.ceil(share / each))), high, high * each
    labels: Mapping[str, str] = (template.get("metadata") or {}).get("labels") or {}
    return Pods(
        name=_address(item)[1],
        component=item.component,
        count=count,
        peak=peak,
        vcpu=vcpu,
        gib=sum(memory(of.get("memory")) for of in requests),
        fargate=_on_fargate(profiles, _address(item)[0], labels),
        gpus=int(sum(_number(str(of.get("nvidia.com/gpu", 0))) for of in limits)),
        carries=carries,
    )


def _scaling(scaler: Item) -> tuple[int, int, float]:
    spec: Mapping[str, Any] = scaler.inputs.get("spec") or {}
    target = 1.0
    for metric in spec.get("metrics") or []:
        of: Mapping[str, Any] = metric.get("resource") or {}
        if of.get("name") == "cpu":
            target = float((of.get("target") or {}).get("averageUtilization") or 100) / 100
    return int(spec.get("minReplicas") or 1), int(spec.get("maxReplicas") or 1), target


def _address(item: Item) -> tuple[str, str]:
    metadata: Mapping[str, Any] = item.inputs.get("metadata") or {}
    return str(metadata.get("namespace") or "default"), str(metadata.get("name") or item.name)


def _target(scaler: Item) -> tuple[str, str]:
    spec: Mapping[str, Any] = scaler.inputs.get("spec") or {}
    return _address(scaler)[0], str((spec.get("scaleTargetRef") or {}).get("name"))


def _chart(item: Item) -> str:
    name = item.inputs.get("addonName") or item.inputs.get("chart") or item.name
    return str(name).rsplit("/", 1)[-1]


def _on_fargate(profiles: Iterable[Mapping[str, Any]], namespace: str, labels: Mapping[str, str]) -> bool:
    return any(
        profile.get("namespace") == namespace
        and all(labels.get(key) == value for key, value in (profile.get("labels") or {}).items())
        for profile in profiles
    )


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
        name=_address(item)[1],
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
            return _number(fact) > _number(values[0])
        case "Lt":
            return _number(fact) < _number(values[0])
        case _:
            return True
