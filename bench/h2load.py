"""h2load, the load generator for gRPC: what it is told, and what it says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from bench.paced import percentile
from bench.wrk import CONNECTIONS, Load

if TYPE_CHECKING:
    from pathlib import Path

MISSING: Final = "h2load is not installed: `apt-get install nghttp2-client`"

_COUNTS: Final = re.compile(r"^requests: (\d+) total,.* (\d+) succeeded,", re.MULTILINE)
_DATA: Final = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)


class H2loadError(Exception):
    """h2load said nothing that can be understood, or nothing was answered."""


def frame(message: bytes) -> bytes:
    """Return a message as it stands in a gRPC body: not compressed, and its length before it."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def command(h2load: str, url: str, body: Path, log: Path, seconds: int) -> list[str]:
    """Return the command line: one call at a time on each connection, all with the same body."""
    load = ["-t1", f"-c{CONNECTIONS}", "-m1", f"-D{seconds}", "--connection-inactivity-timeout=5s"]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    return [h2load, *load, *headers, f"--data={body}", f"--log-file={log}", url]


def parse(output: str, log: str, *, seconds: float, answer_bytes: int) -> Load:
    """Read the summary and the log of single calls; raises `H2loadError`.

    A call that fails has HTTP's status 200 as well, and gRPC's own in trailers that h2load does not show. But
    it has no body, so the good answers are as many as the bytes received are answers of the known size.
    """
    counts, data = _COUNTS.search(output), _DATA.search(output)
    latencies = sorted(int(line.split("\t")[2]) / 1e3 for line in log.splitlines())
    if counts is None or data is None or not latencies:
        raise H2loadError(f"h2load did not report: {output.strip()[-300:] or 'it printed nothing'}")
    total, succeeded = int(counts[1]), int(counts[2])
    good = min(succeeded, int(data[1]) // answer_bytes)
    return Load(
        requests=total,
        seconds=seconds,
        p50_ms=percentile(latencies, 0.50),
        p95_ms=percentile(latencies, 0.95),
        p99_ms=percentile(latencies, 0.99),
        errors=total - good,
    )
