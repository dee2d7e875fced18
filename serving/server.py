"""The listening socket, the connections, and how they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from serving import context, limits, log
from serving.connection import Connection
from serving.errors import TurnedAwayError
from serving.responses import Heads
from serving.tls import HANDSHAKE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.exchange import Exchange, Head
    from serving.heads import Known
    from serving.metrics import Metrics
    from serving.observe import Observed
    from serving.settings import Settings
    from serving.tls import Certificate

_TICK_SECONDS: Final = 0.5
_DRAIN_TICK_SECONDS: Final = 0.02
# What is half-way when the drain period ends has this long to finish.
_LAST_SECONDS: Final = 5.0
# How often to look at how long a request lay unread, while none lies too long.
_LOOK_SECONDS: Final = 0.01


class Handler(Protocol):
    """Whatever answers requests."""

    def handle(self, exchange: Exchange) -> None:
        """Answer now, or keep the exchange and answer later."""
        ...

    def prepare(self, head: Head) -> None:
        """Work out for a head what refusals of such requests need, too."""
        ...

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """Answer a request whose plan raised this."""
        ...


Listener = Callable[["Observed", int], None]
"""Is told of an answer and its status when it is ready; predictions may be left to observers."""


class Server:
    """Accepts connections and hands their requests to a handler, until it is drained."""

    def __init__(self, settings: Settings, metrics: Metrics, certificate: Certificate | None = None) -> None:
        self.settings = settings
        self.metrics = metrics
        self.certificate = certificate
        self.heads = Heads()
        self.connections: set[Connection] = set()
        self.known_heads: Known = {}
        self.listeners: Sequence[Listener] = ()
        self.own_headers: frozenset[bytes] = context.HEADERS
        self.in_flight = 0
        self.draining = False
        self.leaving = False  # the drain period is over
        self.surplus = 0  # connections beyond the limit
        self.unasked: dict[limits.Surplus, None] = {}  # those of them that have not sent a request, by age
        self.look_at = 0.0  # when next to look at how long a request lay unread
        self.turn_began = 0.0  # when this turn of the event loop began to read requests; 0: it has not
        self.time: Callable[[], float] = time.perf_counter
        self.clock = self.time()
        self._last_connection = self.clock
        self._ticker: asyncio.TimerHandle | None = None
        self._listener: asyncio.Server | None = None
        self._handler: Handler | None = None

    async def start(self, handler: Handler, shared_port: int | None = None) -> int:
        """Listen, and hand requests to `handler`; return the port; raises `OSError`.

        `shared_port` is that of several workers.
        """
        loop = asyncio.get_running_loop()
        self.attach(handler)
        self._listener = await loop.create_server(
            self._accept,
            self.settings.host,
            self.settings.port if shared_port is None else shared_port,
            reuse_port=shared_port is not None,
            backlog=2048,
            ssl=None if self.certificate is None else self.certificate.context,
            ssl_handshake_timeout=None if self.certificate is None else HANDSHAKE_SECONDS,
        )
        self._tick()
        return int(self._listener.sockets[0].getsockname()[1])

    def attach(self, handler: Handler) -> None:
        """Have requests answered by `handler`."""
        self._handler = handler

    def handle(self, exchange: Exchange) -> None:
        """Have a request answered."""
        self.in_flight += 1
        if exchange.started > self.look_at and self.is_late(exchange):
            return
        if self._handler is not None:
            self._handler.handle(exchange)

    def turn(self) -> float:
        """Return when this turn of the event loop began to read requests.

        All that it reads had come by then, so its requests have this moment in common.
        """
        if not self.turn_began:
            self.turn_began = time.perf_counter()
            asyncio.get_running_loop().call_soon(self._end_turn)
        return self.turn_began

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """Answer a request whose plan raised this."""
        if self._handler is not None:
            self._handler.failed(exchange, error)

    def forget_heads(self) -> None:
        """Forget what was worked out for the heads of requests: the models have changed."""
        self.known_heads.clear()

    def count(self, exchange: Observed, status: int) -> None:
        """Count an answer."""
        self.in_flight -= 1
        self.metrics.requests[exchange.head.route, status] += 1
        for tell in self.listeners:
            tell(exchange, status)

    def begin_drain(self) -> None:
        """From now on answers close their connection; new connections are still taken."""
        self.draining = True
        self._last_connection = self.time()
        log.info("draining", connections=len(self.connections), in_flight=self.in_flight)

    async def drain(self) -> None:
        """Serve on until nobody comes any more or the drain period ends, then close everything.

        Whoever balances the load learns of the end with delay. So the socket stays open, idle connections
        stay until they have been used once more, and only then, or after the period, the server goes.
        """
        deadline = self.time() + self.settings.drain_seconds
        while self.time() < deadline:
            if self.connections:
                self._last_connection = self.time()
            elif self.time() - self._last_connection >= self.settings.settle_seconds:
                break
            await asyncio.sleep(_DRAIN_TICK_SECONDS)
        self.leaving = True
        if self._listener is not None:
            self._listener.close()
        end = self.time() + _LAST_SECONDS
        while self.connections and self.time() < end:
            for connection in tuple(self.connections):
                if not connection.busy:
                    connection.close()
            await asyncio.sleep(_DRAIN_TICK_SECONDS)
        if self._ticker is not None:
            self._ticker.cancel()
        log.info("drained", connections_cut=len(self.connections))

    def _end_turn(self) -> None:
        self.turn_began = 0.0

    def _accept(self) -> Connection:
        self._last_connection = self.time()
        full = len(self.connections) - self.surplus >= self.settings.max_connections
        return limits.Surplus(self) if full else Connection(self)

    def is_late(self, exchange: Exchange) -> bool:
        """Turn a request away that lay unread for too long; who watches the server is always answered."""
        waited, limit = limits.waited(exchange), self.settings.max_queue_seconds
        if waited <= limit:
            self.look_at = exchange.started + _LOOK_SECONDS
            return False
        if exchange.head.method in limits.READS:
            return False
        if exchange.head.plan is None and self._handler is not None:
            self._handler.prepare(exchange.head)
        exchange.fail(TurnedAwayError("queue", f"too many requests: this one waited longer than {limit:g} s"))
        return True

    def _tick(self) -> None:
        self._ticker = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)
        self.clock = self.time()
        self.heads.tick()
        if self.certificate is not None:
            self.certificate.refresh(self.clock)
        for connection in tuple(self.connections):
            connection.check(self.clock)
