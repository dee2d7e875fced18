"""What the report's page shows, worked out from a report: words, charts and the resource tree."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local import charts
from local.report import PHASES, Report, Resource, colours, rollouts, spans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from local.report import Release, Traffic

_DASH = "\N{EN DASH}"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A headline figure."""

    label: str
    value: str
    unit: str = ""
    note: str = ""
    tone: str = ""
    chart: Markup | None = None


@dataclass(kw_only=True)
class Node:
    """A resource and those below it."""

    resource: Resource
    children: list[Node] = field(default_factory=list["Node"])
    declared: int = 0
    """Cloud resources in this subtree, itself included."""
    local: int = 0


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of challenger and champion, in words."""

    name: str
    primary: bool
    challenger: str
    champion: str
    difference: str
    better: bool | None
    """Of the primary metric: the challenger's is at least as good."""


def context(report: Report) -> dict[str, Any]:
    """Everything that the template uses."""
    frame = charts.Frame(report.started, max(report.ended, report.started + 1))
    bands = rollouts(report)
    colour = colours(report)
    names = {release.version: f"release {release.number}" for release in report.releases}
    return {
        "report": report,
        "when": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report.started)),
        "duration": seconds(report.ended - report.started),
        "tiles": tiles(report),
        "timeline": charts.timeline(spans(report), bands, frame),
        "throughput": _throughput(report.traffic, colour, bands, frame),
        "latency": _latency(report.traffic, bands, frame),
        "model_legend": charts.legend(
            {names[version]: css for version, css in colour.items()} | {"failed": "bad"}
        ),
        "latency_legend": charts.legend({name: css for name, css, _ in _LINES}),
        "phases": [(name, report.traffic.phases[name]) for name in PHASES if name in report.traffic.phases]
        if report.traffic
        else [],
        "colour": colour,
        "metrics": {release.number: metrics(release) for release in report.releases},
        "tree": tree(report.resources),
        "counts": report.counts(),
        "kinds": report.kinds(),
        "ms": milliseconds,
        "seconds": seconds,
        "kind": kind,
    }


def tiles(report: Report) -> list[Tile]:
    """The headline figures."""
    traffic, measured, counts = report.traffic, report.measured, report.counts()
    failed = traffic.total.failed if traffic else 0
    found = [
        Tile(
            label="Requests failed",
            value=f"{failed:,}" if traffic else _DASH,
            note=f"of {traffic.total.requests:,} sent, {traffic.rate:g} a second"
            if traffic
            else "no traffic",
            tone="bad" if failed else "good" if traffic else "",
        )
    ]
    if measured and measured.upload_to_serving_s is not None:
        whole, training = measured.upload_to_serving_s, measured.training_s or 0.0
        rest = max(0.0, whole - training)
        found.append(
            Tile(
                label="Upload to first prediction",
                value=f"{whole:.1f}",
                unit="s",
                note=f"{training:.1f} s of it training, {rest:.1f} s all the rest",
                chart=charts.split([("training", training, "c1"), ("all the rest", rest, "muted")]),
            )
        )
    else:
        found.append(
            Tile(label="Upload to first prediction", value=_DASH, note="no new model came into service")
        )
    during = traffic.phases.get("during") if traffic else None
    before = traffic.phases.get("before") if traffic else None
    found += [
        Tile(
            label="p99 during rollouts",
            value=milliseconds(during.p99) if during else _DASH,
            unit="ms" if during and during.requests else "",
            note=f"{milliseconds(before.p99)} ms before the first" if before and before.requests else "",
        ),
        Tile(
            label="Models released",
            value=str(sum(release.served for release in report.releases)),
            note=f"of {len(report.releases) + len(report.refusals)} trained or refused",
        ),
        Tile(
            label="Resources running here",
            value=str(counts["local"]),
            note=f"of {counts['declared']} declared by the program",
            chart=charts.split(
                [("running here", counts["local"], "c2"), ("declared only", counts["declared_only"], "muted")]
            ),
        ),
    ]
    return found


def metrics(release: Release) -> list[Metric]:
    """The metrics of a release, its primary one first."""
    names = sorted(release.challenger, key=lambda name: (name != release.primary_metric, name))
    found: list[Metric] = []
    for name in names:
        ours = release.challenger[name]
        theirs = (release.champion or {}).get(name)
        primary = name == release.primary_metric
        better = None
        if primary and theirs is not None:
            better = ours >= theirs if release.greater_is_better else ours <= theirs
        found.append(
            Metric(
                name=name,
                primary=primary,
                challenger=_figure(ours),
                champion=_DASH if theirs is None else _figure(theirs),
                difference="" if theirs is None else f"{ours - theirs:+.4f}",
                better=better,
            )
        )
    return found


def tree(resources: Sequence[Resource]) -> list[Node]:
    """The resources below their parents; one whose parent is not there stands at the top."""
    nodes = {resource.urn: Node(resource=resource) for resource in resources}
    roots: list[Node] = []
    for resource in resources:
        parent = nodes.get(resource.parent or "")
        above = roots if parent is None or parent.resource is resource else parent.children
        above.append(nodes[resource.urn])
    for root in roots:
        _count(root)
    return roots


def milliseconds(value: float) -> str:
    """Two figures that count: 0.85, 4.2, 37."""
    if not math.isfinite(value):
        return _DASH
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """Seconds, as 0.4 s or 72 s."""
    if value is None or not math.isfinite(value):
        return _DASH
    return f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def kind(type_: str) -> str:
    """A resource type without what it says twice: aws:s3:Bucket of aws:s3/bucket:Bucket."""
    package, _, rest = type_.partition(":")
    module, _, name = rest.rpartition(":")
    return f"{package}:{module.partition('/')[0]}:{name}" if package == "aws" else type_


_LINES = (("p50", "l1", "p50"), ("p95", "l2", "p95"), ("p99", "l3", "p99"))


def _throughput(
    traffic: Traffic | None, colour: Mapping[str, str], bands: Sequence[charts.Band], frame: charts.Frame
) -> Markup | None:
    if traffic is None or not traffic.buckets:
        return None
    stacks: list[tuple[float, float, list[tuple[str, float]]]] = []
    for bucket in traffic.buckets:
        # In the order of release, so that colours do not jump between columns.
        order = [version for version in colour if version in bucket.answered]
        order += sorted(set(bucket.answered) - set(colour))
        parts = [
            (colour.get(version, "muted"), bucket.answered[version] / bucket.width_s) for version in order
        ]
        stacks.append((bucket.start, bucket.width_s, [*parts, ("bad", bucket.failed / bucket.width_s)]))
    return charts.throughput(stacks, bands, frame)


def _latency(traffic: Traffic | None, bands: Sequence[charts.Band], frame: charts.Frame) -> Markup | None:
    if traffic is None or not traffic.buckets:
        return None
    lines = [
        charts.Line(
            name,
            css,
            [(bucket.start + bucket.width_s / 2, getattr(bucket, key)) for bucket in traffic.buckets],
        )
        for name, css, key in _LINES
    ]
    return charts.latency(lines, bands, frame)


def _count(root: Node) -> None:
    """Fill in the counts, children first, without recursion: a chain of parents may be long."""
    order = [root]
    for node in order:
        order.extend(node.children)
    for node in reversed(order):
        own = not node.resource.component
        node.declared = int(own) + sum(child.declared for child in node.children)
        node.local = int(own and node.resource.local) + sum(child.local for child in node.children)


def _figure(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.2f}"
