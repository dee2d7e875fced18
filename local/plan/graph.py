"""Pure functions over directed graphs: node → those that come before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class CycleError(ValueError):
    """The graph has a cycle; the message names nodes of it."""


@dataclass(frozen=True)
class Longest:
    """The longest path, and when each node ends if all run as early as they may."""

    path: tuple[str, ...]
    ends: Mapping[str, float]

    @property
    def total(self) -> float:
        """The path's length: how long the whole takes at least."""
        return max(self.ends.values(), default=0.0)


def ordered(before: Mapping[str, Iterable[str]]) -> list[str]:
    """Every node after those before it; equals in the mapping's order. Unknown predecessors are ignored."""
    waiting = {node: {p for p in earlier if p in before} for node, earlier in before.items()}
    after: dict[str, list[str]] = {node: [] for node in before}
    for node, earlier in waiting.items():
        for one in earlier:
            after[one].append(node)
    ready = [node for node, earlier in waiting.items() if not earlier]
    found: list[str] = []
    for node in ready:
        found.append(node)
        for later in after[node]:
            waiting[later].discard(node)
            if not waiting[later]:
                ready.append(later)
    if len(found) < len(waiting):
        left = [node for node, earlier in waiting.items() if earlier]
        raise CycleError(f"these depend on each other in a circle: {', '.join(left[:5])}")
    return found


def longest(seconds: Mapping[str, float], before: Mapping[str, Iterable[str]]) -> Longest:
    """The longest path through `before`, each node lasting `seconds`.

    Raises:
        CycleError: there is no order.
    """
    ends: dict[str, float] = {}
    through: dict[str, str | None] = {}
    for node in ordered(before):
        last = max((p for p in before[node] if p in ends), key=lambda p: ends[p], default=None)
        through[node] = last
        ends[node] = seconds.get(node, 0.0) + (ends[last] if last is not None else 0.0)
    path: list[str] = []
    node = max(ends, key=lambda n: ends[n], default=None)
    while node is not None:
        path.append(node)
        node = through[node]
    return Longest(tuple(reversed(path)), ends)


def layers(before: Mapping[str, Iterable[str]], order: Sequence[str]) -> list[list[str]]:
    """Nodes in layers, each below all that come before it; edges against `order` are left out of account."""
    position = {node: index for index, node in enumerate(order)}
    level: dict[str, int] = {}
    for node in order:
        earlier = [p for p in before.get(node, ()) if position.get(p, len(order)) < position[node]]
        level[node] = 1 + max((level[p] for p in earlier), default=-1)
    count = max(level.values(), default=-1) + 1
    return [[node for node in order if level[node] == index] for index in range(count)]
