"""A client that asks and does not read: it is answered as far as it takes answers, and no further."""

import asyncio
from collections.abc import Sequence

import pytest

from serving.server import Server
from tests.serving.serving_support import request
from tests.serving.test_protocol import PING, ROW, post
from tests.serving.wires import connect, turns

MOST = 20_000
LITTLE = 110_000  # what may wait for earlier answers, and what the client is sent beside it
METRICS = request("GET", "/metrics")
LAST = request("GET", "/ping", Connection="close")


def bodies(written: bytes) -> int:
    return written.count(b"HTTP/1.1 200 OK\r\n")


ASKED: dict[str, Sequence[bytes]] = {
    "metrics": [METRICS] * 100,
    "metrics behind others": [PING, METRICS] * 50,
    "metrics behind predictions": [post(), *[METRICS] * 20] * 5,
}


@pytest.mark.parametrize("name", ASKED)
def test_many_small_requests_in_one_piece(inside: tuple[asyncio.Runner, Server], name: str) -> None:
    asked = ASKED[name]
    runner, server = inside

    async def ask() -> None:
        connection, wire = connect(server, MOST)
        connection.data_received(b"".join([*asked, LAST]))
        await turns()
        first = len(wire.written)
        assert first < LITTLE
        reads = 0
        while not wire.closed:
            before = len(wire.written)
            wire.read()
            await turns()
            reads += 1
            assert len(wire.written) - before < LITTLE
        assert reads >= 3
        assert bodies(wire.written) == len(asked) + 1
        connection.connection_lost(None)

    runner.run(ask())
    assert server.in_flight == 0


def test_whoever_goes_away_is_forgotten(inside: tuple[asyncio.Runner, Server]) -> None:
    runner, server = inside

    async def ask() -> None:
        connection, wire = connect(server, MOST)
        connection.data_received(METRICS * 100)
        await turns()
        written = len(wire.written)
        connection.connection_lost(None)
        wire.read()
        await turns()
        assert len(wire.written) == written

    runner.run(ask())
    assert server.in_flight == 0


def test_the_next_one_is_answered_as_ever(inside: tuple[asyncio.Runner, Server]) -> None:
    runner, server = inside

    async def ask() -> None:
        connection, wire = connect(server, MOST)
        connection.data_received(METRICS * 30)
        connection.eof_received()
        while not wire.closed:
            await turns()
            wire.read()
        assert bodies(wire.written) == 30
        other, wire = connect(server, MOST)
        other.data_received(post(b"", ROW))
        await turns()
        assert bodies(wire.written) == 1

    runner.run(ask())
    assert server.in_flight == 0
