"""Writes a run's document as bench.json, report.md and report.html.

Built from the document alone, so any run can be drawn again: `python -m bench.report …/bench.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench import charts
from bench.candidates import FAST
from bench.targets import OFF, ON

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Document = dict[str, Any]

_TEMPLATES: Final = Path(__file__).parent / "templates"
_MARKS: Final = {"reached": "✓", "missed": "✗", "not measured": "·"}
_BUSY: Final = 1.0
_ORDER: Final = {"floor": 0, "ours": 1, "peer": 2}


def write(directory: Path, document: Document) -> None:
    """Write the three files."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (directory / "bench.json").write_text(text + "\n", encoding="utf-8")
    (directory / "report.md").write_text(markdown(document), encoding="utf-8")
    (directory / "report.html").write_text(page(document), encoding="utf-8")


def headlines(document: Document) -> str:
    """Return the targets as lines for a terminal."""
    lines = [
        f"  {_MARKS[item['outcome']]} {item['name']:<42} {figure(item):>16}   {wanted(item)}"
        for item in document["targets"]
    ]
    said = disturbed(document["environment"])
    return "\n".join([*lines, *([f"  ! {said}"] if said else [])])


def disturbed(environment: Mapping[str, Any]) -> str:
    """Return a warning when others used the machine as the run began, else nothing."""
    load = environment["load_average"][0]
    if load < _BUSY:
        return ""
    return (
        f"The machine was busy (load average {load:g} before the run): requests/s and latencies are worse "
        "than they would be, and ratios of requests/s are rough. CPU time a request moves least."
    )


def markdown(document: Document) -> str:
    """Return the report as Markdown."""
    return _environment(html=False).get_template("report.md.j2").render(**_view(document))


def page(document: Document) -> str:
    """Return the report as one HTML file that needs no other."""
    return _environment(html=True).get_template("report.html.j2").render(**_view(document))


def figure(target: Mapping[str, Any]) -> str:
    """Return what was found, with its unit."""
    found = target["found"]
    if found is None:
        return "-"
    if target["name"].startswith("share") or target["name"].startswith("with"):
        return f"{found:.2f}"
    if target["name"].startswith("times"):
        return f"{found:,.1f} times"
    return f"{charts.short(found)} {target['unit']}".strip()


def wanted(target: Mapping[str, Any]) -> str:
    """Return what was asked, and the aim beyond it."""
    sign = "≤" if target["at_most"] else "≥"
    aim = "" if target["aim"] is None else f" (aim {target['aim']:,g})"
    return f"{sign} {target['want']:,g} {target['unit']}".strip() + aim


def _view(document: Document) -> dict[str, Any]:
    pair = {ON, OFF}
    found = [item for item in document["candidates"] if item["name"] not in pair]

    def order(item: Mapping[str, Any]) -> tuple[float, ...]:
        return item["rows"], _ORDER[item["kind"]], -_best(found, item), -item["rps"]

    lines = sorted(found, key=order)
    ones = [item for item in lines if item["rows"] == 1]
    many = [item for item in lines if item["rows"] != 1]
    named = {item["name"]: item for item in reversed(ones)}
    servers = [named[name] for name in dict.fromkeys(item["name"] for item in ones)]
    return {
        "document": document,
        "environment": document["environment"],
        "ones": ones,
        "many": many,
        "pair": [item for item in document["candidates"] if item["name"] in pair],
        "warning": disturbed(document["environment"]),
        "marks": _MARKS,
        "figure": figure,
        "wanted": wanted,
        "short": charts.short,
        "colour": colour,
        "minutes": document["seconds"] / 60,
        "shares": {(item["name"], item["format"]): item for item in document["shares_of_floor"]},
        "chart_rps": charts.bars(
            [charts.Bar(_label(x), x["rps"], f"{x['rps']:,.0f}", colour(x)) for x in ones],
            "Requests a second, one row",
        ),
        "chart_many": charts.bars(
            [
                charts.Bar(_label(x), x["rps"] * x["rows"], f"{x['rps'] * x['rows']:,.0f}", colour(x))
                for x in many
            ],
            "Rows a second, 32 rows a request",
        ),
        "chart_latency": charts.spreads(
            [charts.Spread(_label(x), x["p50_ms"], x["p95_ms"], x["p99_ms"], colour(x)) for x in ones],
            "Latency, one row",
        ),
        "chart_paced": charts.spreads(
            [
                charts.Spread(
                    f"{x['name']}, {x['arrivals']} arrivals", x["p50_ms"], x["p95_ms"], x["p99_ms"], colour(x)
                )
                for x in document["paced"]
            ],
            "Latency at a fixed rate",
        ),
        "chart_cold": _bars(servers, "cold_s", "Cold start", " s"),
        "chart_memory": _bars(servers, "rss_mib", "Memory", " MiB"),
    }


def _bars(servers: Sequence[Mapping[str, Any]], key: str, title: str, unit: str) -> str:
    known = [item for item in servers if item[key] is not None]
    drawn = [charts.Bar(x["name"], x[key], charts.short(x[key]) + unit, colour(x)) for x in known]
    return charts.bars(drawn, title, width=640)


def _best(lines: Sequence[Mapping[str, Any]], of: Mapping[str, Any]) -> float:
    """Return the best figure of a server over its formats, which stay together."""
    return max(x["rps"] for x in lines if x["name"] == of["name"] and x["rows"] == of["rows"])


def _label(item: Mapping[str, Any]) -> str:
    return f"{item['name']} · {item['format']}"


def colour(item: Mapping[str, Any]) -> str:
    """Return the class that a candidate is drawn in."""
    return "fast" if item["name"] == FAST else str(item.get("kind", "ours"))


def _environment(*, html: bool) -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=html,  # noqa: S701 - Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


if __name__ == "__main__":
    given = Path(sys.argv[1])
    write(given.parent, json.loads(given.read_text(encoding="utf-8")))
