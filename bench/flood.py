"""More load than can be served: `python -m bench.flood SPEC`, a JSON line on standard output each interval.

Requests come by a schedule, whatever the server does, over many connections with at most one request each.
One that finds none free waits for it, and is given up when it has waited too long, as its client would.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.paced import content_length, percentile, read_requests

_TICK_S: Final = 0.0005
# Whoever was told to come again later does so after this time, as `Retry-After` says.
_RETRY_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What to send where; times in seconds. `patience_s`: for a free connection."""

    port: int
    requests: str
    rate: float
    seconds: float
    interval_s: float
    connections: int
    patience_s: float = 1.0


@dataclass(kw_only=True)
class Interval:
    """What came of the requests of some seconds. Latencies are of answers 200, from when they were sent."""

    seconds: float = 0.0
    sent: int = 0
    good: int = 0
    turned_away: int = 0
    """Answers 503 with `Retry-After`."""

    errors: int = 0
    """Other answers, and connections that broke."""

    given_up: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    latencies: list[float] = field(default_factory=list[float], repr=False)

    def document(self) -> dict[str, Any]:
        """Return the figures alone."""
        self.latencies.sort()
        self.p50_ms = percentile(self.latencies, 0.5) * 1e3
        self.p99_ms = percentile(self.latencies, 0.99) * 1e3
        self.max_ms = max(self.latencies, default=0.0) * 1e3
        return {name: value for name, value in asdict(self).items() if name != "latencies"}


class _Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0.0
        self.buffer = b""


class Flood:
    """The connections, and what is due on them."""

    def __init__(self, spec: Spec, requests: list[bytes]) -> None:
        self._spec = spec
        self._requests = requests
        self._poll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._later: deque[float] = deque()  # when to connect again
        self._taken = 0
        self._interval = Interval()
        for _ in range(spec.connections):
            self._connect()

    def run(self) -> None:
        """Send for as long as is said, and print an interval after the other."""
        clock, spec = time.perf_counter, self._spec
        begin = now = clock()
        shown = begin
        while now < begin + spec.seconds:
            self._send(now, now - begin)
            for number, _ in self._poll.poll(_TICK_S):
                self._receive(self._open[number])
            now = clock()
            if now - shown >= spec.interval_s:
                self._show(now - shown)
                shown = now
            while self._later and self._later[0] <= now:
                self._later.popleft()
                self._connect()
        if now - shown >= spec.interval_s / 2:
            self._show(now - shown)

    def close(self) -> None:
        """Close all connections."""
        self._poll.close()
        for connection in self._open.values():
            connection.socket.close()

    def _show(self, seconds: float) -> None:
        self._interval.seconds = seconds
        sys.stdout.write(json.dumps(self._interval.document()) + "\n")
        sys.stdout.flush()
        self._interval = Interval()

    def _send(self, now: float, elapsed: float) -> None:
        spec, interval = self._spec, self._interval
        due = int(elapsed * spec.rate)
        too_late = int((elapsed - spec.patience_s) * spec.rate)
        if self._taken < too_late:
            interval.given_up += too_late - self._taken
            self._taken = too_late
        while self._taken < due and self._idle:
            connection = self._idle.popleft()
            connection.sent = now
            try:
                connection.socket.sendall(self._requests[self._taken % len(self._requests)])
            except OSError:
                self._broken(connection)
            self._taken += 1
            interval.sent += 1

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._broken(connection)
            return
        connection.buffer += data
        head, blank, body = connection.buffer.partition(b"\r\n\r\n")
        if not blank or len(body) < content_length(head):
            return
        connection.buffer = b""
        interval = self._interval
        if head.startswith(b"HTTP/1.1 200"):
            interval.good += 1
            interval.latencies.append(time.perf_counter() - connection.sent)
        elif head.startswith(b"HTTP/1.1 503") and b"Retry-After" in head:
            interval.turned_away += 1
        else:
            interval.errors += 1
        connection.sent = 0.0
        if b"Connection: close" in head:
            self._close(connection)
        else:
            self._idle.append(connection)

    def _connect(self) -> None:
        try:
            connection = _Connection(self._spec.port)
        except OSError:
            self._interval.errors += 1
            self._later.append(time.perf_counter() + _RETRY_S)
            return
        self._open[connection.socket.fileno()] = connection
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)
        self._idle.append(connection)

    def _broken(self, connection: _Connection) -> None:
        if connection.sent:
            self._interval.errors += 1
        else:
            self._idle.remove(connection)
        self._close(connection)

    def _close(self, connection: _Connection) -> None:
        number = connection.socket.fileno()
        if self._open.pop(number, None) is not None:
            self._poll.unregister(number)
        connection.socket.close()
        self._later.append(time.perf_counter() + _RETRY_S)


def main() -> int:
    """Send as the JSON object in the first argument says."""
    document: dict[str, Any] = json.loads(sys.argv[1])
    spec = Spec(**document)
    flood = Flood(spec, read_requests(Path(spec.requests)))
    try:
        flood.run()
    finally:
        flood.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
