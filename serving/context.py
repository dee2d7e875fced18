"""What is new in every request's head: its id, and the trace that it belongs to (W3C Trace Context)."""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from serving.ids import Ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REQUEST_ID: Final = b"x-request-id"
TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
AMAZON_TRACE: Final = b"x-amzn-trace-id"  # of AWS's load balancers: on every request that has none

HEADERS: Final = frozenset((REQUEST_ID, TRACEPARENT, TRACESTATE, AMAZON_TRACE))
"""In lower case. They say nothing about the answer, so they are no part of what a head is known by."""

PLAIN: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:+/=;,@~*"
"""Letters, digits and some marks: neither a space nor what could end a header, a log line or a JSON text."""

_LONGEST_ID: Final = 128
_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^\r\n]*)?")
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16


class _Source:
    """Where the ids of requests come from that brought none."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.ids = Ids(secrets.token_hex(5).encode() + b"-")


_source: Final = _Source()
os.register_at_fork(after_in_child=_source.renew)


class Parent(NamedTuple):
    """The caller's span, as `traceparent` names it: hexadecimal ids, and whether it is recorded."""

    trace_id: str
    span_id: str
    sampled: bool


class Context:
    """A request's own id and its place in a trace; headers that are not as they should be count as absent.

    `request_id` is the client's, else the trace's, else the load balancer's, else empty until `stamp`
    needs one. `returned` is whether a successful answer carries it too: when the client sent it.
    `trace_id` is that of the caller's trace, or of the one that begins here; empty when there is none.
    """

    __slots__ = ("_request_id", "headers", "parent", "returned", "trace_id")

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self.headers = headers
        value = headers.get(TRACEPARENT)
        self.parent = None if value is None else read_parent(value)
        self.trace_id = "" if self.parent is None else self.parent.trace_id
        named = _plain(headers.get(REQUEST_ID, b"")) or self.trace_id.encode()
        self.returned = bool(named)
        # What load balancers put on every request is read when somebody asks for it.
        self._request_id = named or None

    @property
    def request_id(self) -> bytes:
        """The id; empty if there is none yet."""
        if self._request_id is None:
            self._request_id = _amazon_root(self.headers.get(AMAZON_TRACE, b""))
        return self._request_id

    @request_id.setter
    def request_id(self, value: bytes) -> None:
        self._request_id = value

    def stamp(self, head: bytes, *, refused: bool = False) -> bytes:
        """Return an answer's head with the request's id, if it is to carry it; refusals always do."""
        if refused:
            self.request_id = self.request_id or new_id()
        elif not self.returned:
            return head
        return b"%bX-Request-Id: %b\r\n\r\n" % (head[:-2], self.request_id)


def new_id() -> bytes:
    """Return an id for a request that brought none."""
    return _source.ids.one()


def new_ids(count: int) -> tuple[bytes, Sequence[bytes]]:
    """Return ids for so many such requests: what they begin with, and how each of them ends."""
    return _source.ids.many(count)


def read_parent(value: bytes) -> Parent | None:
    """Read `traceparent`; None if it is not valid, as the specification has it."""
    match = _PARENT.fullmatch(value)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more) or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    return Parent(trace.decode(), span.decode(), bool(int(flags, 16) & 1))


def of(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    """Return what these headers, as they came, make; of those that may come once, several count as none."""
    found: dict[bytes, bytes] = {}
    for spelled, value in headers:
        name = spelled.lower()
        if name not in found:
            found[name] = value
        else:
            found[name] = b"%b,%b" % (found[name], value) if name == TRACESTATE else b""
    return Context(found)


def _plain(value: bytes) -> bytes:
    return b"" if not value or len(value) > _LONGEST_ID or value.translate(None, PLAIN) else value


def _amazon_root(value: bytes) -> bytes:
    """Return the trace's id from `Root=…;Parent=…`."""
    for part in value.split(b";"):
        name, _, root = part.partition(b"=")
        if name.strip().lower() == b"root":
            return _plain(root)
    return b""
