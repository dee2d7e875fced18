"""The load beyond capacity: what it counts, and what a run is judged by."""

import asyncio
import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench import wrk
from bench.flood import Flood, Spec
from bench.overload import evaluate, written
from bench.paced import read_requests

ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"",
)


class Moody(asyncio.Protocol):
    """Answers in four ways in turn; the last is to close."""

    asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert data == b"request"
        answer = ANSWERS[Moody.asked % 4]
        Moody.asked += 1
        self.transport.write(answer)
        if not answer:
            self.transport.close()


def test_every_outcome_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrk.write_requests(tmp_path / "requests", [b"request"])
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Moody, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        spec = Spec(
            port=server.sockets[0].getsockname()[1],
            requests=str(tmp_path / "requests"),
            rate=1000,
            seconds=0.6,
            interval_s=0.3,
            connections=8,
            patience_s=0.1,
        )
        flood = Flood(spec, read_requests(Path(spec.requests)))
        flood.run()
        flood.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(server.wait_closed())
        loop.close()
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2
    total = {
        name: sum(line[name] for line in lines) for name in ("good", "turned_away", "errors", "given_up")
    }
    # Eight connections, each closed once in four requests and back only after a second: 16 pairs at most.
    assert 1 <= total["good"] <= 16
    assert 1 <= total["turned_away"] <= 16
    assert total["errors"] == 8
    # No connection is left: what is due finds none.
    assert total["given_up"] > 300
    assert all(line["p50_ms"] >= 0 for line in lines)


def document(**changes: Any) -> dict[str, Any]:
    interval = {
        "at": 10, "seconds": 10.0, "sent": 1100, "good": 950, "turned_away": 150, "errors": 0,
        "given_up": 100, "p50_ms": 5.0, "p99_ms": 50.0, "rps": 95.0, "core": 1.0, "rss_mib": 60.0,
    }  # fmt: skip
    intervals = [{**interval, "rss_mib": 60.0 + at / 10} for at in range(6)]
    for name, value in changes.items():
        intervals[-1][name] = value
    return {
        "environment": {"date": "today", "cpu": "some", "commit": "c"},
        "seconds": 60.0, "share": 1.2, "rows": 32, "trees": 100, "connections": 10,
        "peak_rps": 100.0, "peak_per_cpu": 100.0, "peak_after_rps": 99.0, "offered_rps": 120.0,
        "intervals": intervals,
    }  # fmt: skip


def missed(**changes: Any) -> list[str]:
    return [target.name for target in evaluate(document(**changes)) if target.outcome != "reached"]


def test_a_run_is_judged() -> None:
    assert missed() == []
    assert missed(good=300)[:2] == [
        "goodput, share of the peak",
        "answers per CPU time of the server, share of the peak's",
    ]
    assert missed(rps=70.0) == ["the worst interval, share of the peak"]
    assert missed(p99_ms=5000.0) == ["p99 of what was answered, the worst interval"]
    assert missed(errors=1) == ["errors other than 503 with Retry-After"]
    # A generator that does not send what it should proves nothing.
    assert missed(given_up=0, sent=900) == ["goodput, share of the peak"]
    grown = document()
    grown["intervals"] = [{**item, "rss_mib": 60.0 + 10 * at} for at, item in enumerate(grown["intervals"])]
    assert "growth of memory" in [t.name for t in evaluate(grown) if t.outcome == "missed"]


def test_the_report_has_everything() -> None:
    found = document()
    targets = [{**asdict(target), "outcome": target.outcome} for target in evaluate(found)]
    text = written({**found, "targets": targets})
    assert "60 s at 120 requests/s, 120% of the capacity (the peak is 100), 32 rows each, 100 trees" in text
    assert "| goodput, share of the peak | 0.95  | ≥ 0.9 | reached |" in text
    assert text.count("| 10 | 95 | 5.0 | 50.0 | 150 | 100 | 0 | 1.00 |") == 6
