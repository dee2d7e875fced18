"""Compressed request bodies: inflated before anyone reads them, and never beyond the limit of a body."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from serving.errors import RequestError

if TYPE_CHECKING:
    from serving.exchange import Exchange, Head
    from serving.routes import Plan

# Members of a gzip body. Behind each the rest of the body is copied.
_MOST_MEMBERS: Final = 64

# zlib's parameter for the container: gzip, and zlib, which HTTP calls deflate.
_CONTAINERS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


def inflating(head: Head, plan: Plan, limit: int) -> Plan:
    """Return the plan for requests with this head, their bodies inflated first; raises `RequestError`.

    `limit`: of the inflated body in bytes.
    """
    encoding = head.headers.get(b"content-encoding", b"identity").lower()
    if encoding == b"identity":
        return plan
    container = _CONTAINERS.get(encoding)
    if container is None:
        raise RequestError(415, "Content-Encoding: want gzip, deflate or identity")

    def run(exchange: Exchange) -> None:
        exchange.body = inflate(exchange.body, container, limit)
        plan(exchange)

    return run


def inflate(body: bytes, container: int, limit: int) -> bytes:
    """Return the inflated body; raises `RequestError` when it is malformed or larger than `limit`."""
    parts: list[bytes] = []
    room = limit
    for _ in range(_MOST_MEMBERS):
        if not body:
            return b"".join(parts)
        stream = zlib.decompressobj(container)
        try:
            part = stream.decompress(body, room + 1)
        except zlib.error as error:
            raise RequestError(400, f"Content-Encoding: the body cannot be inflated: {error}") from error
        if len(part) > room:
            raise RequestError(413, f"the body is larger than {limit} bytes when inflated")
        if not stream.eof:
            raise RequestError(400, "Content-Encoding: the body ends too early")
        parts.append(part)
        room -= len(part)
        body = stream.unused_data  # gzip may have several members
    raise RequestError(400, f"Content-Encoding: the body has more than {_MOST_MEMBERS - 1} members")
