"""The report's charts: small pure functions from numbers to inline SVG.

Colours are classes (`c1` … `c6`, `bad`, `muted`), so the page's style sheet decides them for light and dark.
Charts over time share one frame: the same moment lies at the same place in each of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH, LEFT, RIGHT = 1000.0, 92.0, 16.0
_CHAR, _BOLD = 6.4, 7.3  # a character of the charts' 11-pixel type, on average and a little
_LANE = 30.0


@dataclass(frozen=True)
class Frame:
    """The time axis: `start` … `end` (seconds) over the width of the chart."""

    start: float
    end: float

    def x(self, at: float) -> float:
        """Where a moment lies, kept within the frame."""
        share = (at - self.start) / max(self.end - self.start, 1e-9)
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, share))


@dataclass(frozen=True)
class Span:
    """A bar of the timeline. Without an end it is a moment."""

    lane: str
    label: str
    start: float
    end: float | None = None
    colour: str = "muted"
    note: str = ""


@dataclass(frozen=True)
class Band:
    """A stretch of time marked behind a chart, such as a rollout."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Line:
    """A named line; a NaN breaks it."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


def steps(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers between `low` and `high`, about `count` of them."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    raw = span / max(count, 1)
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20 … from the one at or below `low` to the one at or above `high` (both positive)."""
    ladder = [base * 10.0**power for power in range(-3, 8) for base in (1, 2, 5)]
    first = max((index for index, value in enumerate(ladder) if value <= low), default=0)
    last = min((index for index, value in enumerate(ladder) if value >= high), default=len(ladder) - 1)
    return ladder[first : max(last, first + 1) + 1]


def number(value: float) -> str:
    """As short as it can be said: 0.5, 12, 1,500."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def timeline(spans: Sequence[Span], bands: Sequence[Band], frame: Frame) -> Markup:
    """Bars in lanes, in the lanes' order of appearance; a moment is a diamond."""
    lanes = list(dict.fromkeys(span.lane for span in spans))
    height = len(lanes) * _LANE + 6
    parts = [_bands(bands, frame, 0, height), _time_grid(frame, height)]
    for index, lane in enumerate(lanes):
        middle = 3 + index * _LANE + _LANE / 2
        parts.append(_text(LEFT - 12, middle + 4, lane, "lane end"))
        members = sorted((span for span in spans if span.lane == lane), key=lambda span: span.start)
        for position, span in enumerate(members):
            limit = frame.x(members[position + 1].start) if position + 1 < len(members) else WIDTH
            parts.append(_bar(span, frame, middle, limit))
    return _svg(parts, height + 24, "Timeline: " + ", ".join(lanes))


def _bar(span: Span, frame: Frame, middle: float, limit: float) -> Markup:
    x = frame.x(span.start)
    hint = Markup("<title>{}</title>").format(f"{span.label}{': ' if span.note else ''}{span.note}")
    if span.end is None:
        shape = Markup('<path class="fill {}" d="M{:.1f} {:.1f}l6 6l-6 6l-6-6z"/>').format(
            span.colour, x, middle - 6
        )
        label = _text(x + 10, middle + 4, _fit(span.label, limit - x - 14), "label")
        return Markup("<g>{}{}{}</g>").format(hint, shape, label)
    # A hair's breadth is left between bars that follow each other.
    width = max(2.5, frame.x(span.end) - x - 1.5)
    shape = Markup('<rect class="fill {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="20" rx="4"/>').format(
        span.colour, x, middle - 10, width
    )
    inside = _fit(span.label, width - 12, _BOLD)
    outside = _fit(span.label, limit - x - width - 12)
    if len(inside) >= len(outside):
        label = _text(x + 7, middle + 4, inside, f"label on {span.colour}")
    else:
        label = _text(x + width + 6, middle + 4, outside, "label")
    return Markup("<g>{}{}{}</g>").format(hint, shape, label)


def throughput(
    stacks: Sequence[tuple[float, float, Sequence[tuple[str, float]]]],
    bands: Sequence[Band],
    frame: Frame,
    height: float = 150.0,
) -> Markup:
    """Stacked columns: start, width (seconds), and requests a second by colour."""
    top = max((sum(value for _, value in parts) for _, _, parts in stacks), default=0.0)
    levels = steps(0, max(top, 1.0), 4)
    if levels[-1] < top:
        levels.append(2 * levels[-1] - levels[-2])
    high = levels[-1]
    shapes = [_bands(bands, frame, 0, height), _time_grid(frame, height)]
    shapes += [_level(height - height * level / high, number(level)) for level in levels]
    for start, width_s, parts in stacks:
        x, base = frame.x(start), height
        width = max(0.5, frame.x(start + width_s) - x - 0.6)
        for colour, value in parts:
            tall = height * value / high
            base -= tall
            shapes.append(
                Markup('<rect class="fill {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                    colour, x, base, width, tall
                )
            )
    return _svg(
        [*shapes, _unit("requests / s", height)], height + 24, "Requests a second over time, by model"
    )


def latency(lines: Sequence[Line], bands: Sequence[Band], frame: Frame, height: float = 190.0) -> Markup:
    """Lines over time on a logarithmic scale of milliseconds."""
    values = [y for line in lines for _, y in line.points if math.isfinite(y) and y > 0]
    levels = decades(min(values, default=1.0), max(values, default=10.0))
    low, high = math.log(levels[0]), math.log(levels[-1])

    def place(value: float) -> float:
        share = (math.log(max(value, levels[0])) - low) / (high - low)
        return height - height * min(1.0, share)

    parts = [_bands(bands, frame, 0, height), _time_grid(frame, height)]
    parts += [_level(place(level), number(level)) for level in levels]
    for line in lines:
        points = [(frame.x(x), place(y) if math.isfinite(y) else math.nan) for x, y in line.points]
        parts.append(Markup('<path class="line {}" d="{}"/>').format(line.colour, _path(points)))
    return _svg([*parts, _unit("milliseconds, log scale", height)], height + 24, "Latency over time")


def split(parts: Sequence[tuple[str, float, str]]) -> Markup:
    """One bar in proportional parts: (label, value, colour)."""
    total = sum(value for _, value, _ in parts) or 1.0
    x, shapes = 0.0, list[Markup]()
    for label, value, colour in parts:
        width = 100.0 * value / total
        shapes.append(
            Markup(
                '<rect class="fill {}" x="{:.2f}" y="0" width="{:.2f}" height="6"><title>{}</title></rect>'
            ).format(colour, x, max(0.0, width - 0.6), label)
        )
        x += width
    return Markup(
        '<svg class="split" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(Markup("").join(shapes))


def legend(entries: Mapping[str, str]) -> Markup:
    """Names and their colours."""
    return Markup("").join(
        Markup('<span class="key"><i class="swatch {}"></i>{}</span>').format(colour, name)
        for name, colour in entries.items()
    )


def _path(points: Iterable[tuple[float, float]]) -> str:
    commands: list[str] = []
    pen = "M"
    for x, y in points:
        if math.isfinite(y):
            commands.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(commands)


def _bands(bands: Sequence[Band], frame: Frame, top: float, height: float) -> Markup:
    return Markup("").join(
        Markup(
            '<rect class="band" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
        ).format(
            frame.x(band.start), top, max(2.0, frame.x(band.end) - frame.x(band.start)), height, band.label
        )
        for band in bands
    )


def _time_grid(frame: Frame, height: float) -> Markup:
    parts: list[Markup] = []
    for tick in steps(0.0, frame.end - frame.start, 9):
        x = frame.x(frame.start + tick)
        parts.append(
            Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1:.1f}"/>').format(x, height)
        )
        parts.append(_text(x, height + 16, f"{number(tick)} s", "tick middle"))
    return Markup("").join(parts)


def _level(y: float, label: str) -> Markup:
    line = Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
        LEFT, WIDTH - RIGHT, y, y
    )
    return line + _text(LEFT - 8, max(y + 4, 9), label, "tick end")


def _unit(label: str, height: float) -> Markup:
    return Markup('<text class="tick middle" transform="translate(22 {:.0f}) rotate(-90)">{}</text>').format(
        height / 2, label
    )


def _text(x: float, y: float, text: str, css: str) -> Markup:
    return (
        Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(css, x, y, text)
        if text
        else Markup("")
    )


def _fit(text: str, width: float, character: float = _CHAR) -> str:
    """`text`, shortened to a width in pixels: to its first word, or to nothing, if few letters fit."""
    room = int(width / character)
    if len(text) <= room:
        return text
    first = text.split(" ", 1)[0]
    return f"{text[: room - 1]}…" if room >= 7 else first if len(first) <= room else ""


def _svg(parts: Iterable[Markup], height: float, title: str) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, height, title, Markup("").join(parts))
