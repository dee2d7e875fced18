"""HTTP/1.1 to the letter: what is refused, what is accepted, and that nobody can smuggle a request.

Every message is followed by a second request: what is refused must not be answered twice, and what is
accepted must leave the connection where the next request begins.
"""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.serving.serving_support import Answer, Client, Made, Served, request

ROW = b"1.5,200,7"
PING = request("GET", "/ping")
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n"


def post(headers: bytes = b"", body: bytes = ROW, *, version: bytes = b"1.1", length: bool = True) -> bytes:
    head = b"POST /invocations HTTP/%b\r\nHost: t\r\nContent-Type: text/csv\r\n%b" % (version, headers)
    return head + (b"Content-Length: %d\r\n" % len(body) if length else b"") + b"\r\n" + body


def chunked(body: bytes, headers: bytes = b"", *, version: bytes = b"1.1") -> bytes:
    return post(headers + b"Transfer-Encoding: chunked\r\n", body, version=version, length=False)


def answers(port: int, data: bytes, *parts: bytes) -> list[Answer]:
    """All that is answered until the connection ends."""
    found: list[Answer] = []
    with Client(port) as client:
        client.send(data)
        for part in parts:
            time.sleep(0.01)
            client.send(part)
        client.socket.shutdown(1)
        while True:
            try:
                found.append(client.receive())
            except EOFError as end:
                assert not end.args[0]  # noqa: PT017  an answer that began is whole
                return found


WHOLE = b"9\r\n" + ROW + b"\r\n0\r\n\r\n"

REFUSED: dict[str, bytes] = {
    # Two who read these differently would see two different requests.
    "length and chunks": post(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED),
    "chunks and length": chunked(b"0\r\n\r\n" + SMUGGLED, b"Content-Length: 3\r\n"),
    "two lengths": post(b"Content-Length: 9\r\n"),
    "two other lengths": post(b"Content-Length: 3\r\n", b"123" + SMUGGLED),
    "a list of lengths": post(b"Content-Length: 9, 9\r\n", length=False),
    "a length with a sign": post(b"Content-Length: +9\r\n", length=False),
    "a length below zero": post(b"Content-Length: -9\r\n", length=False),
    "a length in hex": post(b"Content-Length: 0x9\r\n", length=False),
    "a length with a space": post(b"Content-Length: 9 9\r\n", length=False),
    "a length of letters": post("Content-Length: \u0669\r\n".encode(), length=False),
    "an empty length": post(b"Content-Length: \r\n", length=False),
    "a length that overflows": post(b"Content-Length: 18446744073709551625\r\n", length=False),
    "a space before the colon": post(b"Content-Length : 9\r\n", length=False),
    "a folded length": post(b"Content-Length:\r\n 9\r\n", length=False),
    "a folded header": post(b"X-A: a\r\n b\r\n"),
    "a header that begins with a space": b"GET /ping HTTP/1.1\r\n Host: t\r\n\r\n",
    "another coding": post(b"Transfer-Encoding: xchunked\r\n", WHOLE, length=False),
    "chunked, then another": post(b"Transfer-Encoding: chunked, identity\r\n", WHOLE, length=False),
    "another, then chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", WHOLE, length=False),
    "identity, then chunked": post(b"Transfer-Encoding: identity, chunked\r\n", WHOLE, length=False),
    "chunked twice": chunked(WHOLE, b"Transfer-Encoding: chunked\r\n"),
    "a coding behind a control character": post(b"Transfer-Encoding:\x0bchunked\r\n", WHOLE, length=False),
    "chunks in HTTP/1.0": chunked(WHOLE, version=b"1.0"),
    "chunks in HTTP/1.0 that stays": chunked(WHOLE, b"Connection: keep-alive\r\n", version=b"1.0"),
    "no carriage returns": post().replace(b"\r\n", b"\n"),
    "one header without": post(b"X: y\n"),
    "a carriage return in a header": post(b"X: a\rb\r\n"),
    "NUL in a header": post(b"X: a\0b\r\n"),
    "NUL in a name": post(b"X\0: a\r\n"),
    "NUL in the target": b"GET /pi\0ng HTTP/1.1\r\nHost: t\r\n\r\n",
    "DEL in a header": post(b"X: \x7f\r\n"),
    "bytes beyond ASCII in the target": b"GET /\xff HTTP/1.1\r\nHost: t\r\n\r\n",
    "a header without a name": post(b": a\r\n"),
    "a header without a colon": post(b"Xabc\r\n"),
    "no host": b"GET /ping HTTP/1.1\r\n\r\n",
    "two hosts": post(b"Host: t\r\n"),
    "no valid host": b"GET /ping HTTP/1.1\r\nHost: a b/c\r\n\r\n",
    "HTTP/0.9": b"GET /ping\r\n\r\n",
    "HTTP/1.2": b"GET /ping HTTP/1.2\r\nHost: t\r\n\r\n",
    "HTTP/1.11": b"GET /ping HTTP/1.11\r\nHost: t\r\n\r\n",
    "HTTP/2.0": b"GET /ping HTTP/2.0\r\nHost: t\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "the version in small letters": b"GET /ping http/1.1\r\nHost: t\r\n\r\n",
    "the method in small letters": b"get /ping HTTP/1.1\r\nHost: t\r\n\r\n",
    "tabs in the first line": b"GET\t/ping\tHTTP/1.1\r\nHost: t\r\n\r\n",
    "a space behind the version": b"GET /ping HTTP/1.1 \r\nHost: t\r\n\r\n",
    "a chunk size that overflows": chunked(b"FFFFFFFFFFFFFFFF9\r\n" + ROW + b"\r\n0\r\n\r\n"),
    "a chunk size with a sign": chunked(b"+9\r\n" + ROW + b"\r\n0\r\n\r\n"),
    "a chunk size below zero": chunked(b"-9\r\n" + ROW + b"\r\n0\r\n\r\n"),
    "a chunk size with 0x": chunked(b"0x9\r\n" + ROW + b"\r\n0\r\n\r\n"),
    "a space before a chunk size": chunked(b" 9\r\n" + ROW + b"\r\n0\r\n\r\n"),
    "no chunk size": chunked(b"\r\n\r\n"),
    "chunk lines without carriage returns": chunked(b"9\n" + ROW + b"\n0\n\n"),
    "a line in a chunk extension": chunked(b"9;a\n b\r\n" + ROW + b"\r\n0\r\n\r\n"),
    "a chunk that is longer": chunked(b"8\r\n" + ROW + b"\r\n0\r\n\r\n"),
    "a chunk that is shorter": chunked(b"a\r\n" + ROW + b"\r\n0\r\n\r\n"),
    "a length among the trailers": chunked(b"9\r\n" + ROW + b"\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "an endless chunk extension": chunked(b"9;" + b"a" * 50_000 + b"\r\n" + ROW + b"\r\n0\r\n\r\n"),
    "chunk extensions without end": chunked((b"1;" + b"a" * 500 + b"\r\n1\r\n") * 100 + b"0\r\n\r\n"),
    "an endless chunk size": chunked(b"0" * 50_000 + b"9\r\n" + ROW + b"\r\n0\r\n\r\n"),
    "two expectations": post(b"Expect: 100-continue\r\nExpect: 100-continue\r\n"),
    "a control character in the model's name": post(b"X-Model: \x01\r\n"),
}

REFUSED_OTHERWISE: dict[str, tuple[bytes, int]] = {
    "trailers without end": (chunked(b"9\r\n" + ROW + b"\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n"), 431),
    "chunks beyond the limit": (chunked(b"8000\r\n%b\r\n" % (b"1" * 0x8000) * 4), 413),
    "zeros before a length beyond the limit": (
        post(b"Content-Length: " + b"0" * 6000 + b"999999\r\n", b"", length=False),
        413,
    ),
    "another expectation": (post(b"Expect: 200-ok\r\n"), 417),
    "a long target": (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n", 414),
    "a long header": (post(b"X: " + b"x" * 20_000 + b"\r\n"), 431),
    "a long header name": (post(b"X" * 20_000 + b": x\r\n"), 431),
    "many headers": (post(b"X: x\r\n" * 5000), 431),
}


@pytest.mark.parametrize(("name", "status"), [
    *((name, 400) for name in REFUSED), *((name, value[1]) for name, value in REFUSED_OTHERWISE.items())
])  # fmt: skip
def test_refused(server: Served, name: str, status: int) -> None:
    raw = REFUSED[name] if name in REFUSED else REFUSED_OTHERWISE[name][0]
    (answer,) = answers(server.port, raw + SMUGGLED)
    assert answer.status == status
    assert answer.error
    assert answer.headers["connection"] == "close"


ACCEPTED: dict[str, bytes] = {
    "as usual": post(),
    "a line before": b"\r\n" + post(),
    "zeros before the length": post(b"Content-Length: " + b"0" * 5000 + b"9\r\n", length=False),
    "header names in any case": post(b"cONTENT-lENGTH: 9\r\n", length=False),
    "bytes beyond ASCII in a header": post(b"X: \xff\xfe\r\n"),
    "space behind values": post(b"X-Model: \tflights \t\r\nAccept: text/csv \r\n").replace(
        b"Host: t", b"Host: t\t"
    ),
    "space behind a coding": post(b"Content-Encoding: identity\t \r\n"),
    "space behind 100-continue": post(
        b"Expect: 100-continue\t\r\nConnection: keep-alive\r\n", version=b"1.0"
    ),
    "space around a value": post(b"Content-Length: \t 9 \t\r\n", length=False),
    "chunks": chunked(WHOLE),
    "chunked in large letters": post(b"Transfer-Encoding: CHUNKED\r\n", WHOLE, length=False),
    "chunks of a byte": chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in ROW) + b"0\r\n\r\n"),
    "chunk extensions": chunked(b'9;a;b=c;d="e f"\r\n' + ROW + b"\r\n0;x\r\n\r\n"),
    "trailers": chunked(b"9\r\n" + ROW + b"\r\n0\r\nX-Check: 1\r\nContent-Type: text/html\r\n\r\n"),
    "zeros before a chunk size": chunked(b"00009\r\n" + ROW + b"\r\n00\r\n\r\n"),
    "100-continue in HTTP/1.0": post(b"Expect: 100-continue\r\nConnection: keep-alive\r\n", version=b"1.0"),
    "the model's name in per cent": post().replace(b"/invocations", b"/models/fl%69ghts/invoke"),
    "absolute form": post().replace(b"/invocations", b"http://u@elsewhere:1/invocations?a=b"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(server: Served, name: str) -> None:
    wanted = answers(server.port, post())[0].body
    for parts in ((ACCEPTED[name],), (ACCEPTED[name][:-3], ACCEPTED[name][-3:])):
        first, second = answers(server.port, *parts[:-1], parts[-1] + SMUGGLED)
        assert (first.status, first.body, second.status) == (200, wanted, 404)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n", 404),
        (b"OPTIONS /ping HTTP/1.1\r\nHost: t\r\n\r\n", 405),
        (b"TRACE /ping HTTP/1.1\r\nHost: t\r\nX-Secret: s3cret\r\n\r\n", 405),
        (b"PUT /invocations HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET http://t HTTP/1.1\r\nHost: t\r\n\r\n", 404),
        (b"GET /models/..%2F..%2Fetc HTTP/1.1\r\nHost: t\r\n\r\n", 404),
        (b"GET /models/../../etc/passwd HTTP/1.1\r\nHost: t\r\n\r\n", 404),
        (b"GET /models/%2Fflights HTTP/1.1\r\nHost: t\r\n\r\n", 404),
        (b"GET /models/a%0d%0aX-Injected:%20b HTTP/1.1\r\nHost: t\r\n\r\n", 404),
        (b"GET /models/%ff%fe%00 HTTP/1.1\r\nHost: t\r\n\r\n", 404),
        (b"GET /v2/models/flights/versions/%0d%0aX:y HTTP/1.1\r\nHost: t\r\n\r\n", 404),
        (b"GET /models?limit=" + b"9" * 5000 + b" HTTP/1.1\r\nHost: t\r\n\r\n", 400),
        (b"GET /models?limit=%D9%A3 HTTP/1.1\r\nHost: t\r\n\r\n", 400),
        (b"GET /models?next_page_token=-1 HTTP/1.1\r\nHost: t\r\n\r\n", 400),
    ],
)
def test_refused_with_the_connection_kept(server: Served, raw: bytes, status: int) -> None:
    first, second = answers(server.port, raw + PING)
    assert (first.status, second.status) == (status, 200)
    assert first.error
    assert not [name for name in first.headers if "inject" in name or name == "x"]
    assert b"s3cret" not in first.body


def test_connect_gets_no_tunnel(server: Served) -> None:
    for target in (b"a:1", b"/ping"):
        (answer,) = answers(server.port, b"CONNECT %b HTTP/1.1\r\nHost: t\r\n\r\n" % target + PING)
        assert answer.status in {404, 405}
        assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/ping", "/nothing", "/invocations", "/metrics", "/models"])
def test_head_is_get_without_a_body(server: Served, path: str) -> None:
    with Client(server.port) as client:
        wanted = client.ask("GET", path)
        answer = client.ask("HEAD", path)
        assert (answer.status, answer.body) == (wanted.status, b"")
        assert answer.headers.keys() == wanted.headers.keys()
        if path != "/metrics":  # which counts this request, too
            assert answer.headers["content-length"] == str(len(wanted.body))
        assert client.ask("GET", "/ping").status == 200


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1\r\nHost: t", None),
        (b"HTTP/1.1\r\nHost: t\r\nConnection: close", "close"),
        (b"HTTP/1.1\r\nHost: t\r\nConnection: CLOSE", "close"),
        (b"HTTP/1.1\r\nHost: t\r\nConnection: keep-alive, close", "close"),
        (b"HTTP/1.1\r\nHost: t\r\nConnection: keep-alive\r\nConnection: close", "close"),
        (b"HTTP/1.0", "close"),
        (b"HTTP/1.0\r\nConnection: Keep-Alive", "keep-alive"),
        (b"HTTP/1.0\r\nConnection: close", "close"),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_who_keeps_the_connection(server: Served, method: bytes, head: bytes, kept: str | None) -> None:
    raw = b"GET /ping %b\r\n\r\n" % head
    if method == b"POST":
        raw = b"POST /invocations %b\r\nContent-Type: text/csv\r\nContent-Length: 9\r\n\r\n%b" % (head, ROW)
    for _ in range(2):
        found = answers(server.port, raw + raw)
        assert [answer.status for answer in found] == [200] * (1 if kept == "close" else 2)
        assert found[0].headers.get("connection") == kept


def test_answers_keep_their_order(server: Served) -> None:
    """Answered at once, with the batch, by a task, or refused: in the order of the requests."""
    large = b"\n".join([ROW] * 500 + [b"1,2,x"])
    kinds: list[tuple[bytes, int]] = [
        (post(), 200),
        (PING, 200),
        (post(body=b"1,2"), 400),
        (post(body=b"\n".join([ROW] * 400)), 200),
        (chunked(WHOLE), 200),
        (post(body=large), 413),
        (request("GET", "/nothing"), 404),
        (request("POST", "/v2/models/flights/infer", b"{}", "application/json"), 400),
        (post(body=b'[["' + b"x" * 70_000 + b'"]]'), 400),
        (post(b"Expect: 100-continue\r\n"), 200),
    ]
    wanted = [status for _ in range(3) for _, status in kinds]
    found = answers(server.port, b"".join(raw for raw, _ in kinds) * 3 + post(b"Host: u\r\n") + PING)
    assert [answer.status for answer in found if answer.status != 100] == [*wanted, 400]
    assert [answer.status for answer in found].count(100) == 3


@pytest.mark.parametrize("cut", [1, 2, 7, 60])
def test_any_packets(server: Served, cut: int) -> None:
    raw = post() + PING + chunked(WHOLE) + post(body=b"1,2")
    with Client(server.port) as client:
        for start in range(0, len(raw), cut):
            client.send(raw[start : start + cut])
        assert [client.receive().status for _ in range(4)] == [200, 200, 200, 400]


@pytest.mark.parametrize(
    "raw", [post()[:40], post()[:-1], chunked(WHOLE)[:-2], chunked(b"ffffffffffffffff\r\n1")]
)
def test_a_request_that_ends_in_its_middle(server: Served, raw: bytes) -> None:
    whole, half = answers(server.port, post() + raw)
    assert whole.status == 200
    assert (half.status, half.headers["connection"]) == (400, "close")
    assert "in the middle" in half.error
    assert not answers(server.port, b"")
    assert not answers(server.port, b"\r\n")


def test_slow_senders(serve: Callable[..., Served], plain: Made) -> None:
    """Neither a head nor a body that trickles in keeps a connection for ever, however it trickles."""
    served = serve(plain.directory, request_seconds=0.6)
    served.wait_for("ready")
    begins = [
        b"G",
        b"GET /ping HTTP/1.1\r\nHost: t\r\nX: ",
        b"POST /invocations HTTP/1.1\r\nHost: t\r\nContent-Length: 999\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n",
        post() + b"GET /ping HTTP/1.1\r\nX: ",
    ]
    clients = [Client(served.port) for _ in begins]
    for client, begin in zip(clients, begins, strict=True):
        client.send(begin)
    found: list[Answer] = []
    end = time.monotonic() + 1.6
    while time.monotonic() < end:
        for client, begin in zip(clients, begins, strict=True):
            try:
                client.send(b"1\r\n1\r\n" if b"chunked" in begin else b"1")
            except OSError:
                continue
        time.sleep(0.1)
    for client, begin in zip(clients, begins, strict=True):
        if begin.startswith(post()):
            assert client.receive().status == 200
        found.append(client.receive())
        client.socket.close()
    # "G1" is no method, which is known before the time is over.
    assert [answer.status for answer in found] == [400, 408, 408, 408, 408]
    assert all(answer.error for answer in found)


def test_continue_is_asked_for_before_the_body(server: Served) -> None:
    """As curl does with a large body: the head, the interim answer, then the body."""
    body = b"\n".join([ROW] * 400)
    whole = post(b"Expect: 100-continue\r\n", body)
    with Client(server.port) as client:
        for _ in range(2):
            client.send(whole[: -len(body)])
            assert client.receive().status == 100
            client.send(body)
            answer: Any = client.receive()
            assert (answer.status, answer.body.count(b"\n")) == (200, 400)
