"""The protocol: order, limits, bodies in pieces, and clients that misbehave."""

import time
from collections.abc import Callable

import pytest

from tests.serving.serving_support import Client, Made, Served, request

ROW = b"1.5,200,7"
PING = request("GET", "/ping")


def test_pipelined_answers_keep_their_order(client: Client) -> None:
    # Predictions wait for their batch; the others are answered at once and must not overtake them.
    paths = ["/invocations", "/ping", "/nothing", "/invocations", "/metrics", "/invocations", "/ping"] * 5
    client.send(
        b"".join(
            request("POST", path, ROW, "text/csv") if path == "/invocations" else request("GET", path)
            for path in paths
        )
    )
    for path in paths:
        answer = client.receive()
        assert answer.status == (404 if path == "/nothing" else 200)
        kind = {"/invocations": "text/csv", "/metrics": "text/plain; version=0.0.4; charset=utf-8"}
        assert answer.headers["content-type"] == kind.get(path, "application/json")


def test_a_long_pipeline_cut_anywhere(client: Client) -> None:
    count = 2000
    client.send(request("POST", "/invocations", ROW, "text/csv") * count)
    assert {client.receive().status for _ in range(count)} == {200}


def test_connection_close_is_answered_and_obeyed(client: Client) -> None:
    client.send(request("POST", "/invocations", ROW, "text/csv", Connection="close") + PING)
    answer = client.receive()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert client.ended()


def test_http_1_0(client: Client) -> None:
    client.send(b"GET /ping HTTP/1.0\r\n\r\n")
    assert client.receive().status == 200
    assert client.ended()


def test_one_byte_at_a_time(client: Client) -> None:
    for byte in request("POST", "/invocations", ROW, "text/csv"):
        client.send(bytes([byte]))
    assert client.receive().status == 200


def test_chunked_body(client: Client) -> None:
    head = request("POST", "/invocations", b"", "text/csv").replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    client.send(head + b"4\r\n1.5,\r\n5;x=y\r\n200,7\r\n0\r\nContent-Type: text/html\r\n\r\n")
    chunked = client.receive()
    assert chunked.body == client.ask("POST", "/invocations", ROW, "text/csv").body


def test_100_continue(client: Client) -> None:
    client.send(PING + request("POST", "/invocations", ROW, "text/csv", Expect="100-continue")[: -len(ROW)])
    assert client.receive().status == 200
    assert client.receive().status == 100
    client.send(ROW)
    assert client.receive().status == 200


def test_100_continue_is_not_said_to_what_will_be_refused(client: Client) -> None:
    client.send(
        b"POST /invocations HTTP/1.1\r\nHost: t\r\nContent-Length: 999999\r\nExpect: 100-continue\r\n\r\n"
    )
    assert client.receive().status == 413


def test_half_closed_connection_gets_its_answers(client: Client) -> None:
    client.send(PING + request("POST", "/invocations", ROW, "text/csv"))
    client.socket.shutdown(1)
    assert client.receive().status == 200
    assert client.receive().status == 200
    assert client.ended()


def test_upgrade_is_ignored(client: Client) -> None:
    wanted = client.ask("POST", "/invocations", ROW, "text/csv")
    # As Java's client does by default.
    offer = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2_Settings": "AAEAAEAAAAIAAAABAAMAAABk",
    }
    client.send(request("POST", "/invocations", ROW, "text/csv", **offer) * 500)
    for _ in range(500):
        assert client.receive().body == wanted.body
    client.send(request("POST", "/invocations", ROW, "text/csv", Upgrade="h2c", Connection="upgrade")[:-3])
    client.send(ROW[-3:])
    assert client.receive().body == wanted.body
    client.send(request("GET", "/ping", Upgrade="websocket", Connection="upgrade, close"))
    assert client.receive().status == 200
    assert client.ended()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"POST /invocations HTTP/1.1\r\nHost: t\r\nContent-Length: 100001\r\n\r\n", 413),
        (
            b"POST /invocations HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"8000\r\n%b\r\n" % (b"1" * 0x8000) * 4,
            413,
        ),
        (b"GET /ping HTTP/1.1\r\nHost: t\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /ping HTTP/1.1\r\nHost: t\r\n" + b"X: y\r\n" * 4000 + b"\r\n", 431),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n", 414),
        (b"GET /ping HTTP/1.1\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nHost: t\r\nExpect: wonders\r\n\r\n", 417),
        (b"GET /ping HTTP/0.9\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GIVE /ping HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"POST /invocations HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: t\r\n\r\n", 404),
    ],
)
def test_refused_requests_end_the_connection(client: Client, raw: bytes, status: int) -> None:
    # What is answered before the trouble stays answered.
    client.send(PING + raw)
    assert client.receive().status == 200
    answer = client.receive()
    assert answer.status == status
    assert answer.error
    assert answer.headers["connection"] == "close"
    assert client.ended()


def test_a_head_that_never_ends_is_cut(client: Client) -> None:
    client.send(b"GET /ping HTTP/1.1\r\nX: ")
    answer = None
    for _ in range(100):
        client.send(b"x" * 1000)
        time.sleep(0.001)
    answer = client.receive()
    assert answer.status == 431


def test_an_answer_survives_what_the_client_still_sends(client: Client) -> None:
    # Closing at once would reset the connection, and the reset would destroy the answer.
    client.send(b"POST /invocations HTTP/1.1\r\nHost: t\r\nContent-Length: 5000000\r\n\r\n")
    for _ in range(20):
        client.send(b"x" * 100_000)
    assert client.receive().status == 413


def test_slow_and_idle_clients(serve: Callable[..., Served], plain: Made) -> None:
    served = serve(plain.directory, request_seconds=0.6, keepalive_seconds=0.6)
    served.wait_for("ready")
    with Client(served.port) as slow, Client(served.port) as silent, Client(served.port) as idle:
        slow.send(b"POST /invocations HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n1")
        assert idle.ask("GET", "/ping").status == 200
        begun = time.monotonic()
        answer = slow.receive()
        assert answer.status == 408
        assert "longer than 0.6 s" in answer.error
        assert idle.ended()
        assert silent.ended()
        assert time.monotonic() - begun < 3


def resident_bytes(client: Client) -> int:
    text = client.ask("GET", "/metrics").body.decode()
    return int(text.split("\nprocess_resident_memory_bytes ")[1].split("\n")[0])


def test_a_client_that_takes_no_answers_is_cut_off(serve: Callable[..., Served], plain: Made) -> None:
    served = serve(plain.directory, request_seconds=0.6)
    served.wait_for("ready")
    with Client(served.port, timeout=0.3) as greedy, Client(served.port) as other:
        before = resident_bytes(other)
        batch = request("GET", "/metrics") * 500
        with pytest.raises(OSError, match=r"timed out|reset|[Pp]ipe"):  # no reads: the buffers fill up
            greedy.send(batch * 1000)
        # Nor does it make the server keep answers that nobody takes.
        assert resident_bytes(other) < before + 4_000_000
        end = time.monotonic() + 8
        while b"trainserve_connections 1\n" not in other.ask("GET", "/metrics").body:
            assert time.monotonic() < end
            time.sleep(0.1)
