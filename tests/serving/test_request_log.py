"""A line per request: what it says, which requests have one, and that nobody waits for whoever reads it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serving import log
from serving.access import RequestLog
from serving.exchange import Exchange, Head
from tests.serving.serving_support import ROOT, Answer, Client, Served, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.serving.serving_support import Made

ROW = b"1.5,200,7"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-00"


def lines(served: Served) -> list[dict[str, Any]]:
    """The lines about requests, once the server has ended."""
    assert served.terminate() == 0
    return [event for event in served.events() if event["event"] == "request"]


def test_every_request_has_a_line(serve: Callable[..., Served], plain: Made) -> None:
    served = serve(plain.directory, log_requests="on")
    served.wait_for("ready")
    amazon = {"X_Amzn_Trace_Id": "Root=1-ab-cd;Self=1"}
    asked: list[tuple[str, str, bytes, dict[str, str]]] = [
        ("POST", "/invocations", ROW, {}),
        ("POST", "/v2/models/flights/infer", b'{"inputs":[]}', {"X_Request_Id": "mine"}),
        ("POST", "/invocations", ROW + b"\n" + ROW, {"traceparent": PARENT}),
        ("POST", "/models/flights/invoke", ROW, amazon),
        *(("GET", path, b"", {}) for path in ("/models?limit=1", "/ping", "/metrics", "/v2/health/ready")),
    ]
    answers: list[Answer] = []
    with Client(served.port) as client:
        for method, path, body, own in asked:
            kind = "text/csv" if body.startswith(ROW) else ""
            answers.append(client.ask(method, path, body, kind, **own))
    # Lines of a few milliseconds have no order.
    routes = [("invocations", 1), ("v2_infer", None), ("invocations", 2), ("invoke", 1), ("models", None)]
    found = sorted(lines(served), key=lambda line: routes.index((line["route"], line.get("rows"))))
    assert [(line["route"], line.get("rows")) for line in found] == routes
    assert [line["status"] for line in found] == [200, 400, 200, 200, 200]
    assert [line["request_id"] for line in found[1:4]] == ["mine", TRACE, "1-ab-cd"]
    assert found[0]["request_id"] != found[4]["request_id"]
    assert [line.get("trace_id") for line in found] == [None, None, TRACE, None, None]
    assert (found[4]["method"], found[4]["path"]) == ("GET", "/models")
    line = found[0]
    assert 0 < line.pop("seconds") < 10
    assert line.pop("time").endswith("Z")
    assert line.pop("request_id")
    assert line.pop("answer_bytes") > len(answers[0].body)
    assert line == {
        "level": "info", "event": "request", "route": "invocations", "status": 200,
        "model": "flights", "version": "v1", "rows": 1, "request_bytes": len(ROW),
    }  # fmt: skip


def test_refusals_have_lines_by_default(serve: Callable[..., Served], plain: Made) -> None:
    served = serve(plain.directory)
    served.wait_for("ready")
    with Client(served.port) as client:
        client.ask("POST", "/invocations", ROW, "text/csv")
        client.ask("GET", "/models")
        answers = [client.ask("POST", "/invocations", b"secret", "text/csv") for _ in range(60)]
        text = client.ask("GET", "/metrics").body.decode()
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 60
    found = lines(served)
    # Ten a second at most; the sixty took less than three.
    assert 10 <= len(found) <= 30
    assert [line["request_id"] for line in found[:10]] == ids[:10]
    suppressed = int(text.split("\ntrainserve_log_lines_suppressed_total ")[1].split("\n")[0])
    assert suppressed == 60 - len(found)
    # What a client sent is not in the log: it may be personal data.
    assert "secret" not in served.log_path.read_text(encoding="utf-8")


def test_what_was_left_out_is_told_with_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    log_ = RequestLog(kept, every=False)  # pyright: ignore[reportArgumentType]
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    refused = exchange()
    for status in [400] * 25 + [503]:
        log_.answered(refused, status)
    now[0] += 1
    log_.answered(refused, 404)
    found = [json.loads(line) for line in kept.text.splitlines()]
    assert [line["status"] for line in found] == [400] * 10 + [503, 404]
    # Those of one kind do not hide the other's.
    assert [line.get("suppressed") for line in found[10:]] == [15, None]
    assert [line["level"] for line in found[9:]] == ["info", "warning", "info"]
    assert log_.suppressed == 15


def test_workers_give_ids_of_their_own(serve: Callable[..., Served], plain: Made) -> None:
    """They are copies of one process: nothing that ids are made of may be copied."""
    served = serve(plain.directory, log_requests="on", workers=2)
    served.wait_until_ready()
    for _ in range(40):
        with Client(served.port) as client:
            client.ask("POST", "/invocations", ROW, "text/csv")
    ids = [line["request_id"] for line in lines(served)]
    assert len(ids) == len(set(ids)) == 40
    assert len({own.partition("-")[0] for own in ids}) == 2


class Kept:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, data: bytes, lines: int = 1) -> None:
        assert data.count(b"\n") == lines
        self.text += data.decode()


def exchange(target: bytes = b"/x", method: bytes = b"POST") -> Exchange:
    head = Head(method, target, {}, keep_alive=True)
    return Exchange(None, head, b"", 0.0)  # pyright: ignore[reportArgumentType]


@given(st.binary(max_size=300), st.binary(max_size=20))
@settings(max_examples=100, deadline=None)
def test_a_line_is_one_line_whatever_was_asked_for(target: bytes, method: bytes) -> None:
    kept = Kept()
    RequestLog(kept, every=True).answered(exchange(target, method), 404)  # pyright: ignore[reportArgumentType]
    line = json.loads(kept.text)
    assert len(line["path"]) <= 200
    assert target.startswith(line["path"].encode("latin-1"))


# What a client might try, as bytes of a header's value.
INJECTIONS = [
    b'a","level":"error',
    b"a\\u000a{}",
    b"a\tb",
    b"caf\xe9",
    "\u2028".encode(),
    b"%0d%0aSet-Cookie: a=b",
    b"a" * 5000,
    b"<script>",
    b"${jndi:ldap://a}",
]


def test_a_request_id_cannot_inject(serve: Callable[..., Served], plain: Made) -> None:
    served = serve(plain.directory, log_requests="on")
    served.wait_for("ready")
    with Client(served.port) as client:
        for value in INJECTIONS:
            for path, status in (("/invocations", 200), ("/nowhere", 404)):
                head, _, body = request("POST", path, ROW, "text/csv").partition(b"\r\n\r\n")
                client.send(head + b"\r\nX-Request-Id: " + value + b"\r\n\r\n" + body)
                answer = client.receive()
                assert answer.status == status
                # Not the client's: none when all is well, else one made here.
                own = answer.headers.get("x-request-id", "")
                assert re.fullmatch(r"" if status == 200 else r"[0-9a-f]{10}-[0-9a-f]+", own)
                assert "set-cookie" not in answer.headers
    # What cannot be in a header makes the whole request malformed.
    for value in (b"a\rX: b", b"\x1b[2J", b"a\0"):
        with Client(served.port) as client:
            client.send(b"GET /models HTTP/1.1\r\nHost: t\r\nX-Request-Id: %b\r\n\r\n" % value)
            assert client.receive().status == 400
    found = lines(served)
    assert len(found) == 2 * len(INJECTIONS) + 3
    text = served.log_path.read_bytes()
    assert not [value for value in INJECTIONS if value in text]


def test_nobody_waits_for_the_reader_of_the_log(plain: Made, tmp_path: Path) -> None:
    """Standard error is a pipe that is full, and stays so."""
    reading, writing = os.pipe()
    try:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'training'}",
            "SERVING_HOST": "127.0.0.1",
            "SERVING_PORT": "0",
            "SERVING_MODEL_DIR": str(plain.directory),
            "SERVING_SETTLE_SECONDS": "0.1",
            "SERVING_WORKERS": "1",
            "SERVING_LOG_REQUESTS": "on",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "serving"], env=environment, stderr=writing, cwd=tmp_path
        )
        os.close(writing)
        port = 0
        with os.fdopen(os.dup(reading), "rb", buffering=0) as stream:
            text = b""
            while b'"ready"' not in text:
                text += stream.read(4096)
        port = next(event["port"] for event in map(json.loads, text.splitlines()) if "port" in event)
        body = request("POST", "/invocations", ROW, "text/csv")
        count, each = 0, 500
        with Client(port) as client:
            # Some 230 bytes each: what the pipe and the buffer take, and a good deal more.
            while count * 230 < (4 << 20) + (1 << 20):
                client.send(body * each)
                assert {client.receive().status for _ in range(each)} == {200}
                count += each
            text = client.ask("GET", "/metrics").body
            dropped = int(text.split(b"\ntrainserve_log_lines_dropped_total ")[1].split(b"\n")[0])
            assert 0 < dropped < count
        process.terminate()
        began = time.monotonic()
        assert process.wait(20) == 0
        assert time.monotonic() - began < 6
    finally:
        os.close(reading)


def test_the_writer_writes_whole_lines_in_order() -> None:
    reading, writing = os.pipe()
    writer = log.Writer(writing)
    text = "".join(f"{number}\n" for number in range(40_000))

    def put() -> None:
        for start in range(0, 40_000, 100):
            writer.write(b"".join(b"%d\n" % number for number in range(start, start + 100)), 100)

    putting = threading.Thread(target=put)
    putting.start()
    with os.fdopen(reading, "rb") as stream:
        assert stream.read(len(text)).decode() == text
        putting.join()
        assert writer.flush(5)
        assert writer.dropped == 0
    # Nobody is there any more: that is counted, and no reason to fail.
    writer.write(b"lost\nlost\n", 2)
    assert writer.flush(5)
    assert writer.dropped == 2
    os.close(writing)


def test_into_a_pipe_that_is_read_lines_go_at_once_and_else_nobody_waits() -> None:
    reading, writing = os.pipe()
    writer = log.Writer(writing)
    os.set_blocking(reading, False)
    writer.write(b"first\n")
    assert os.read(reading, 100) == b"first\n"  # no thread had to be waited for
    pieces = [b"%d" % number * 100_000 + b"\n" for number in range(10)]
    began = time.monotonic()
    for piece in pieces:
        writer.write(piece)
    assert time.monotonic() - began < 5  # the pipe is full, and nobody reads
    os.set_blocking(reading, True)
    with os.fdopen(reading, "rb") as stream:
        assert stream.read(sum(map(len, pieces))) == b"".join(pieces)
        assert writer.flush(5)
        writer.write(b"last\n")
        assert stream.readline() == b"last\n"
    assert writer.dropped == 0
    os.close(writing)


def test_lines_of_several_processes_are_not_mixed() -> None:
    reading, writing = os.pipe()
    writers = [log.Writer(writing, shared=True) for _ in range(2)]
    text = "".join(f"{'ab'[number % 2] * 300}\n" for number in range(1000))
    long = "c" * 5000 + "\n"
    for _ in range(3):
        for writer in writers:
            writer.write(text.encode(), 1000)
    writers[0].write(long.encode())
    time.sleep(0.1)  # now both wait for room
    with os.fdopen(reading, "rb") as stream:
        found = [stream.readline().decode() for _ in range(6001)]
    # A line longer than what a pipe takes whole may be cut; it is the only one.
    assert {line for line in found if "c" not in line} == {"a" * 300 + "\n", "b" * 300 + "\n"}
    assert sum(line.count("c") for line in found) == 5000
    os.close(writing)
