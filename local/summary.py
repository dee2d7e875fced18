"""The report on the terminal, in a few tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from local import page
from local.report import PHASES

_WIDEST = 130

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console, RenderableType

    from local.report import Report, Traffic


def show(console: Console, report: Report, html: Path) -> None:
    """Print what the run found, and where the page is."""
    if report.counts()["declared"]:
        _heading(console, "Resources")
        _put(console, _resources(report))
    if report.releases:
        _heading(console, "Models")
        _put(console, _models(report))
        _lines(
            console, [f"image {release.number}  {release.digest or 'none'}" for release in report.releases]
        )
    _lines(console, [f"refused  {refusal.upload}: {refusal.reason}" for refusal in report.refusals])
    if report.traffic:
        _heading(console, "Requests")
        _put(console, _requests(report.traffic))
    if report.ok:
        _heading(console, "What stood in for what")
        _put(console, _simulated(report))
    _verdict(console, report)
    console.print(f"\nReport: {html.resolve().as_uri()}", markup=False, soft_wrap=True)


def _verdict(console: Console, report: Report) -> None:
    traffic, measured = report.traffic, report.measured
    if traffic:
        of = traffic.total
        style = "bold red" if of.failed else "bold green"
        console.print(
            Text.assemble("\n", f"{of.requests:,} requests sent, ", (f"{of.failed:,} failed", style)),
            soft_wrap=True,
        )
    if measured and measured.upload_to_serving_s is not None:
        training = measured.training_s or 0.0
        share = training / measured.upload_to_serving_s
        console.print(
            f"{measured.upload_to_serving_s:.1f} s from upload to the first prediction by the new model, "
            f"{training:.1f} s of it ({share:.0%}) training",
            markup=False,
            soft_wrap=True,
        )
    for problem in report.problems:
        console.print(Text(f"✗ {problem}", style="red"), soft_wrap=True)
    if report.ok:
        took = report.ended - report.started
        console.print(Text(f"✓ every step happened, in {took:.0f} s", style="green"), soft_wrap=True)


def _resources(report: Report) -> RenderableType:
    """A row per service: "s3" of aws:s3/bucket:Bucket; all of Kubernetes is one."""
    services: dict[str, list[tuple[str, int, int]]] = {}
    for kind, declared, local in sorted(report.kinds()):
        package, _, rest = kind.partition(":")
        service = rest.partition("/")[0] if package == "aws" else package
        services.setdefault(service, []).append((kind.rpartition(":")[2], declared, local))
    table = _table()
    table.add_column("service", no_wrap=True)
    table.add_column("declared", justify="right")
    table.add_column("here", justify="right")
    table.add_column("running here", ratio=3)
    table.add_column("declared only", ratio=2)
    for service, kinds in services.items():
        here = [(name, local) for name, _, local in kinds if local]
        only = [(name, declared - local) for name, declared, local in kinds if local < declared]
        declared, local = sum(kind[1] for kind in kinds), sum(kind[2] for kind in kinds)
        table.add_row(service, str(declared), str(local), _names(here), Text(_names(only), style="dim"))
    counts = report.counts()
    table.add_row("all", str(counts["declared"]), str(counts["local"]), style="bold")
    return table


def _names(kinds: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" if count > 1 else name for name, count in kinds)


def _models(report: Report) -> RenderableType:
    table = _table()
    for name in ("release", "data", "outcome"):
        table.add_column(name, overflow="fold")
    table.add_column("metric")
    for name in ("challenger", "champion"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("training", justify="right")
    for release in report.releases:
        head = [str(release.number), release.title, release.outcome]
        took = page.seconds(release.training_s)
        for metric in page.metrics(release) or [None]:
            cells = [metric.name, metric.challenger, metric.champion] if metric else ["", "", ""]
            table.add_row(*head, *cells, took, style="bold" if metric and metric.primary else None)
            head, took = ["", "", ""], ""
    return table


def _requests(traffic: Traffic) -> RenderableType:
    table = _table()
    table.add_column("rollouts")
    for name in ("sent", "failed", "p50 ms", "p95 ms", "p99 ms", "worst ms"):
        table.add_column(name, justify="right")
    phases = [(name, traffic.phases[name]) for name in PHASES if name in traffic.phases]
    for name, of in [*phases, ("all", traffic.total)]:
        times = [page.milliseconds(value) for value in (of.p50, of.p95, of.p99, of.worst)]
        table.add_row(
            name, f"{of.requests:,}", f"{of.failed:,}", *times, style="bold" if name == "all" else None
        )
    return table


def _simulated(report: Report) -> RenderableType:
    table = _table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for what, how in report.simulated:
        if what:
            table.add_row(Text(what), Text(how))
    return table


def _table(*, show_header: bool = True) -> Table:
    return Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_header=show_header, header_style="dim", padding=(0, 2, 0, 0)
    )


def _heading(console: Console, text: str) -> None:
    console.print(Text(f"\n{text}", style="bold"))


def _put(console: Console, what: RenderableType) -> None:
    console.print(
        Padding(what, (0, 0, 0, 2), expand=False), width=min(console.width, _WIDEST), soft_wrap=False
    )


def _lines(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(f"  {line}", markup=False, soft_wrap=True)
