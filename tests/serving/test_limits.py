"""More than can be served: who is turned away, how, and who is not."""

import signal
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from serving import limits
from tests.serving.serving_support import Client, Made, Served, request

if TYPE_CHECKING:
    from serving.exchange import Exchange

ROW = b"1.5,200,7"
POST = request("POST", "/invocations", ROW, "text/csv")
ENDPOINT = request("POST", "/endpoints/flights/invocations", ROW, "text/csv")


def turned_away(client: Client, cause: str) -> int:
    text = client.ask("GET", "/metrics").body.decode()
    return int(text.split(f'\ntrainserve_turned_away_total{{cause="{cause}"}} ')[1].split("\n")[0])


@pytest.fixture
def full(serve: Callable[..., Served], plain: Made) -> Served:
    served = serve(plain.directory, max_connections=2)
    served.wait_for("ready")
    return served


def test_a_connection_too_many_is_told(full: Served) -> None:
    with ExitStack() as stack:
        inside = [stack.enter_context(Client(full.port)) for _ in range(2)]
        for client in inside:
            assert client.send(POST).receive().status == 200
        surplus = stack.enter_context(Client(full.port))
        # The body is still to come: it is not waited for.
        answer = surplus.send(POST[:-3]).receive()
        assert (answer.status, answer.error) == (503, "too many connections")
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["connection"] == "close"
        assert surplus.ended()
        # Those who were there before notice nothing, and who comes when there is room is served.
        assert all(client.send(POST).receive().status == 200 for client in inside)
        assert turned_away(inside[0], "connections") == 1
        inside.pop().socket.close()
        surplus.socket.close()
        time.sleep(0.1)
        late = stack.enter_context(Client(full.port))
        assert late.send(POST).receive().status == 200
        assert "connection" not in late.send(POST).receive().headers


def test_those_who_watch_a_full_server_are_answered(full: Served) -> None:
    with ExitStack() as stack:
        crowd = [stack.enter_context(Client(full.port)) for _ in range(2 + limits.RESERVED + 5)]
        for path in ("/ping", "/metrics", "/v2/health/ready"):
            with Client(full.port) as probe:
                # Twice at once: one answer, for the connection is not to be kept.
                answer = probe.send(request("GET", path) * 2).receive()
                assert (answer.status, answer.headers["connection"]) == (200, "close")
                assert probe.ended()
        # The reserve is for who asks: of those that keep silent there, the first made room.
        for client in crowd[2:7]:
            assert client.receive().status == 503
            assert client.ended()
        # So do the others, in time.
        assert crowd[-1].receive().status == 503
        assert crowd[0].send(POST).receive().status == 200


def test_what_lay_unread_for_too_long_is_turned_away(serve: Callable[..., Served], plain: Made) -> None:
    served = serve(plain.directory, max_queue_seconds=0.1)
    served.wait_for("ready")
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(served.port)) for _ in range(20)]
        assert all(client.send(POST).receive().status == 200 for client in clients)
        served.process.send_signal(signal.SIGSTOP)
        for client in clients[:10]:
            client.send(POST)
        clients[10].send(POST + request("GET", "/ping"))
        clients[11].send(ENDPOINT)
        time.sleep(0.3)
        served.process.send_signal(signal.SIGCONT)
        for client in clients[:11]:
            answer = client.receive()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.error == "too many requests: this one waited longer than 0.1 s"
            # The connection is well: what comes now has not waited.
            assert "connection" not in answer.headers
        assert clients[10].receive().status == 200
        # Its head is met for the first time: it is known all the same how SageMaker words a refusal.
        answer = clients[11].receive()
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (503, "ServiceUnavailable")
        assert answer.json["Message"] == answer.error
        assert all(client.send(POST).receive().status == 200 for client in clients)
        assert turned_away(clients[0], "queue") == 12


class Buffered:
    """A transport whose last data came five seconds ago."""

    def get_extra_info(self, _name: str) -> "Buffered":
        return self

    def getsockopt(self, *_: int) -> bytes:
        return bytes(52) + struct.pack("=I", 5000)


def test_what_waited_for_its_own_client_did_not_wait_for_the_server() -> None:
    for resumed, found in ((0.0, 5.0), (99.5, 0.5)):
        connection = SimpleNamespace(transport=Buffered(), resumed=resumed)
        exchange = SimpleNamespace(connection=connection, started=100.0)
        assert limits.waited(cast("Exchange", exchange)) == found
