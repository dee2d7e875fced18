"""The plan's drawings, as inline SVG: parts in layers with what they need, and the critical path in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from local.plan import deployment, graph, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local.plan.deployment import CriticalPath
    from local.plan.snapshot import Snapshot
    from local.plan.tables import Durations

_BOX: Final = (138.0, 72.0)
_GAP: Final = (46.0, 18.0)
_LETTERS: Final = 15
_BAR: Final = 22.0
_WIDTH: Final = 1000.0
_LABEL: Final = 300.0
_LEAST: Final = 0.82
"""How far the diagram may be shrunk: its smallest letters are 13.5 px, and below 11 px nobody reads them."""


@dataclass(frozen=True)
class Part:
    """A component in the diagram."""

    name: str
    resources: int
    monthly: float


def needs(snapshot: Snapshot) -> dict[str, dict[str, int]]:
    """Component → component that it needs → how many of its resources' dependencies that are."""
    items = snapshot.by_urn()
    found: dict[str, dict[str, int]] = {item.component: {} for item in snapshot.resources()}
    for urn, waits in deployment.reasons(snapshot).items():
        item = items[urn]
        for other in waits:
            before = items[other]
            if item.component == before.component or "component" in {item.kind, before.kind}:
                continue
            if item.component in found and before.component in found:
                counts = found[item.component]
                counts[before.component] = counts.get(before.component, 0) + 1
    return found


def order(snapshot: Snapshot, durations: Durations) -> list[str]:
    """Components after those that they need; where two need each other, the one that is whole first."""
    items = snapshot.by_urn()
    seconds = {urn: deployment.duration(item, durations) for urn, item in items.items()}
    ends: dict[str, float] = {}
    for urn, end in graph.longest(seconds, deployment.reasons(snapshot)).ends.items():
        item = items[urn]
        if item.kind == "resource":
            ends[item.component] = max(end, ends.get(item.component, 0.0))
    edges, found, left = needs(snapshot), list[str](), sorted(ends, key=lambda name: (ends[name], name))
    while left:
        ready = (name for name in left if not set(edges[name]) - set(found))
        found.append(next(ready, left[0]))
        left.remove(found[-1])
    return found


def reduced(edges: Mapping[str, Mapping[str, int]]) -> dict[str, set[str]]:
    """The edges without those that follow from others."""

    def reach(start: str, without: tuple[str, str]) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            node = left.pop()
            for other in edges.get(node, {}):
                if (node, other) != without and other not in seen:
                    seen.add(other)
                    left.append(other)
        return seen

    return {
        node: {other for other in others if other not in reach(node, (node, other))}
        for node, others in edges.items()
    }


def components(snapshot: Snapshot, monthly: Mapping[str, float], durations: Durations) -> Markup:
    """Parts as boxes, from left to right in the order in which they come to be, with what they need."""
    edges, names = needs(snapshot), order(snapshot, durations)
    place = {name: index for index, name in enumerate(names)}
    # Two parts may need each other's resources: only the lines with the order are laid out and thinned.
    forward = {n: {o: c for o, c in edges[n].items() if place[o] < place[n]} for n in names}
    counts = snapshot.counts()
    rows = graph.layers(forward, names)
    tall = max(map(len, rows), default=0)
    width = len(rows) * (_BOX[0] + _GAP[0]) - _GAP[0] + 4
    height = tall * (_BOX[1] + _GAP[1]) - _GAP[1] + 4
    at: dict[str, tuple[float, float]] = {}
    for column, row in enumerate(rows):
        top = (height - len(row) * (_BOX[1] + _GAP[1]) + _GAP[1]) / 2
        at |= {
            name: (2 + column * (_BOX[0] + _GAP[0]), top + index * (_BOX[1] + _GAP[1]))
            for index, name in enumerate(_settled(row, forward, at))
        }
    kept = reduced(forward)
    parts = [_line(at[name], at[other]) for name in names for other in sorted(kept[name])]
    parts += [_box(at[n], Part(n, counts.get(n, 0), monthly.get(n, 0.0)), edges[n]) for n in names]
    return Markup(
        '<svg class="chart diagram" viewBox="0 0 {:.0f} {:.0f}" style="min-width:{:.0f}px;max-width:{:.0f}px"'
        ' role="img" aria-label="Parts of the platform and what they need">{}</svg>'
    ).format(width, height, max(width, 400) * _LEAST, max(width, 400), Markup("").join(parts))


def timeline(path: CriticalPath) -> Markup:
    """The critical path, a bar for each resource."""
    total = max(path.seconds, 1.0)
    scale = (_WIDTH - _LABEL - 90) / total
    parts: list[Markup] = []
    for index, step in enumerate(path.steps):
        y = index * _BAR
        x = _LABEL + step.start * scale
        name = f"{words.clean(step.type.rpartition(':')[2])} {words.short(step.name, step.component)}"
        parts.append(
            Markup(
                '<g><title>{}</title><text class="lane end" x="{:.1f}" y="{:.1f}">{}</text>'
                '<rect class="fill c1" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="14" rx="3"/>'
                '<text class="label" x="{:.1f}" y="{:.1f}">{}</text></g>'
            ).format(
                step.because,
                _LABEL - 10,
                y + 15,
                name if len(name) < 44 else f"{name[:43]}…",
                x,
                y + 4,
                max(2.0, step.seconds * scale),
                x + max(2.0, step.seconds * scale) + 6,
                y + 15,
                words.minutes(step.seconds),
            )
        )
    height = len(path.steps) * _BAR + 6
    return Markup(
        '<svg class="chart" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="Critical path">{}</svg>'
    ).format(_WIDTH, height, Markup("").join(parts))


def _settled(
    row: Sequence[str], forward: Mapping[str, Mapping[str, int]], at: Mapping[str, tuple[float, float]]
) -> list[str]:
    """A layer's parts, each about as high as what it needs, so that fewer lines cross."""

    def height(name: str) -> float:
        heights = [at[other][1] for other in forward[name] if other in at]
        return sum(heights) / len(heights) if heights else 0.0

    return sorted(row, key=height)


def _line(late: tuple[float, float], early: tuple[float, float]) -> Markup:
    start_x, start_y = early[0] + _BOX[0], early[1] + _BOX[1] / 2
    end_x, end_y = late[0] - 6, late[1] + _BOX[1] / 2
    bend = max(30.0, (end_x - start_x) / 2)
    return Markup(
        '<path class="edge" d="M{:.0f} {:.0f}C{:.0f} {:.0f} {:.0f} {:.0f} {:.0f} {:.0f}"/>'
        '<path class="head" d="M{:.0f} {:.0f}l-7 -4v8z"/>'
    ).format(start_x, start_y, start_x + bend, start_y, end_x - bend, end_y, end_x, end_y, end_x + 5, end_y)


def _box(at: tuple[float, float], part: Part, needed: Mapping[str, int]) -> Markup:
    x, y = at
    hint = ", ".join(f"{name} ({count})" for name, count in sorted(needed.items())) or "nothing"
    name = words.clean(part.name)
    return Markup(
        "<g><title>{} needs {}</title>"
        '<rect class="part" x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}" rx="9"/>'
        '<text class="name" x="{:.0f}" y="{:.0f}">{}</text><text x="{:.0f}" y="{:.0f}">{}</text>'
        '<text x="{:.0f}" y="{:.0f}">{}</text></g>'
    ).format(
        name,
        hint,
        x,
        y,
        *_BOX,
        x + 12,
        y + 24,
        name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…",
        x + 12,
        y + 43,
        words.plural(part.resources, "resource"),
        x + 12,
        y + 61,
        f"{words.money(part.monthly)} a month" if part.monthly >= 0.005 else "",
    )
