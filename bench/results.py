"""What was measured, and the medians of it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bench.paced import Paced

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.candidates import Kind
    from bench.wrk import Load

Key = tuple[str, str, int]
"""Candidate, format, rows of a request."""

RPS_DIGITS: Final = 1


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One run of the load generator; `cpu_us` is the server's CPU time a request, in microseconds."""

    candidate: str
    format: str
    rows: int
    round: int
    load: Load
    cpu_us: float

    @property
    def key(self) -> Key:
        """What it is a measurement of."""
        return self.candidate, self.format, self.rows


@dataclass(frozen=True, kw_only=True)
class PacedRun:
    """One run at a fixed rate."""

    candidate: str
    arrivals: str
    seen: Paced


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A line of the report: medians over the rounds; None where nothing was measured."""

    name: str
    kind: Kind
    format: str
    rows: int
    rounds: int
    rps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cold_s: float | None
    rss_mib: float | None
    errors: int
    cpu_us_per_request: float

    @property
    def key(self) -> Key:
        """What it is a summary of."""
        return self.name, self.format, self.rows


@dataclass(frozen=True, kw_only=True)
class PacedSummary:
    """Medians of the runs at a fixed rate; `core` is the share of a core that the server used."""

    name: str
    arrivals: str
    rate: float
    rps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int
    core: float


@dataclass(kw_only=True)
class Book:
    """Everything measured in a run."""

    kinds: dict[str, Kind] = field(default_factory=dict["str", "Kind"])
    measurements: list[Measurement] = field(default_factory=list[Measurement])
    paced: list[PacedRun] = field(default_factory=list[PacedRun])
    cold_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    rss_mib: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    models_rss_mib: dict[int, float] = field(default_factory=dict[int, float])
    """Memory by the number of models served at once."""
    switches: dict[str, str] = field(default_factory=dict[str, str])
    """The settings of the measurement with everything switched on."""

    def summaries(self) -> list[Summary]:
        """Return a line for each candidate, format and size of request, in order of appearance."""
        groups = defaultdict[Key, list[Measurement]](list)
        for measurement in self.measurements:
            groups[measurement.key].append(measurement)
        return [self._summary(key, group) for key, group in groups.items()]

    def paced_summaries(self) -> list[PacedSummary]:
        """Return a line for each candidate and kind of arrivals."""
        groups = defaultdict[tuple[str, str], list[Paced]](list)
        for run in self.paced:
            groups[run.candidate, run.arrivals].append(run.seen)
        return [
            PacedSummary(
                name=name,
                arrivals=arrivals,
                rate=runs[0].rate,
                rps=median(run.rps for run in runs),
                p50_ms=median(run.p50_ms for run in runs),
                p95_ms=median(run.p95_ms for run in runs),
                p99_ms=median(run.p99_ms for run in runs),
                errors=sum(run.errors for run in runs),
                core=median(run.core for run in runs),
            )
            for (name, arrivals), runs in groups.items()
        ]

    def ratio(self, one: Key, other: Key) -> float | None:
        """Return the median over the rounds of how many times `one` is the requests/s of `other`.

        Only rounds in which both took part count: what disturbs the machine then disturbs both.
        """
        mine, theirs = self._by_round(one), self._by_round(other)
        ratios = [mine[number] / theirs[number] for number in mine if theirs.get(number)]
        return median(ratios) if ratios else None

    def forget(self, name: str) -> None:
        """Leave out what was measured of a candidate."""
        self.measurements = [item for item in self.measurements if item.candidate != name]

    def document(self) -> dict[str, Any]:
        """Return what `bench.json` has of this."""
        return {
            "candidates": [asdict(summary) for summary in self.summaries()],
            "paced": [asdict(summary) for summary in self.paced_summaries()],
            "rss_mib_by_models": {str(count): mib for count, mib in self.models_rss_mib.items()},
            "switches": self.switches,
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out.items()],
            "rounds": [
                {
                    "name": item.candidate,
                    "format": item.format,
                    "rows": item.rows,
                    "round": item.round,
                    "rps": round(item.load.rps, RPS_DIGITS),
                    "p95_ms": item.load.p95_ms,
                    "cpu_us_per_request": round(item.cpu_us, 2),
                }
                for item in self.measurements
            ],
        }

    def _by_round(self, key: Key) -> dict[int, float]:
        return {item.round: item.load.rps for item in self.measurements if item.key == key}

    def _summary(self, key: Key, group: list[Measurement]) -> Summary:
        name, spoken, rows = key
        loads = [item.load for item in group]
        cold, rss = self.cold_s.get(name), self.rss_mib.get(name)
        return Summary(
            name=name,
            kind=self.kinds[name],
            format=spoken,
            rows=rows,
            rounds=len(group),
            rps=round(median(load.rps for load in loads), RPS_DIGITS),
            p50_ms=round(median(load.p50_ms for load in loads), 3),
            p95_ms=round(median(load.p95_ms for load in loads), 3),
            p99_ms=round(median(load.p99_ms for load in loads), 3),
            cold_s=round(median(cold), 3) if cold else None,
            rss_mib=round(median(rss), 1) if rss else None,
            errors=sum(load.errors for load in loads),
            cpu_us_per_request=round(median(item.cpu_us for item in group), 2),
        )


def median(values: Iterable[float]) -> float:
    """Return the middle one; raises `statistics.StatisticsError` when there is none."""
    return float(statistics.median(values))
