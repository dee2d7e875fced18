"""How much a stack computes at a given load: its pods, and what each asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from local.plan.tables import Footprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from local.plan.snapshot import Item, Snapshot
    from local.plan.tables import Prices

WORKLOADS: Final = ("kubernetes:apps/v1:Deployment", "kubernetes:apps/v1:StatefulSet")
_SCALER: Final = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
ADDONS: Final = ("aws:eks/addon:Addon", "eks:index:Addon")
RELEASE: Final = "kubernetes:helm.sh/v3:Release"
_FARGATE: Final = (
    (0.25, (0.5, 1, 2)),
    (0.5, range(1, 5)),
    (1, range(2, 9)),
    (2, range(4, 17)),
    (4, range(8, 31)),
    (8, range(16, 61, 4)),
    (16, range(32, 121, 8)),
)
_KUBELET_GIB: Final = 0.25
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


def pods(snapshot: Snapshot, prices: Prices, load: float, per_core: float) -> list[Pods]:
    """Every pod of the stack at `load` requests a second in all, shared alike by what has an autoscaler."""
    scalers = {_target(item): item for item in snapshot.of(_SCALER)}
    workloads = snapshot.of(*WORKLOADS)
    scaled = [item for item in workloads if address(item) in scalers]
    share = load / len(scaled) if scaled else 0.0
    profiles = selectors(snapshot)
    found = [_workload(item, scalers.get(address(item)), profiles, share, per_core) for item in workloads]
    for item in [*snapshot.of(*ADDONS), *snapshot.of(RELEASE)]:
        found += _charted(item, prices, profiles)
    return found


def _charted(item: Item, prices: Prices, profiles: Sequence[Mapping[str, Any]]) -> Iterator[Pods]:
    """The pods of a chart or an add-on: as its values say, else as is typical for it."""
    chart = chart_of(item)
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
        if isinstance(requests, Mapping) and "storage" not in requests:
            yield int(number(str(replicas or 1))), cpu(requests.get("cpu")), memory(requests.get("memory"))
    for key, inner in values.items():
        if key not in {"resources", "controller"}:
            yield from asked(inner)


def claimed_gb(values: object) -> float:
    """The volumes in GB that a chart's values claim."""
    if not isinstance(values, Mapping):
        return 0.0
    requests = (values.get("resources") or {}).get("requests") if "resources" in values else None
    own = memory(requests.get("storage")) if isinstance(requests, Mapping) else 0.0
    return own + sum(claimed_gb(inner) for key, inner in values.items() if key != "resources")


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
            return number(text.removesuffix(unit)) * factor
    return number(text) / 2**30


def number(text: str) -> float:
    """A number as text; 0 for what is none."""
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
        name=address(item)[1],
        component=item.component,
        count=count,
        peak=peak,
        vcpu=vcpu,
        gib=sum(memory(of.get("memory")) for of in requests),
        fargate=_on_fargate(profiles, address(item)[0], labels),
        gpus=int(sum(number(str(of.get("nvidia.com/gpu", 0))) for of in limits)),
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


def address(item: Item) -> tuple[str, str]:
    """Namespace and name of a Kubernetes object."""
    metadata: Mapping[str, Any] = item.inputs.get("metadata") or {}
    return str(metadata.get("namespace") or "default"), str(metadata.get("name") or item.name)


def _target(scaler: Item) -> tuple[str, str]:
    spec: Mapping[str, Any] = scaler.inputs.get("spec") or {}
    return address(scaler)[0], str((spec.get("scaleTargetRef") or {}).get("name"))


def chart_of(item: Item) -> str:
    """The name of a release's chart, or of an add-on."""
    name = item.inputs.get("addonName") or item.inputs.get("chart") or item.name
    return str(name).rsplit("/", 1)[-1]


def _on_fargate(profiles: Iterable[Mapping[str, Any]], namespace: str, labels: Mapping[str, str]) -> bool:
    return any(
        profile.get("namespace") == namespace
        and all(labels.get(key) == value for key, value in (profile.get("labels") or {}).items())
        for profile in profiles
    )
