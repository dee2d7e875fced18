"""The plan as one self-contained page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local import charts
from local.page import Tile
from local.plan import diagram, tables, words
from local.templating import templates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.plan.plan import Plan
    from local.plan.snapshot import Item


@dataclass(frozen=True)
class Branch:
    """A part of the platform in the tree: its types, and of each the resources."""

    name: str
    count: int
    monthly: float
    kinds: Sequence[tuple[str, Sequence[Item]]]


def render(plan: Plan) -> str:
    """The page."""
    monthly = plan.cost.by_component()
    return (
        templates()
        .get_template("plan.html.j2")
        .render(
            plan=plan,
            tiles=tiles(plan),
            diagram=diagram.components(plan.snapshot, monthly, tables.durations()),
            timeline=diagram.timeline(plan.path),
            branches=branches(plan),
            monthly=monthly,
            lines=sorted(plan.cost.lines, key=lambda line: -line.monthly),
            words=words,
        )
    )


def tiles(plan: Plan) -> list[Tile]:
    """The headline figures."""
    cost, path, findings = plan.cost, plan.path, plan.snapshot.findings
    mandatory = sum(finding.level == "mandatory" for finding in findings)
    kinds = Counter(item.type.split(":")[0] for item in plan.snapshot.resources())
    by_kind = {kind: sum(line.monthly for line in cost.lines if line.kind == kind) for kind in _KINDS}
    parts = [(label, by_kind[kind], css) for kind, (label, css) in _KINDS.items()]
    return [
        Tile(
            label="Resources",
            value=f"{len(plan.snapshot.resources()):,}",
            note=", ".join(f"{count} {words.clean(name)}" for name, count in kinds.most_common(3)),
        ),
        Tile(
            label="A month",
            value=words.money(cost.monthly),
            note=", ".join(f"{words.money(usd)} {label}" for label, usd, _ in parts if usd),
            chart=charts.split(parts),
        ),
        Tile(
            label="A million predictions",
            value=words.money(cost.per_million),
            note=f"at {cost.assumptions.requests_per_second:,.0f} a second;"
            f" pods and nodes alone {words.money(cost.compute_per_million)}",
        ),
        Tile(
            label="First deployment",
            value=f"{path.seconds / 60:.0f}",
            unit="min",
            note=f"{words.minutes(path.sum_seconds)} one after the other",
        ),
        Tile(
            label="Policy findings",
            value=str(len(findings)),
            note=f"{mandatory} of them mandatory" if findings else "every rule is kept",
            tone="bad" if mandatory else "" if findings else "good",
        ),
    ]


_KINDS = {
    "fixed": ("by being there", "c1"),
    "compute": ("pods and nodes", "c2"),
    "usage": ("by assumed use", "c3"),
}


def branches(plan: Plan) -> list[Branch]:
    """The resource tree."""
    monthly, found = plan.cost.by_component(), list[Branch]()
    for component, count in plan.snapshot.counts().items():
        kinds: dict[str, list[Item]] = {}
        for item in plan.snapshot.resources():
            if item.component == component:
                kinds.setdefault(item.type, []).append(item)
        ordered = sorted(kinds.items(), key=lambda pair: words.kind(pair[0]))
        found.append(Branch(component, count, monthly.get(component, 0.0), ordered))
    return found
