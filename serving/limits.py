"""What happens when there is more than can be served: who is turned away, and how.

Every connection up to the limit is served. One beyond it, surplus, may ask for health and metrics, so that
whoever watches the server does not take full for dead; anything else is answered 503. Then it is closed.
That answer comes with the server's next look at its connections: to accept and close one costs ten times what
a request costs, and clients that try again at once would get the time of those that are served.

Of requests, one is turned away when its bytes lay unread for too long. Under overload that is where the queue
is: in the sockets' buffers. What has been read is answered with the next batch, so it needs no limit.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from serving.connection import Connection
from serving.errors import TurnedAwayError

if TYPE_CHECKING:
    import asyncio

    from serving.exchange import Exchange
    from serving.server import Server

RESERVED: Final = 64
"""As many surplus connections may be there before they have asked."""

# How long such a connection may take to ask.
_PATIENCE_SECONDS: Final = 2.0
READS: Final = frozenset((b"GET", b"HEAD"))
# With more surplus connections than this, answers come at once.
_MOST_WAITING: Final = 1024
_WATCHED: Final = frozenset((b"/ping", b"/metrics", b"/v2/health/live", b"/v2/health/ready"))

# In `struct tcp_info` of Linux: milliseconds since data came last.
_LAST_DATA_RECEIVED: Final = struct.Struct("=I")
_OFFSET: Final = 52


def waited(exchange: Exchange) -> float:
    """Return for how many seconds a request lay in its socket's buffer; 0 where that is not known.

    The system tells how long ago the connection's last data came. What lay there because the client did not
    take earlier answers did not wait for the server.
    """
    connection = exchange.connection
    if connection.transport is None:
        return 0.0
    try:
        raw = connection.transport.get_extra_info("socket").getsockopt(
            socket.IPPROTO_TCP, socket.TCP_INFO, _OFFSET + _LAST_DATA_RECEIVED.size
        )
        (milliseconds,) = _LAST_DATA_RECEIVED.unpack_from(raw, _OFFSET)
    except (OSError, AttributeError, struct.error):
        return 0.0
    return min(milliseconds / 1000, exchange.started - connection.resumed)


class Surplus(Connection):
    """A connection beyond the limit: it may ask once, about health or metrics."""

    keeps_alive = False

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._doomed = False  # has asked what it may not, and is about to be told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the request; whoever has waited longest for theirs makes room."""
        super().connection_made(transport)
        server = self.server
        server.surplus += 1
        server.unasked[self] = None
        if len(server.unasked) > RESERVED:
            next(iter(server.unasked)).turn_away()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, always from the start."""
        self._held += data
        self._parse()

    def on_headers_complete(self) -> None:
        """Refuse what is not for those who watch."""
        self.server.unasked.pop(self, None)
        if self._target in _WATCHED:
            super().on_headers_complete()
            return
        self._doomed = self.finished = True
        if self.server.surplus > _MOST_WAITING:
            self.turn_away()

    def eof_received(self) -> bool:
        """Answer now: the client waits for nothing else."""
        if self._doomed:
            self.turn_away()
        return super().eof_received()

    def check(self, now: float) -> None:
        """Tell who has to be told, and wait less long for a request than other connections do."""
        silent = self in self.server.unasked and now - self.since > _PATIENCE_SECONDS
        if silent or self._doomed:
            self.turn_away()
        else:
            super().check(now)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        super().connection_lost(exc)
        self.server.surplus -= 1
        self.server.unasked.pop(self, None)

    def turn_away(self) -> None:
        """Answer that there are too many connections."""
        self.server.unasked.pop(self, None)
        self._doomed = self.finished = False
        self._refuse(TurnedAwayError("connections", "too many connections"))
