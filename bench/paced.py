"""Load at a fixed rate, whatever the server does: `python -m bench.paced SPEC`, results on standard output.

The schedule says when a request is due; its latency counts from then, so waiting behind a slow answer counts.
One thread, raw sockets, no event loop: `select` sleeps to the microsecond where event loops round to a
millisecond.
"""

from __future__ import annotations

import json
import random
import select
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

_LATE_S: Final = 2.0  # nobody waits longer for the last answers
_OK: Final = b"HTTP/1.1 200"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What to send where. `requests` is a file as `wrk.write_requests` makes it; times in seconds."""

    port: int
    pid: int
    requests: str
    rate: float
    seconds: float
    warm_s: float
    connections: int = 64
    poisson: bool = False
    """Random gaps as of many independent clients, instead of even ones."""


@dataclass(frozen=True, kw_only=True)
class Paced:
    """What came of it; `core` is the share of a core that the server's processes used meanwhile."""

    rate: float
    rps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int
    core: float


def schedule(rate: float, seconds: float, *, poisson: bool) -> list[float]:
    """Return when requests are due, in seconds from the start."""
    if not poisson:
        return [index / rate for index in range(int(rate * seconds))]
    due, at = list[float](), 0.0
    gaps = random.Random(30)  # noqa: S311 - the same load every time
    while (at := at + gaps.expovariate(rate)) < seconds:
        due.append(at)
    return due


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the sorted values lie; 0 when there are none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def content_length(head: bytes) -> int:
    """Return how long the body after this head is."""
    at = head.lower().find(b"content-length:")
    return int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


class _Connection:
    """A keep-alive connection with at most one request on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self.buffer = b""

    def answered(self) -> bool | None:
        """Read; return None while the answer is not whole, else whether it is good."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed a connection")
        self.buffer += data
        head, blank, body = self.buffer.partition(b"\r\n\r\n")
        if not blank:
            return None
        if len(body) < content_length(head):
            return None
        self.buffer = b""
        return head.startswith(_OK)


class _Load:
    """The connections, what is due, and what has been seen."""

    def __init__(self, spec: Spec, requests: list[bytes]) -> None:
        self._requests = requests
        self._idle = deque(_Connection(spec.port) for _ in range(spec.connections))
        self._waiting = deque[tuple[float, bytes]]()
        self._by_number = {connection.socket.fileno(): connection for connection in self._idle}
        self._poll = select.epoll()
        for number in self._by_number:
            self._poll.register(number, select.EPOLLIN)
        self.seen: list[tuple[float, float]] = []
        self.errors = 0

    def run(self, due: list[float], begin: float) -> None:
        """Send what is due and take what comes, until all is answered or too late."""
        sent, clock = 0, time.perf_counter
        end = begin + (due[-1] if due else 0.0) + _LATE_S
        while (now := clock()) < end and (sent < len(due) or len(self._idle) < len(self._by_number)):
            while sent < len(due) and begin + due[sent] <= now:
                self._waiting.append((begin + due[sent], self._requests[sent % len(self._requests)]))
                sent += 1
            self._send()
            pause = begin + due[sent] - clock() if sent < len(due) else end - clock()
            if select.select((self._poll.fileno(),), (), (), max(pause, 0.0))[0]:
                for number, _ in self._poll.poll(0):
                    self._take(self._by_number[number])
        self.errors += len(self._waiting) + len(self._by_number) - len(self._idle)

    def close(self) -> None:
        """Close all connections."""
        self._poll.close()
        for connection in self._by_number.values():
            connection.socket.close()

    def _send(self) -> None:
        while self._waiting and self._idle:
            connection = self._idle.popleft()
            connection.due, request = self._waiting.popleft()
            connection.socket.sendall(request)

    def _take(self, connection: _Connection) -> None:
        good = connection.answered()
        if good is None:
            return
        self.errors += not good
        self.seen.append((connection.due, time.perf_counter() - connection.due))
        self._idle.append(connection)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time used so far by a process and its descendants."""
    total = 0.0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
    except psutil.NoSuchProcess:
        pass
    return total


def measure(spec: Spec) -> Paced:
    """Send the load and return what was seen after the warm-up; raises OSError."""
    requests = read_requests(Path(spec.requests))
    load = _Load(spec, requests)
    try:
        load.run(schedule(spec.rate, spec.warm_s, poisson=spec.poisson), time.perf_counter())
        load.seen.clear()
        before, begin = cpu_seconds(spec.pid), time.perf_counter()
        load.run(schedule(spec.rate, spec.seconds, poisson=spec.poisson), begin)
        took = time.perf_counter() - begin
    finally:
        load.close()
    core = (cpu_seconds(spec.pid) - before) / took
    latencies = sorted(latency * 1e3 for _, latency in load.seen)
    return Paced(
        rate=spec.rate,
        rps=len(latencies) / took,
        p50_ms=percentile(latencies, 0.50),
        p95_ms=percentile(latencies, 0.95),
        p99_ms=percentile(latencies, 0.99),
        errors=load.errors,
        core=core,
    )


def read_requests(path: Path) -> list[bytes]:
    """Read what `wrk.write_requests` wrote."""
    data, requests = path.read_bytes(), list[bytes]()
    while data:
        size, _, rest = data.partition(b"\n")
        requests.append(rest[: int(size)])
        data = rest[int(size) :]
    return requests


def main() -> int:
    """Measure as the JSON object in the first argument says."""
    document: dict[str, Any] = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(asdict(measure(Spec(**document)))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
