"""Counters and histograms: plain numbers while serving, text only when Prometheus asks."""

import resource
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


class Histogram:
    """A Prometheus histogram without labels."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> Iterator[str]:
        """Give the histogram's samples."""
        count = 0
        for bound, here in zip(self.bounds, self.counts, strict=False):
            count += here
            yield f'{name}_bucket{{le="{bound}"}} {count}'
        count += self.counts[-1]
        yield f'{name}_bucket{{le="+Inf"}} {count}'
        yield f"{name}_sum {self.total}"
        yield f"{name}_count {count}"


class Metrics:
    """What the server counts."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.request_seconds = Histogram(_SECONDS)
        self.queue_seconds = Histogram(_SECONDS)
        self.batch_rows = Histogram(_ROWS)
        self.rows = 0
        self.model: dict[str, str] | None = None
        self._started = time.time()

    def render(self, *, in_flight: int, connections: int, ready: bool) -> bytes:
        """Return the text that Prometheus reads; the arguments are the gauges of this moment."""
        return ("\n".join(self._lines(in_flight, connections, ready)) + "\n").encode()

    def _lines(self, in_flight: int, connections: int, ready: bool) -> Iterator[str]:
        yield from _head("trainserve_requests_total", "counter", "Answers, by route and status.")
        for (route, status), count in sorted(self.requests.items()):
            yield f'trainserve_requests_total{{route="{route}",status="{status}"}} {count}'
        yield from _head(
            "trainserve_request_seconds", "histogram", "Request read to answer written, predictions."
        )
        yield from self.request_seconds.lines("trainserve_request_seconds")
        yield from _head(
            "trainserve_queue_seconds", "histogram", "Wait for the batch of a prediction request."
        )
        yield from self.queue_seconds.lines("trainserve_queue_seconds")
        yield from _head("trainserve_batch_rows", "histogram", "Rows of one call of the model.")
        yield from self.batch_rows.lines("trainserve_batch_rows")
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = round(usage.ru_utime + usage.ru_stime, 3)
        for name, kind, text, value in (
            ("trainserve_rows_total", "counter", "Rows predicted.", self.rows),
            ("trainserve_requests_in_flight", "gauge", "Requests read and not yet answered.", in_flight),
            ("trainserve_connections", "gauge", "Open connections.", connections),
            ("trainserve_ready", "gauge", "1 when the golden predictions were reproduced.", int(ready)),
            ("process_resident_memory_bytes", "gauge", "Resident memory.", _resident_bytes(usage.ru_maxrss)),
            ("process_cpu_seconds_total", "counter", "Processor time used.", cpu),
            ("process_start_time_seconds", "gauge", "Start, as a Unix time.", round(self._started, 3)),
        ):
            yield from _head(name, kind, text)
            yield f"{name} {value}"
        if self.model is not None:
            labels = ",".join(f'{key}="{value}"' for key, value in self.model.items())
            yield from _head("trainserve_model_info", "gauge", "The model in service.")
            yield f"trainserve_model_info{{{labels}}} 1"


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _resident_bytes(peak: int) -> int:
    """Return the resident memory now, or the peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()
