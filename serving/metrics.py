"""Counters and histograms: plain numbers while serving, text only when Prometheus asks."""

import resource
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)

CAUSES: Final = ("connections", "large", "queue")
"""The limits by which requests are turned away."""


class Histogram:
    """A Prometheus histogram."""

    __slots__ = ("_counts", "_total", "bounds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, so many times."""
        self._counts[bisect_left(self.bounds, value)] += times
        self._total += value * times

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """Give the histogram's samples; `labels` is empty or ends with a comma."""
        counts = list(accumulate(self._counts))
        for bound, count in zip((*map(str, self.bounds), "+Inf"), counts, strict=True):
            yield f'{name}_bucket{{{labels}le="{bound}"}} {count}'
        rest = f"{{{labels[:-1]}}}" if labels else ""
        yield f"{name}_sum{rest} {self._total}"
        yield f"{name}_count{rest} {counts[-1]}"


class ModelMetrics:
    """What is counted of one model in service; `labels` are those of its info, `name` first."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = labels
        self.rows = 0
        self.batch_rows = Histogram(_ROWS)
        self.queue_seconds = Histogram(_SECONDS)
        self._seconds: dict[str, Histogram] = {}

    def seconds(self, protocol: str) -> Histogram:
        """Return the histogram of the time from request read to answer written."""
        return self._seconds.setdefault(protocol, Histogram(_SECONDS))

    def protocols(self) -> Iterator[tuple[str, Histogram]]:
        """Give each protocol that was used, with its histogram."""
        yield from self._seconds.items()


class Metrics:
    """What the server counts."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.turned_away: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))
        self.models: dict[str, ModelMetrics] = {}
        self.others: list[Callable[[], Iterator[str]]] = []  # give the lines of what else is counted
        self._started = time.time()

    def render(self, *, in_flight: int, connections: int, ready: bool) -> bytes:
        """Return the text that Prometheus reads; the arguments are the gauges of this moment."""
        return ("\n".join(self._lines(in_flight, connections, ready)) + "\n").encode()

    def _lines(self, in_flight: int, connections: int, ready: bool) -> Iterator[str]:
        yield from head("trainserve_requests_total", "counter", "Answers, by route and status.")
        for (route, status), count in sorted(self.requests.items()):
            yield f'trainserve_requests_total{{route="{route}",status="{status}"}} {count}'
        yield from head("trainserve_turned_away_total", "counter", "Answers 503, by the limit that was met.")
        for cause, count in sorted(self.turned_away.items()):
            yield f'trainserve_turned_away_total{{cause="{cause}"}} {count}'
        yield from self._model_lines()
        for lines in self.others:
            yield from lines()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = round(usage.ru_utime + usage.ru_stime, 3)
        for name, kind, text, value in (
            ("trainserve_requests_in_flight", "gauge", "Requests read and not yet answered.", in_flight),
            ("trainserve_connections", "gauge", "Open connections.", connections),
            ("trainserve_workers", "gauge", "Processes that serve.", 1),
            ("trainserve_ready", "gauge", "1 when the golden predictions were reproduced.", int(ready)),
            ("process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes(usage.ru_maxrss)),
            ("process_cpu_seconds_total", "counter", "Processor time used.", cpu),
            ("process_start_time_seconds", "gauge", "Start, as a Unix time.", round(self._started, 3)),
        ):
            yield from head(name, kind, text)
            yield f"{name} {value}"

    def _model_lines(self) -> Iterator[str]:
        models = [(f'model="{escape(name)}",', model) for name, model in sorted(self.models.items())]
        yield from head(
            "trainserve_request_seconds", "histogram", "Request read to answer written, predictions."
        )
        for label, model in models:
            for protocol, seconds in model.protocols():
                yield from seconds.lines("trainserve_request_seconds", f'{label}protocol="{protocol}",')
        yield from head(
            "trainserve_queue_seconds", "histogram", "Wait for the batch of a prediction request."
        )
        for label, model in models:
            yield from model.queue_seconds.lines("trainserve_queue_seconds", label)
        yield from head("trainserve_batch_rows", "histogram", "Rows of one call of the model.")
        for label, model in models:
            yield from model.batch_rows.lines("trainserve_batch_rows", label)
        yield from head("trainserve_rows_total", "counter", "Rows predicted.")
        for label, model in models:
            yield f"trainserve_rows_total{{{label[:-1]}}} {model.rows}"
        yield from head("trainserve_model_info", "gauge", "The models in service.")
        for label, model in models:
            labels = ",".join(f'{key}="{escape(value)}"' for key, value in model.labels.items())
            yield f"trainserve_model_info{{{labels},{label[:-1]}}} 1"


def escape(value: str) -> str:
    """Return the value of a label as Prometheus reads it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def head(name: str, kind: str, text: str) -> tuple[str, str]:
    """Return the lines that say what a metric is."""
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def resident_bytes(peak: int) -> int:
    """Return the resident memory now, or the peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()
