"""What the traffic generator writes down of each request, and what can be said of many of them.

The schedule, not the server, decides when a request is due: a server that stalls delays the requests behind
the stalled one too. `Sample.latency_ms` counts from the moment the request was *due*, so those delays show
(no "coordinated omission"); `Sample.service_ms` counts from the moment it was sent.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times are seconds since the epoch, durations milliseconds."""

    due: float
    waited_ms: float
    service_ms: float
    status: int
    """The HTTP status; 0 if no answer came."""
    version: str
    """The model that answered, as its header says; empty if none did."""
    error: str
    """Why this request failed; empty for a 200 with a prediction in it."""

    @property
    def latency_ms(self) -> float:
        """From the moment the request was due to its answer."""
        return self.waited_ms + self.service_ms

    @property
    def done(self) -> float:
        """When the answer (or the failure) was there."""
        return self.due + self.latency_ms / 1000

    def line(self) -> str:
        """This sample as one line of the samples file."""
        cells = [round(self.due, 6), round(self.waited_ms, 3), round(self.service_ms, 3)]
        return json.dumps([*cells, self.status, self.version, self.error], separators=(",", ":")) + "\n"

    @classmethod
    def parse(cls, line: str | bytes) -> Sample:
        """The inverse of `line`."""
        cells: list[Any] = json.loads(line)
        return cls(*cells)


class SampleFile:
    """Reads a samples file while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[Sample]:
        """The samples since the last call; half a line at the end is left for the next one."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [Sample.parse(line) for line in whole.splitlines()]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Latency of the answered requests of one phase, milliseconds from when each was due; NaN without any."""

    requests: int
    failed: int
    p50: float
    p95: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """One stretch of traffic: requests by the version that answered, and their latency (milliseconds)."""

    start: float
    width_s: float
    answered: dict[str, int]
    failed: int
    p50: float
    p95: float
    p99: float


def percentile(values: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile of sorted `values`; NaN if there are none."""
    if not values:
        return math.nan
    return values[min(len(values) - 1, max(0, math.ceil(fraction * len(values)) - 1))]


def percentiles(samples: Iterable[Sample]) -> Percentiles:
    """Sum up samples. A failed request counts as failed and has no latency."""
    latencies: list[float] = []
    failed = 0
    for sample in samples:
        if sample.error:
            failed += 1
        else:
            latencies.append(sample.latency_ms)
    latencies.sort()
    return Percentiles(
        requests=len(latencies) + failed,
        failed=failed,
        p50=percentile(latencies, 0.50),
        p95=percentile(latencies, 0.95),
        p99=percentile(latencies, 0.99),
        worst=latencies[-1] if latencies else math.nan,
    )


def phase(due: float, rollouts: Sequence[tuple[float, float]]) -> str:
    """Say "before", "during" or "after": where a moment lies against the rollouts (start and end, seconds).

    Between two rollouts is after the first.
    """
    if any(start <= due <= end for start, end in rollouts):
        return "during"
    return "after" if any(due > end for _, end in rollouts) else "before"


def by_phase(samples: Iterable[Sample], rollouts: Sequence[tuple[float, float]]) -> dict[str, Percentiles]:
    """Latency before, during and after the rollouts."""
    phases: dict[str, list[Sample]] = {"before": [], "during": [], "after": []}
    for sample in samples:
        phases[phase(sample.due, rollouts)].append(sample)
    return {name: percentiles(members) for name, members in phases.items()}


def buckets(samples: Sequence[Sample], width_s: float = 1.0) -> list[Bucket]:
    """The traffic over time, by when requests were due; stretches without any are there too, empty."""
    if not samples:
        return []
    first = min(sample.due for sample in samples)
    members: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        members[int((sample.due - first) / width_s)].append(sample)
    last = max(sample.due for sample in samples)
    found: list[Bucket] = []
    for index in range(max(members) + 1):
        start = first + index * width_s
        # The traffic ends within the last bucket: it is as wide as there was traffic, or its rate would sag.
        width = max(min(width_s, last - start), width_s / 10)
        found.append(_bucket(start, width, members[index]))
    return found


def _bucket(start: float, width_s: float, members: Sequence[Sample]) -> Bucket:
    answered: dict[str, int] = {}
    for sample in members:
        if not sample.error:
            answered[sample.version] = answered.get(sample.version, 0) + 1
    of = percentiles(members)
    return Bucket(start, width_s, answered, of.failed, of.p50, of.p95, of.p99)
