"""The report's charts: small pure functions from figures to inline SVG.

Colours are classes (`ours`, `fast`, `floor`, `peer`): the style sheet decides them for light and dark.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WIDTH: Final = 1000.0
_ROW: Final = 26.0
_CHAR: Final = 6.6  # a character of the charts' 12-pixel type, on average and a little


@dataclass(frozen=True)
class Bar:
    """A labelled value; `said` is how it is written at the bar's end."""

    label: str
    value: float
    said: str
    colour: str


@dataclass(frozen=True)
class Spread:
    """Three percentiles of one thing, in milliseconds."""

    label: str
    p50: float
    p95: float
    p99: float
    colour: str


def bars(items: Sequence[Bar], title: str, *, width: float = _WIDTH) -> Markup:
    """Horizontal bars on a common scale from 0."""
    if not items:
        return Markup("")
    left = _left(item.label for item in items)
    room = width - left - _CHAR * max(len(item.said) for item in items) - 14
    top = max(item.value for item in items) or 1.0
    parts = list[Markup]()
    for index, item in enumerate(items):
        middle = index * _ROW + _ROW / 2
        long = max(1.5, room * item.value / top)
        shape = Markup('<rect class="fill {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="16" rx="3"/>')
        parts += [
            _text(left - 10, middle + 4, item.label, "name end"),
            shape.format(item.colour, left, middle - 8, long),
            _text(left + long + 6, middle + 4, item.said, "figure"),
        ]
    return _svg(parts, width, len(items) * _ROW, title)


def spreads(items: Sequence[Spread], title: str, *, width: float = _WIDTH) -> Markup:
    """A line from p50 to p99 with a mark at each percentile, on a logarithmic scale."""
    items = [item for item in items if item.p50 > 0]
    if not items:
        return Markup("")
    levels = decades(min(item.p50 for item in items), max(item.p99 for item in items))
    left, right = _left(item.label for item in items), 150.0
    low, span = math.log(levels[0]), math.log(levels[-1] / levels[0])

    def x(value: float) -> float:
        return left + (width - left - right) * (math.log(max(value, levels[0])) - low) / span

    height = len(items) * _ROW
    grid = Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1:.0f}"/>')
    shown = levels if len(levels) <= 10 else levels[::3]
    parts = [grid.format(x(level), height) for level in shown]
    parts += [_text(x(level), height + 16, f"{level:g}", "middle") for level in shown]
    for index, item in enumerate(items):
        middle = index * _ROW + _ROW / 2
        line = Markup('<line class="stroke {}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>')
        dot = Markup('<circle class="fill {}" cx="{:.1f}" cy="{:.1f}" r="{}"/>')
        tick = Markup('<rect class="fill {}" x="{:.1f}" y="{:.1f}" width="3" height="14"/>')
        said = " / ".join(short(value) for value in (item.p50, item.p95, item.p99))
        parts += [
            _text(left - 10, middle + 4, item.label, "name end"),
            line.format(item.colour, x(item.p50), x(item.p99), middle, middle),
            dot.format(item.colour, x(item.p50), middle, 3.5),
            dot.format(item.colour, x(item.p95), middle, 6),
            tick.format(item.colour, x(item.p99) - 1.5, middle - 7),
            _text(width - right + 16, middle + 4, said, "figure"),
        ]
    return _svg(parts, width, height + 22, title)


def decades(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20 … from the one at or below `low` to the one at or above `high` (both positive)."""
    ladder = [base * 10.0**power for power in range(-4, 7) for base in (1, 2, 5)]
    first = max((index for index, value in enumerate(ladder) if value <= low), default=0)
    last = min((index for index, value in enumerate(ladder) if value >= high), default=len(ladder) - 1)
    return ladder[first : max(last, first + 1) + 1]


def short(value: float) -> str:
    """Three digits that matter: 0.812, 4.52, 61.3, 1,490."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2f}"


def _left(labels: Iterable[str]) -> float:
    return 16 + _CHAR * max(len(label) for label in labels)


def _text(x: float, y: float, text: str, style: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(style, x, y, text)


def _svg(parts: Iterable[Markup], width: float, height: float, title: str) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>'
    ).format(width, height, title, Markup("").join(parts))
