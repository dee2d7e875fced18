"""Connections without a socket: what comes in one piece, and what a client takes, is not left to chance."""

import asyncio
import re
from typing import Any, cast

from serving.app import App
from serving.connection import Connection
from serving.metrics import Metrics
from serving.models import Models
from serving.sagemaker import SageMaker
from serving.server import Server
from serving.settings import Settings


class Wire:
    """A transport that keeps what is written, until it is closed.

    Of more than `most` bytes the client takes none before `read` is called.
    """

    def __init__(self, connection: Connection, most: int = 1 << 30) -> None:
        self.written = b""
        self.closed = False
        self._connection = connection
        self._most = most
        self._unread = 0

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data
        before, self._unread = self._unread, self._unread + len(data)
        if before <= self._most < self._unread:
            self._connection.pause_writing()

    def read(self) -> None:
        full, self._unread = self._unread > self._most, 0
        if full:
            self._connection.resume_writing()

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def write_eof(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closed


def connect(server: Server, most: int = 1 << 30) -> tuple[Connection, Wire]:
    """Return a connection to a server, and its wire."""
    connection = Connection(server)
    wire = Wire(connection, most)
    connection.connection_made(cast("Any", wire))
    return connection, wire


async def start(chosen: Settings) -> Server:
    """Return a server that serves the bundle in `model_dir`."""
    server = Server(chosen, Metrics())
    models = Models(chosen, server.metrics)
    server.attach(App(server, models, [SageMaker(models, chosen, server.heads)]))
    assert chosen.model_dir is not None
    await models.load("", chosen.model_dir)
    models.set_ready()
    return server


async def turns(count: int = 3) -> None:
    """Let the event loop do what is due."""
    for _ in range(count):
        await asyncio.sleep(0)


async def said(server: Server, pieces: list[bytes]) -> list[bytes]:
    """What is answered to each of these pieces, and what remains at the end."""
    connection, wire = connect(server)
    found: list[bytes] = []
    for piece in pieces:
        if wire.closed:
            break
        connection.data_received(piece)
        await turns()
        # The time, and the ids that refusals are given, are new each time.
        found.append(re.sub(rb"(Date: [^\r]*|X-Request-Id: [0-9a-f]{10}-[0-9a-f]+)\r\n", b"", wire.written))
    connection.connection_lost(None)
    return found
