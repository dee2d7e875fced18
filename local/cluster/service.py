"""A Service's front: a TCP port whose connections go to ready pods.

Behind a load balancer, a client that keeps its connection does not stay with a pod that is going: its next
request is another pod's. So it is here: where a request begins on a connection whose pod is no longer ready,
the connection gets another pod. Otherwise bytes are passed on unread.
"""

from __future__ import annotations

import asyncio
import collections
import json
import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONNECT_TIMEOUT_S = 2.0
_LINGER_S = 0.5
_BACKLOG = 1024
_HIGH_WATER = 1 << 18
_REQUEST_LINE = re.compile(rb"(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) [^ \r\n]+ HTTP/1\.1\r\n")


@dataclass(frozen=True)
class Backend:
    """A pod that takes connections."""

    pod: str
    port: int


class PortBusyError(Exception):
    """Another program listens on the port."""


class _Pipe(asyncio.Protocol):
    """One side of a proxied connection: what it receives, `other` sends."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Pipe | None = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's, but do the same.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is not None and other.transport is not None:
            other.transport.write(data)

    def eof_received(self) -> bool:
        """This side will send no more; the other way stays open until it ends too."""
        self.ended = True
        other = self.other
        if other is None or other.transport is None or other.ended:
            return False
        if not other.transport.is_closing():
            with suppress(OSError):
                other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        other, self.other = self.other, None
        if other is not None and other.transport is not None:
            other.other = None
            if exc is None:
                other.transport.close()
            else:
                other.transport.abort()
        self.transport = None

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class _Upstream(_Pipe):
    """A connection to a pod."""

    def __init__(self, client: _Client) -> None:
        super().__init__()
        self.other = self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.answered = True
        super().data_received(data)


class _Client(_Pipe):
    """A connection from outside; what it sends before its pod is there is kept."""

    def __init__(self, front: Front) -> None:
        super().__init__()
        self._front = front
        self._backend: Backend | None = None
        self._early: list[bytes] = []
        self._refusal: bytes | None = None
        self.answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._front.connect(self)

    def upstream(self) -> _Pipe:
        """The other side, to be connected to a pod."""
        self.other = pipe = _Upstream(self)
        return pipe

    def joined(self, upstream: _Pipe, backend: Backend) -> None:
        """The pod is there: let data flow."""
        if self.transport is None or upstream.transport is None:  # one side left in between
            self._front.left(backend)
            for side in (self.transport, upstream.transport):
                if side is not None:
                    side.abort()
            return
        self._backend = backend
        upstream.transport.writelines(self._early)
        if self.ended:
            upstream.transport.write_eof()
        elif self._early:
            self.transport.resume_reading()
        self._early = []

    def refuse(self, answer: bytes) -> None:
        """No pod: answer the client's request by `answer`, once it comes, and close."""
        self._refusal, self.other = answer, None
        if self._early and self.transport is not None:
            self.transport.resume_reading()
            self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        if self._backend is not None:
            # Who speaks again after an answer begins a new request, unless it is the rest of a body that
            # `100 Continue` asked for: that does not look like one.
            if self.answered and self._front.is_going(self._backend) and _REQUEST_LINE.match(data):
                self._move(self._backend)
                self.data_received(data)
                return
            self.answered = False
            super().data_received(data)
        elif self._refusal is None:
            self._early.append(data)
            if self.transport is not None:
                self.transport.pause_reading()
        elif self._refusal and self.transport is not None:
            self.transport.write(self._refusal)
            self._refusal = b""
            # What the client still sends is read for a moment, or a reset could overtake the answer.
            asyncio.get_running_loop().call_later(_LINGER_S, self.transport.close)

    def _move(self, backend: Backend) -> None:
        """Leave a pod between two requests."""
        old, self.other, self._backend, self.answered = self.other, None, None, False
        if old is not None:
            old.other = None
            if old.transport is not None:
                old.transport.close()
        self._front.left(backend)
        self._front.connect(self)

    def eof_received(self) -> bool:
        if self._backend is None and (self._early or self._refusal == b""):
            self.ended = True
            return True
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._backend is not None:
            self._front.left(self._backend)
            self._backend = None


class Front:
    """One listening port. Everything but `set_backends` belongs to the fronts' own thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        self._loop = loop
        self._listener = listener
        self._server: asyncio.AbstractServer | None = None
        self._backends: tuple[Backend, ...] = ()
        self._active: collections.Counter[Backend] = collections.Counter()
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.why_not = "no Service yet"

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    def set_backends(self, backends: Sequence[Backend], why_not: str) -> None:
        """From now on, connections go to these; `why_not` is told when there are none."""
        self._backends, self.why_not = tuple(backends), why_not

    async def start(self) -> None:
        """Accept connections."""
        self._server = await self._loop.create_server(
            lambda: _Client(self), sock=self._listener, backlog=_BACKLOG
        )

    def connect(self, client: _Client) -> None:
        """Find a pod for a new connection."""
        task = self._loop.create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: _Client) -> None:
        refused: set[Backend] = set()
        while (backend := self._choose(refused)) is not None:
            self._active[backend] += 1
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    _, upstream = await self._loop.create_connection(
                        client.upstream, "127.0.0.1", backend.port
                    )
            except OSError:  # refused, or too slow: TimeoutError is one too
                self.left(backend)
                refused.add(backend)
                continue
            client.joined(upstream, backend)
            return
        client.refuse(_unavailable(self.why_not))

    def _choose(self, refused: set[Backend]) -> Backend | None:
        """The pod with the fewest connections, in turn among equals."""
        candidates = [backend for backend in self._backends if backend not in refused]
        if not candidates:
            return None
        self._turn += 1
        turned = candidates[self._turn % len(candidates) :] + candidates[: self._turn % len(candidates)]
        return min(turned, key=lambda backend: self._active[backend])

    def is_going(self, backend: Backend) -> bool:
        """Whether the pod takes no connections any more, and others do."""
        backends = self._backends
        return backend not in backends and bool(backends)

    def left(self, backend: Backend) -> None:
        """A connection to the pod has ended."""
        self._active[backend] -= 1
        if self._active[backend] <= 0:
            del self._active[backend]

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        self._listener.close()


def _unavailable(why: str) -> bytes:
    body = json.dumps({"error": why}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class Fronts:
    """The thread whose loop carries all fronts, apart from the API and the pods' bookkeeping."""

    def __init__(self) -> None:
        self._loop = _new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="service-fronts", daemon=True)
        self._thread.start()
        self._open: list[Front] = []

    def open(self, port: int = 0) -> Front:
        """Listen on 127.0.0.1:`port` (0: any free one). Raises PortBusyError."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise PortBusyError(f"port {port} cannot be used: {error.strerror}") from error
        front = Front(self._loop, listener)
        asyncio.run_coroutine_threadsafe(front.start(), self._loop).result(timeout=5)
        self._open.append(front)
        return front

    def close(self, front: Front) -> None:
        """Stop one front; connections in being go on."""
        self._open.remove(front)
        self._loop.call_soon_threadsafe(front.close)

    def stop(self) -> None:
        """Stop all and end the thread."""
        for front in list(self._open):
            self.close(front)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=2)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Uvloop's if it is installed: it halves the cost of a request."""
    try:
        import uvloop  # noqa: PLC0415 # pyright: ignore[reportMissingImports]
    except ImportError:
        return asyncio.new_event_loop()
    loop: Any = uvloop.new_event_loop()
    return loop
