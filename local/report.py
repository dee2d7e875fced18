"""What a run of the demo found, as data; written as report.json and as a page, report.html.

Nothing here looks at a live system: a report is built from plain values, so any run can be drawn again.
All times are seconds since the epoch.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from local import charts
from local.templating import templates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from local.samples import Bucket, Percentiles

PHASES = ("before", "during", "after")
_COLOURS = 6

Outcome = Literal["done", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the story."""

    number: int
    title: str
    outcome: Outcome
    started: float | None = None
    ended: float | None = None
    found: tuple[str, ...] = ()
    """What was seen, a line each; the reason if it failed."""

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.started is None or self.ended is None else self.ended - self.started


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource of the program; `parent` is a URN of another one or None."""

    urn: str
    type: str
    name: str
    parent: str | None
    component: bool
    local: bool


@dataclass(frozen=True, kw_only=True)
class Release:
    """What became of a trained model."""

    number: int
    title: str
    """What it was trained on, in a few words."""
    outcome: str
    """As the release record says: released, rejected, rolled back …"""
    served: bool
    """A prediction of this model was seen in traffic, or by the story itself for the first one."""
    reason: str = ""
    version: str = ""
    job: str = ""
    digest: str = ""
    """Of the image."""
    bundle_digest: str = ""
    package: str = ""
    challenger: Mapping[str, float] = field(default_factory=dict[str, float])
    champion: Mapping[str, float] | None = None
    primary_metric: str = ""
    greater_is_better: bool = True
    rows: int | None = None
    uploaded: float | None = None
    training: tuple[float, float] | None = None
    decided: float | None = None
    """When the gate had judged."""
    rollout: tuple[float, float] | None = None
    first_prediction: float | None = None

    @property
    def training_s(self) -> float | None:
        """How long the job trained, as the service says."""
        return self.training[1] - self.training[0] if self.training else None

    @property
    def upload_to_serving_s(self) -> float | None:
        """From the upload's return to the first prediction by this model in traffic."""
        if self.uploaded is None or self.first_prediction is None:
            return None
        return self.first_prediction - self.uploaded


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An upload that was refused, and why."""

    upload: str
    job: str
    reason: str
    uploaded: float | None = None
    training: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """The requests of the whole run."""

    rate: float
    total: Percentiles
    phases: Mapping[str, Percentiles]
    buckets: Sequence[Bucket] = ()
    errors: Mapping[str, int] = field(default_factory=dict[str, int])
    """What failed requests said, and how often."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that the summary and the page show."""

    stack: str
    model: str
    started: float
    ended: float
    steps: Sequence[Step]
    resources: Sequence[Resource] = ()
    releases: Sequence[Release] = ()
    refusals: Sequence[Refusal] = ()
    traffic: Traffic | None = None
    problems: Sequence[str] = ()
    simulated: Sequence[tuple[str, str]] = ()
    """What stood in for what, and what it does not do."""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    """About the run: versions, machine."""

    @property
    def ok(self) -> bool:
        """True if every step happened and no request failed."""
        return not self.problems and all(step.outcome == "done" for step in self.steps)

    @property
    def measured(self) -> Release | None:
        """The release that the headline figures are of: the first one under traffic."""
        return next((release for release in self.releases if release.upload_to_serving_s is not None), None)

    def counts(self) -> dict[str, int]:
        """Cloud resources: all that were declared, and how many of them ran here."""
        real = [resource for resource in self.resources if not resource.component]
        local = sum(resource.local for resource in real)
        return {
            "declared": len(real),
            "local": local,
            "declared_only": len(real) - local,
            "components": len(self.resources) - len(real),
        }

    def kinds(self) -> list[tuple[str, int, int]]:
        """Type, how many were declared, how many of them ran here; those that ran come first."""
        found: dict[str, tuple[int, int]] = {}
        for resource in self.resources:
            if not resource.component:
                declared, local = found.get(resource.type, (0, 0))
                found[resource.type] = declared + 1, local + resource.local
        rows = [(kind, declared, local) for kind, (declared, local) in found.items()]
        return sorted(rows, key=lambda row: (row[2] == 0, row[0]))


def to_json(report: Report) -> dict[str, Any]:
    """The report as JSON values. Unknown numbers are null."""
    measured = report.measured
    traffic = report.traffic
    document: dict[str, Any] = {
        "ok": report.ok,
        "problems": list(report.problems),
        "stack": report.stack,
        "model": report.model,
        "started": report.started,
        "ended": report.ended,
        "duration_s": report.ended - report.started,
        "steps": [asdict(step) | {"seconds": step.seconds} for step in report.steps],
        "resources": report.counts()
        | {
            "kinds": [{"type": k, "declared": d, "local": n} for k, d, n in report.kinds()],
            "tree": [asdict(resource) for resource in report.resources],
        },
        "releases": [_release(release) for release in report.releases],
        "refusals": [asdict(refusal) for refusal in report.refusals],
        "requests": {
            "total": traffic.total.requests if traffic else 0,
            "failed": traffic.total.failed if traffic else 0,
            "rate": traffic.rate if traffic else None,
            "errors": dict(traffic.errors) if traffic else {},
        },
        "latency_ms": {name: asdict(of) for name, of in _phases(traffic)},
        "upload_to_serving_s": measured.upload_to_serving_s if measured else None,
        "training_s": measured.training_s if measured else None,
        "timeline": [asdict(span) for span in spans(report)],
        "traffic": [asdict(bucket) for bucket in traffic.buckets] if traffic else [],
        "simulated": [{"what": what, "how": how} for what, how in report.simulated],
        "facts": dict(report.facts),
    }
    return _finite(document)


def render(report: Report) -> str:
    """The report as one self-contained page."""
    from local import page  # noqa: PLC0415  # it needs this module's types

    return templates().get_template("report.html.j2").render(page.context(report))


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write report.json and report.html to `folder`, which is made; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data, html = folder / "report.json", folder / "report.html"
    data.write_text(json.dumps(to_json(report), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    html.write_text(render(report), encoding="utf-8")
    return data, html


def colours(report: Report) -> dict[str, str]:
    """Model versions and the colour class of each, in order of release."""
    versions = [release.version for release in report.releases if release.version]
    return {version: f"c{index % _COLOURS + 1}" for index, version in enumerate(dict.fromkeys(versions))}


def spans(report: Report) -> list[charts.Span]:
    """The timeline: the story's steps, and for each model its upload, training, rollout, time in service."""
    found = [
        charts.Span(
            "Step",
            f"{step.number} {step.title}",
            step.started,
            step.ended or report.ended,
            _step_colour(step),
        )
        for step in report.steps
        if step.started is not None
    ]
    colour = colours(report)
    models = [(release, colour.get(release.version, "muted")) for release in report.releases]
    for release, css in models:
        if release.uploaded is not None:
            found.append(charts.Span("Upload", release.title, release.uploaded, None, css))
    found += [
        charts.Span(
            "Upload", "malformed", refusal.uploaded, None, "bad", f"{refusal.upload}: {refusal.reason}"
        )
        for refusal in report.refusals
        if refusal.uploaded is not None
    ]
    found += [
        charts.Span("Training", release.title, *release.training, css, release.job)
        for release, css in models
        if release.training
    ]
    found += [
        charts.Span("Training", "refused", *refusal.training, "bad", refusal.reason)
        for refusal in report.refusals
        if refusal.training
    ]
    for release, css in models:
        if release.training and release.rollout and release.rollout[0] > release.training[1]:
            found.append(
                charts.Span(
                    "Gate, image",
                    "",
                    release.training[1],
                    release.rollout[0],
                    css,
                    f"release {release.number}",
                )
            )
    found += [
        charts.Span("Rollout", f"release {release.number}", *release.rollout, css, release.digest)
        for release, css in models
        if release.rollout
    ]
    return found + _answering(report, colour)


def rollouts(report: Report) -> list[charts.Band]:
    """The rollouts that traffic saw."""
    return [
        charts.Band(*release.rollout, f"rollout of release {release.number}")
        for release in report.releases
        if release.rollout and release.uploaded is not None
    ]


def _answering(report: Report, colour: Mapping[str, str]) -> list[charts.Span]:
    """When each version answered requests, as its first and last bucket say."""
    seen: dict[str, tuple[float, float]] = {}
    for bucket in report.traffic.buckets if report.traffic else ():
        for version in bucket.answered:
            first, _ = seen.get(version, (bucket.start, 0.0))
            seen[version] = first, bucket.start + bucket.width_s
    titles = {release.version: f"release {release.number}" for release in report.releases}
    return [
        charts.Span("Answering", titles.get(version, version), *when, colour.get(version, "muted"), version)
        for version, when in seen.items()
    ]


def _release(release: Release) -> dict[str, Any]:
    fields = asdict(release)
    fields["metrics"] = {"challenger": fields.pop("challenger"), "champion": fields.pop("champion")}
    return fields | {"training_s": release.training_s, "upload_to_serving_s": release.upload_to_serving_s}


def _phases(traffic: Traffic | None) -> list[tuple[str, Percentiles]]:
    if traffic is None:
        return []
    named = [(name, traffic.phases[name]) for name in PHASES if name in traffic.phases]
    return [("total", traffic.total), *named]


def _step_colour(step: Step) -> str:
    return "bad" if step.outcome == "failed" else "step"


def _finite(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]
    return value
