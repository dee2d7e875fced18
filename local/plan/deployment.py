"""How long a first `pulumi up` takes: the longest chain of resources that wait for each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from local.plan import graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.plan.snapshot import Item, Snapshot
    from local.plan.tables import Durations

_SKIP: Final = "pulumi.com/skipAwait"
_SKIPPED_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """A resource on the critical path; times in seconds from the start."""

    urn: str
    type: str
    name: str
    component: str
    start: float
    seconds: float
    because: str
    """Why it waits for the step before it."""


@dataclass(frozen=True, kw_only=True)
class CriticalPath:
    """The chain that decides how long the deployment takes."""

    seconds: float
    sum_seconds: float
    """Of all resources, one after the other."""
    steps: Sequence[Step]
    dated: str


def critical_path(snapshot: Snapshot, durations: Durations) -> CriticalPath:
    """The longest chain of `snapshot`, by typical durations.

    Raises:
        graph.CycleError: resources that wait for each other.
    """
    items = snapshot.by_urn()
    seconds = {urn: duration(item, durations) for urn, item in items.items()}
    waits = reasons(snapshot)
    found = graph.longest(seconds, waits)
    steps: list[Step] = []
    because: list[str] = []
    for before, urn in zip(("", *found.path), found.path, strict=False):
        item = items[urn]
        if before:
            because.append(waits[urn][before])
        if item.kind != "resource":
            continue
        steps.append(
            Step(
                urn=urn,
                type=item.type,
                name=item.name,
                component=item.component,
                start=found.ends[urn] - seconds[urn],
                seconds=seconds[urn],
                because=", ".join(dict.fromkeys(because)) if steps else "",
            )
        )
        because = []
    return CriticalPath(
        seconds=found.total, sum_seconds=sum(seconds.values()), steps=steps, dated=durations.dated
    )


def duration(item: Item, durations: Durations) -> float:
    """Typical seconds to create `item`; what the program does not wait for is quick."""
    if item.kind == "component" or item.read:
        return 0.0
    if _skips(item):
        return _SKIPPED_S
    if item.type == "aws:ec2/vpcEndpoint:VpcEndpoint" and item.inputs.get("vpcEndpointType") != "Interface":
        return durations.of("aws:ec2/vpcEndpoint:Gateway")
    return durations.of(item.type)


def reasons(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """URN → URN of each that it waits for → why, in the order that the engine keeps.

    A component stands for its registration: it waits for its own dependencies, and its children for it.
    Who depends on a component waits for all that is below it.
    """
    items = snapshot.by_urn()
    below = _descendants(items)
    waits: dict[str, dict[str, str]] = {}
    for urn, item in items.items():
        found: dict[str, str] = {}
        for key, urns in item.property_dependencies.items():
            for other in urns:
                found.setdefault(other, f"input {key}")
        for other in item.dependencies:
            found.setdefault(other, "depends_on")
        if item.provider in items:
            found.setdefault(item.provider, "its provider")
        waits[urn] = _expanded(urn, found, items, below)
        if item.parent in items:
            waits[urn].setdefault(item.parent, "its parent")
    return waits


def _expanded(
    urn: str, found: Mapping[str, str], items: Mapping[str, Item], below: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    above = _ancestors(urn, items)
    result: dict[str, str] = {}
    for other, why in found.items():
        if other == urn or other not in items:
            continue
        if items[other].kind != "component":
            result.setdefault(other, why)
        elif other not in above:  # what is inside a component cannot wait for the whole of it
            for inner in below[other]:
                if inner != urn and inner not in above:
                    result.setdefault(inner, f"{why} on {items[other].name}")
    return result


def _descendants(items: Mapping[str, Item]) -> dict[str, list[str]]:
    """Component → the resources below it, at any depth."""
    below: dict[str, list[str]] = {urn: [] for urn in items}
    for urn, item in items.items():
        if item.kind == "resource":
            for above in _ancestors(urn, items):
                below[above].append(urn)
    return below


def _ancestors(urn: str, items: Mapping[str, Item]) -> list[str]:
    found: list[str] = []
    parent = items[urn].parent
    while parent is not None and parent in items and parent not in found:
        found.append(parent)
        parent = items[parent].parent
    return found


def _skips(item: Item) -> bool:
    metadata: Any = item.inputs.get("metadata") or {}
    annotations: Any = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    skips = isinstance(annotations, Mapping) and annotations.get(_SKIP) == "true"
    return skips or (item.type == "kubernetes:helm.sh/v3:Release" and item.inputs.get("skipAwait") is True)


def to_json(path: CriticalPath) -> dict[str, Any]:
    """As JSON values."""
    return {
        "seconds": path.seconds,
        "sum_seconds": path.sum_seconds,
        "durations_dated": path.dated,
        "steps": [asdict(step) for step in path.steps],
    }
