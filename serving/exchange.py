"""A request and the place of its answer; what its head says is worked out once for all that share it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from serving.context import Context
from serving.errors import TurnedAwayError
from serving.responses import JSON

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serving.connection import Connection
    from serving.errors import RequestError
    from serving.records import Form


class Head:
    """The head of a request.

    Clients send the same head again and again, so one object serves all requests whose heads are the same
    bytes, and carries what was found out about it: `plan`, which answers such requests, `route`, by which
    they are counted, and `identity`, the header lines that name the model. `queue` are the requests that wait
    where the plan puts such a one, if it does nothing else. `forms` is capture's, by model.
    """

    __slots__ = (
        "forms",
        "headers",
        "identity",
        "keep_alive",
        "length",
        "method",
        "plan",
        "queue",
        "route",
        "target",
        "translate",
    )

    def __init__(
        self, method: bytes, target: bytes, headers: dict[bytes, bytes], *, keep_alive: bool, length: int = 0
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.keep_alive = keep_alive
        self.length = length
        self.route = "none"
        self.identity = b""
        self.plan: Callable[[Exchange], None] | None = None
        self.queue: list[Exchange] | None = None
        self.translate: Callable[[RequestError], RequestError] | None = None
        self.forms: dict[object, Form] | None = None


class Exchange:
    """A request, and the place of its answer among those of its connection.

    `started` is when the turn began in which it was read (`time.perf_counter()`). `context` is what its head
    has for itself alone; None if that is nothing. `event` is the id of its record, if capture has set it.
    """

    __slots__ = (
        "answer",
        "body",
        "connection",
        "context",
        "event",
        "head",
        "identity",
        "keep_alive",
        "started",
    )

    def __init__(
        self,
        connection: Connection,
        head: Head,
        body: bytes,
        started: float,
        context: Context | None = None,
    ) -> None:
        self.connection = connection
        self.head = head
        self.body = body
        self.context = context
        self.keep_alive = head.keep_alive
        self.identity = head.identity
        self.started = started
        self.answer: bytes | None = None
        self.event = b""

    def respond(self, status: int, content_type: bytes, body: bytes, extra: bytes = b"") -> None:
        """Answer; it is sent when the answers before it on the connection have been.

        `extra` is whole header lines.
        """
        connection = self.connection
        server = connection.server
        pending = connection.pending
        if server.draining and pending and pending[-1] is self and not connection.expects_more:
            self.keep_alive = False
            connection.finished = True
        identity = self.identity + extra if extra else self.identity
        head = server.heads.head(status, content_type, len(body), not self.keep_alive, identity)
        refused = status >= HTTPStatus.BAD_REQUEST
        if refused or self.context is not None:
            self.context = self.context or Context({})
            head = self.context.stamp(head, refused=refused)
        self.answer = head if self.head.method == b"HEAD" else head + body
        server.count(self, status)
        if pending and pending[0] is self:
            connection.send()

    def deliver(self, heads: dict[int, bytes], content_type: bytes, body: bytes) -> bytes:
        """Answer a prediction request; see `deliver_all`. Returns the body."""
        deliver_all((self,), heads, content_type, (body,))
        self.connection.spare = None  # a shadow may still look at it
        return body

    def fail(self, error: RequestError) -> None:
        """Answer with the reason of a refusal."""
        if isinstance(error, TurnedAwayError):
            self.connection.server.metrics.turned_away[error.cause] += 1
        if self.head.translate is not None:
            error = self.head.translate(error)
        self.respond(error.status, JSON, error.body(), error.headers)


class KeptExchange(Exchange):
    """A request of HTTP/1.0 that asks to keep the connection: the answer has to say that it is kept."""

    __slots__ = ()

    def respond(self, status: int, content_type: bytes, body: bytes, extra: bytes = b"") -> None:
        """Answer as `Exchange` does; in a drain the connection is not kept."""
        if self.connection.server.draining:
            self.keep_alive = False
            self.connection.finished = True
        else:
            extra += b"Connection: keep-alive\r\n"
        super().respond(status, content_type, body, extra)


def deliver_all(
    exchanges: Sequence[Exchange], heads: dict[int, bytes], content_type: bytes, bodies: Sequence[bytes]
) -> None:
    """Answer prediction requests of one server, route and identity, the shortest way for the usual case.

    `heads` are those that `Heads.usual` keeps for the content type and this identity. The next request of a
    connection may take the place of the one that is answered, so none may be kept for longer than this turn.
    """
    server = exchanges[0].connection.server
    clock, draining, unusual = server.clock, server.draining, 0
    for exchange, body in zip(exchanges, bodies, strict=True):
        connection = exchange.connection
        pending, transport = connection.pending, connection.transport
        usual = len(pending) == 1 and exchange.keep_alive and type(exchange) is Exchange
        if draining or transport is None or not usual:
            unusual += 1
            exchange.respond(200, content_type, body)
            continue
        try:
            head = heads[len(body)]
        except KeyError:
            head = heads[len(body)] = server.heads.head(
                200, content_type, len(body), close=False, extra=exchange.identity
            )
        pending.clear()
        connection.since = clock
        connection.spare = exchange
        if exchange.context is not None:
            head = exchange.context.stamp(head)
        exchange.answer = answer = head + body
        transport.write(answer)
    # `respond` counts what it answers.
    uncounted = len(exchanges) - unusual
    if uncounted:
        server.in_flight -= uncounted
        server.metrics.requests[exchanges[0].head.route, 200] += uncounted
