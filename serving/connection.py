"""HTTP/1.1 on one connection: reads requests within limits, answers them in the order they came.

There is no timer per request: the server looks over all connections about twice a second and calls `check`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

import httptools

from serving import context, endpoints, framing, heads, log
from serving.errors import RequestError
from serving.exchange import Exchange, Head, KeptExchange
from serving.responses import CONTINUE

if TYPE_CHECKING:
    from serving.context import Context
    from serving.heads import Cuts
    from serving.server import Server

KEPT_HEADERS: Final = frozenset(
    (
        b"accept",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"inference-header-content-length",
        b"transfer-encoding",
        *endpoints.HEADERS,
    )
)
"""The headers that anything here looks at; in lower case."""
# These may come several times.
_LISTS: Final = frozenset((b"accept", b"connection", b"transfer-encoding"))
_PIECE: Final = 8 * 1024
# Bytes that arrive for each one of a body in chunks. A chunk of a single byte takes six.
_MOST_FRAMING: Final = 16
# Requests of one connection that are being answered at the same time; further ones wait.
_MOST_BEGUN: Final = 16
# How long a client may take to read an answer that refuses what it is still sending.
_LINGER_SECONDS: Final = 2.0


class Connection(asyncio.Protocol):
    """One client's connection."""

    keeps_alive = True

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pending: deque[Exchange] = deque()
        self._deferred: deque[Exchange] = deque()  # those of them that nobody has begun to answer
        self.spare: Exchange | None = None  # has been answered, and nobody looks at it any more
        self.finished = False  # no further request is taken from this connection
        self.since = server.clock  # when it became what it is now: idle, receiving, closing
        self._receiving = False
        self._lingers = False  # all is answered, but the client may still be sending
        self._choked = False  # the client does not take its answers
        self.resumed = 0.0  # when it last took them again
        self._half_closed = False  # the client sends no more
        self._held = b""  # arrived and not yet parsed
        self._message = b""  # what arrived on an idle connection, if that may be one whole request
        self._end = 0  # of the last head that had to be looked for
        self._cuts: Cuts | None = None  # where the last head had what is new in each
        self._offers_upgrade = False
        self._same_request = True  # no other has begun in this piece of data
        self._parser: httptools.HttpRequestParser | None = None
        self.transport: asyncio.Transport | None = None
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._own: list[tuple[bytes, bytes]] = []  # headers that only this request has, as they are spelled
        self._in_head = True
        self._head_bytes = 0
        self._fed = 0
        self._body: bytes | bytearray = b""

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to read requests."""
        self.transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)
        self.server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; every request that it completes is handled at once."""
        if not (self._receiving or self._held or self._choked or self.finished):
            server = self.server
            own = None
            # Most heads of a client are as long as the one before: to look for the end takes longer.
            end = self._end
            head = server.known_heads.get(data[:end]) if self._cuts is None else None
            if head is None:
                end = self._end = data.find(b"\r\n\r\n") + 4
                head = server.known_heads.get(data[:end])
                if head is None and self._cuts is not None:
                    head, own = heads.recall(server.known_heads, data[:end], self._cuts)
            if head is not None and len(data) == end + head.length:
                # One whole request, whose head the parser has read before: it need not read it again.
                exchange = self.spare
                if exchange is None:
                    exchange = Exchange(self, head, data[end:], server.turn_began or server.turn(), own)
                else:
                    # To make one takes several times as long.
                    self.spare = exchange.answer = None
                    exchange.head, exchange.body, exchange.context = head, data[end:], own
                    exchange.keep_alive, exchange.identity = head.keep_alive, head.identity
                    exchange.started, exchange.event = server.turn_began or server.turn(), b""
                self.pending.append(exchange)
                plan = head.plan
                if plan is None:
                    server.handle(exchange)
                    return
                server.in_flight += 1
                if exchange.started > server.look_at and server.is_late(exchange):
                    return
                if head.queue:
                    # Not the first of the turn: what else its plan does has been done.
                    head.queue.append(exchange)
                    return
                try:
                    plan(exchange)
                except Exception as error:  # noqa: BLE001  a defect must cost one request, not the process
                    server.failed(exchange, error)
                return
            self._message = data
        else:
            # Of a request in pieces, what came first must not be taken for all of it, whatever its length.
            self._message = b""
        self._held += data
        self._parse()

    def eof_received(self) -> bool:
        """The client sends no more; keep the connection while it still has answers to come."""
        self._half_closed = True
        self._parse()
        # TLS cannot be closed by halves.
        half = self.transport is not None and self.transport.can_write_eof()
        return half and bool(self._held or self.pending)

    def pause_writing(self) -> None:
        """The client does not take its answers: take no more of its requests."""
        self._choked = True
        self.since = self.server.clock
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._choked = False
        self.resumed = self.server.time()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._parse)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  why it ended changes nothing
        """Forget the connection, and with it the answers that nobody waits for."""
        self.finished = True
        self._held = b""
        self.pending.clear()
        self._deferred.clear()
        self._parser = self.spare = None  # they refer to this object: a cycle
        self.transport = None
        self.server.connections.discard(self)

    # Called by the parser.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begin()
        self._same_request = False
        self._receiving = True
        self.since = self.server.clock

    def on_url(self, url: bytes) -> None:
        """A piece of the target arrived."""
        self._target += url
        if len(self._target) > self.server.settings.max_header_bytes:
            self._refuse(RequestError(414, "the request target is too long"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer of a chunked body, is complete."""
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes + len(self._target) > self.server.settings.max_header_bytes:
            self._refuse_head()
            return
        # White space around a value is none of it; the parser leaves what is behind.
        value = value.strip(b" \t")
        spelled, name = name, name.lower()
        if self._in_head and name in self.server.own_headers:
            self._own.append((spelled, value))
        elif self._in_head and name in KEPT_HEADERS:
            if name in self._headers and name not in _LISTS:
                self._refuse(RequestError(400, f"more than one {name.decode()} header"))
                return
            self._headers[name] = b"%b, %b" % (self._headers[name], value) if name in self._headers else value

    def on_headers_complete(self) -> None:
        """The body comes next, unless it is already known to be refused."""
        self._in_head = False
        parser = self._parser
        if self.finished or parser is None:
            return
        if parser.should_upgrade() and parser.get_method() != b"CONNECT":
            self._offers_upgrade = True
            return
        version = parser.get_http_version()
        try:
            framing.check(version, self._headers, self.server.settings.max_body_bytes)
        except RequestError as error:
            self._refuse(error)
            return
        if b"expect" in self._headers and version == "1.1":
            self._expect(self._headers[b"expect"])

    def on_body(self, body: bytes) -> None:
        """A piece of the body arrived."""
        if self.finished:
            return
        if not self._body:
            self._body = body
        elif type(self._body) is bytearray:
            self._body += body
        else:
            # Grown in place: of a body in chunks of a byte or two, a list of them would be far larger.
            self._body = bytearray(self._body + body)
        limit = self.server.settings.max_body_bytes
        if len(self._body) > limit:
            self._refuse(framing.too_large(limit))

    def on_message_complete(self) -> None:
        """The request is whole: handle it."""
        parser = self._parser
        if self.finished or parser is None or self._offers_upgrade:
            return
        self._receiving = False
        body = bytes(self._body)
        keep_alive = self.keeps_alive and parser.should_keep_alive() and not parser.should_upgrade()
        head = Head(parser.get_method(), self._target, self._headers, keep_alive=keep_alive, length=len(body))
        started = self.server.turn()
        if parser.get_http_version() == "1.0" and keep_alive:
            exchange: Exchange = KeptExchange(self, head, body, started, self._take_context())
        else:
            message, self._message = self._message, b""
            self._cuts = heads.remember(self.server.known_heads, message, head, self._own)
            exchange = Exchange(self, head, body, started, self._take_context())
        self.pending.append(exchange)
        self.finished = not keep_alive
        if self._choked or len(self.pending) > _MOST_BEGUN:
            # Many small requests in one piece may ask for more than the client takes, or memory has room for.
            self._deferred.append(exchange)
        elif self.server.draining:
            # The last answer closes the connection. Which that is shows when all that arrived has been read.
            asyncio.get_running_loop().call_soon(self.server.handle, exchange)
        else:
            self.server.handle(exchange)

    def _take_context(self) -> Context | None:
        own, self._own = self._own, []
        return context.of(own) if own else None

    def _parse(self) -> None:
        """Parse what is held, a piece at a time: the answers to all of it may be more than a client takes."""
        while self._deferred and not self._choked and self._begun < _MOST_BEGUN:
            self.server.handle(self._deferred.popleft())
        while self._held and not self._choked and not self._deferred and not self.finished:
            piece, self._held = self._held[:_PIECE], self._held[_PIECE:]
            self._same_request = True
            rest = piece
            while rest:
                rest = self._feed(rest)
            if self._receiving and self._same_request:
                self._fed += len(piece)
                self._check_framing()
        if self.finished:
            self._held = b""
        elif self._half_closed and not self._held:
            if self._receiving:
                self._refuse(RequestError(400, "the connection ended in the middle of the request"))
                return
            self.finished = True
            if self.pending:
                self.pending[-1].keep_alive = False
            else:
                self.close()

    @property
    def _begun(self) -> int:
        return len(self.pending) - len(self._deferred)

    def _check_framing(self) -> None:
        """Refuse what the parser takes without a report: an endless header line, chunk size or extension."""
        most = self.server.settings.max_header_bytes
        if self._in_head and self._fed > most:
            self._refuse_head()
        elif not self._in_head and self._fed > _MOST_FRAMING * len(self._body) + 2 * most:
            self._refuse(RequestError(400, "the chunks of the body are mostly framing"))

    def _feed(self, data: bytes) -> bytes:
        """Parse; return what the parser has to be given again."""
        if self._parser is None:
            return b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._offers_upgrade and not self.finished:
                return self._without_upgrade() + data[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            log.error("internal error", error, where="parser callback")
            self._refuse(RequestError(500, "internal error"))
        except httptools.HttpParserError as error:
            self._refuse(RequestError(400, f"not a well-formed HTTP request: {error}"))
        return b""

    def _without_upgrade(self) -> bytes:
        """Return the head of a request that offers another protocol, as if it did not.

        The offer may be ignored, and Java's client makes it by default; but of such a request the parser
        gives no body. So it gets the head again, without the offer and with a fresh parser.
        """
        old, self._parser = self._parser, httptools.HttpRequestParser(self)
        self._offers_upgrade = False
        version = old.get_http_version() if old is not None else ""
        method = old.get_method() if old is not None else b""
        headers = [b"%b: %b\r\n" % header for header in self._headers.items() if header[0] != b"connection"]
        if b"close" in self._headers.get(b"connection", b"").lower():
            headers.append(b"Connection: close\r\n")
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._target, version.encode(), b"".join(headers))

    # Called by the server and by answers.

    def send(self) -> None:
        """Send the answers whose turn has come."""
        transport = self.transport
        if transport is None:
            return
        pending = self.pending
        self.since = self.server.clock
        while pending and pending[0].answer is not None:
            exchange = pending.popleft()
            transport.write(exchange.answer or b"")
            if not exchange.keep_alive:
                self._close(transport)
                return
        if self._deferred:
            asyncio.get_running_loop().call_soon(self._parse)

    def check(self, now: float) -> None:
        """Close the connection if it has been too long in its present state."""
        transport = self.transport
        if transport is None:
            return
        self.spare = None  # it refers to a model, which may have gone
        age = now - self.since
        settings = self.server.settings
        if self._lingers and not transport.get_write_buffer_size():
            if age > _LINGER_SECONDS:
                transport.abort()
        elif self._choked or self._lingers or transport.is_closing():
            if age > settings.request_seconds:
                transport.abort()
        elif self._receiving:
            if age > settings.request_seconds:
                self._refuse(
                    RequestError(408, f"the request took longer than {settings.request_seconds:g} s")
                )
        elif not self.pending and age > settings.keepalive_seconds:
            transport.close()

    @property
    def expects_more(self) -> bool:
        """Whether a request has arrived in part, or whole but unread, and there is time to wait for it."""
        return (self._receiving or bool(self._held)) and not self.server.leaving

    @property
    def busy(self) -> bool:
        """Whether a request is arriving, being answered, or its answer is still on the way out."""
        transport = self.transport
        return transport is not None and (
            self._receiving or bool(self.pending) or transport.get_write_buffer_size() > 0
        )

    def close(self) -> None:
        """Close the connection once what was written has been sent."""
        if self.transport is not None:
            self.transport.close()

    def _expect(self, expectation: bytes) -> None:
        if expectation.lower() != b"100-continue":
            self._refuse(RequestError(417, "Expect: only 100-continue is understood"))
            return
        # It takes its place in the order like any answer: those to earlier requests come first.
        interim = Exchange(self, Head(b"", b"", {}, keep_alive=True), b"", self.server.turn())
        interim.answer = CONTINUE
        self.pending.append(interim)
        if self.pending[0] is interim:
            self.send()

    def _refuse_head(self) -> None:
        limit = self.server.settings.max_header_bytes
        self._refuse(RequestError(431, f"the header section is larger than {limit} bytes"))

    def _refuse(self, error: RequestError) -> None:
        """Answer before the request has been read to its end, and read no more from this connection."""
        if self.finished:
            return
        self.finished = True
        self._lingers = True
        self._receiving = False
        self.since = self.server.clock
        # Of a target the method is known, too; and the answer to HEAD has no body whatever it says.
        method = self._parser.get_method() if self._target and self._parser is not None else b""
        head = Head(method, self._target, self._headers, keep_alive=False)
        exchange = Exchange(self, head, b"", self.server.turn(), self._take_context())
        self.pending.append(exchange)
        self.server.in_flight += 1
        exchange.fail(error)

    def _close(self, transport: asyncio.Transport) -> None:
        self.finished = True
        # Whoever sends one request after the other has sent more than the last that is answered in a drain.
        self._lingers |= self.server.draining
        if self._lingers and transport.can_write_eof():
            # Closing with unread data would reset the connection, and the reset may overtake the answer.
            transport.write_eof()
        else:
            transport.close()
