"""wrk, the load generator: what it is told, and what it says."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CONNECTIONS: Final = 64
MISSING: Final = (
    "wrk is not installed. Install it by `apt-get install wrk` (Debian, Ubuntu), then start again."
)
_MARK: Final = "BENCH "

# Requests are read from a file, so that bodies need no quoting; `done` gives what wrk itself does not print.
SCRIPT: Final = """\
local requests, at = {}, 0
function init(args)
  local file = assert(io.open(args[1], "rb"))
  while true do
    local size = file:read("*l")
    if not size then break end
    requests[#requests + 1] = file:read(tonumber(size))
  end
  file:close()
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'BENCH {"requests":%d,"duration_us":%d,"p50_us":%.1f,"p95_us":%.1f,"p99_us":%.1f,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\\n',
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(95), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""


class WrkError(Exception):
    """wrk said nothing that can be understood."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a load generator saw: latencies in milliseconds, answers of whatever status in `requests`."""

    requests: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int

    @property
    def rps(self) -> float:
        """Good answers a second."""
        return max(self.requests - self.errors, 0) / self.seconds if self.seconds > 0 else 0.0


def write_requests(path: Path, requests: Sequence[bytes]) -> None:
    """Write whole HTTP requests as the script reads them."""
    path.write_bytes(b"".join(b"%d\n" % len(request) + request for request in requests))


def command(wrk: str, script: Path, requests: Path, port: int, seconds: float) -> list[str]:
    """Return the command line; wrk takes whole seconds only."""
    duration = f"{max(1, round(seconds))}s"
    load = ["-t1", f"-c{CONNECTIONS}", f"-d{duration}", "--timeout", "5s"]
    return [wrk, *load, "-s", str(script), f"http://127.0.0.1:{port}", "--", str(requests)]


def run(argv: Sequence[str], seconds: float) -> Load:
    """Run wrk to its end; raises `WrkError`."""
    try:
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30, check=False)
    except subprocess.TimeoutExpired as error:
        raise WrkError("wrk did not end") from error
    return parse(ended.stdout, ended.stderr)


def parse(output: str, complaints: str = "") -> Load:
    """Read the line that the script prints; raises `WrkError`."""
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    try:
        found: dict[str, Any] = json.loads(lines[-1].removeprefix(_MARK))
        errors = sum(int(found[kind]) for kind in ("connect", "read", "write", "status", "timeout"))
        return Load(
            requests=int(found["requests"]),
            seconds=found["duration_us"] / 1e6,
            p50_ms=found["p50_us"] / 1e3,
            p95_ms=found["p95_us"] / 1e3,
            p99_ms=found["p99_us"] / 1e3,
            errors=errors,
        )
    except (IndexError, KeyError, TypeError, ValueError) as error:
        said = (complaints or output).strip()[-300:]
        raise WrkError(f"wrk did not report: {said or 'it printed nothing'}") from error
