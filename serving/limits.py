"""What happens when there is more than can be served: who is turned away, and how.

Every connection up to the limit is served. One beyond it, surplus, may ask for health and metrics, so that
whoever watches the server does not take full for dead; anything else is answered 503. Then it is closed.

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

RESERVED: Final = 64
"""As many surplus connections may be there before they have asked."""

# How long such a connection may take to ask.
_PATIENCE_SECONDS: Final = 2.0
READS: Final = frozenset((b"GET", b"HEAD"))
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
        if self._target not in _WATCHED:
            self._refuse(TurnedAwayError("connections", "too many connections"))
        super().on_headers_complete()

    def check(self, now: float) -> None:
        """Wait less long for a request than other connections do."""
        if self in self.server.unasked and now - self.since > _PATIENCE_SECONDS:
            self.turn_away()
        else:
            super().check(now)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        super().connection_lost(exc)
        self.server.surplus -= 1
        self.server.unasked.pop(self, None)

    def turn_away(self) -> None:
        """Refuse before anything was asked."""
        self.server.unasked.pop(self, None)
        self._refuse(TurnedAwayError("connections", "too many connections"))
