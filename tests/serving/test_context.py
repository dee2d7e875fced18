"""Request ids and W3C Trace Context: what counts, what is ignored; remembered heads stay themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving import context
from serving.connection import Connection
from serving.metrics import Metrics
from serving.responses import JSON
from serving.server import Server
from serving.settings import Settings

if TYPE_CHECKING:
    import asyncio

    from serving.exchange import Exchange, Head

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"

almost = st.builds(
    "{}-{}-{}-{}{}".format,
    st.sampled_from(["00", "01", "cc", "ff", "0", "0A", "FF"]),
    st.sampled_from([TRACE, "0" * 32, TRACE.upper(), TRACE[:-1], "g" * 32]),
    st.sampled_from([SPAN, "0" * 16, SPAN.upper(), SPAN + "0"]),
    st.sampled_from(["00", "01", "02", "03", "ff", "1", "0G"]),
    st.sampled_from(["", "-", "-more", "x"]),
)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)


@given(almost | texts)
@example(VALID)
@settings(max_examples=100, deadline=None)
def test_traceparent_is_read_as_opentelemetry_reads_it(value: str) -> None:
    found = context.read_parent(value.encode("latin-1"))
    span = get_current_span(
        TraceContextTextMapPropagator().extract({"traceparent": value})
    ).get_span_context()
    # The SDK strips spaces, which the parser of the head has done before.
    if value != value.strip() or not value.isascii():
        return
    assert (found is not None) == span.is_valid
    if found is not None:
        assert int(found.trace_id, 16) == span.trace_id
        assert int(found.span_id, 16) == span.span_id
        assert found.sampled == bool(span.trace_flags.sampled)


@pytest.mark.parametrize(
    ("headers", "request_id", "returned"),
    [
        ([("X-Request-Id", "abc-1.2")], "abc-1.2", True),
        ([("X-Request-Id", "a"), ("traceparent", VALID)], "a", True),
        ([("traceparent", VALID)], TRACE, True),
        ([("traceparent", VALID), ("Traceparent", VALID)], "", False),
        ([("traceparent", VALID.replace("00-4", "ff-4"))], "", False),
        ([("X-Amzn-Trace-Id", "Self=1-2-3;Root=1-67891233-abcdef012345678912345678")],
         "1-67891233-abcdef012345678912345678", False),
        ([("X-Amzn-Trace-Id", "Self=1")], "", False),
        ([("X-Request-Id", "a"), ("x-request-id", "b")], "", False),
        ([("X-Request-Id", "a" * 128)], "a" * 128, True),
        ([("X-Request-Id", "a" * 129)], "", False),
        ([("X-Request-Id", 'a"b')], "", False),
        ([("X-Request-Id", "a b")], "", False),
        ([("X-Request-Id", "a\\n")], "", False),
        ([("X-Request-Id", "é")], "", False),
        ([("X-Request-Id", "")], "", False),
    ],
)  # fmt: skip
def test_the_request_id(headers: list[tuple[str, str]], request_id: str, *, returned: bool) -> None:
    found = context.of([(name.encode(), value.encode("latin-1")) for name, value in headers])
    assert (found.request_id.decode(), found.returned) == (request_id, returned)


def test_a_refusal_always_has_an_id() -> None:
    head = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    own = context.Context({})
    assert own.stamp(head) == head
    stamped = own.stamp(head, refused=True)
    assert stamped == b"HTTP/1.1 400 Bad Request\r\nX-Request-Id: %b\r\n\r\n" % own.request_id
    assert own.request_id not in {b"", context.new_id()}


# --- heads that are remembered without what is new in each ---


class Transport:
    """What a connection writes to."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class Recorder:
    """Answers every request, and keeps what it was understood as."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def handle(self, exchange: Exchange) -> None:
        head = exchange.head
        own = None if exchange.context is None else exchange.context.headers
        self.seen.append((head.method, head.target, head.headers, head.keep_alive, exchange.body, own))
        head.plan = self.handle
        exchange.respond(200, JSON, b"{}")

    def prepare(self, head: Head) -> None:
        pass

    def failed(self, exchange: Exchange, error: Exception) -> None:
        raise error


class Understood:
    """A connection to a server that remembers heads, without a socket."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.server = Server(Settings(), Metrics())
        self.server.turn_began = 1.0  # without an event loop it is always the same turn
        self.server.attach(self.recorder)
        self.connect()

    def connect(self) -> None:
        self.transport = Transport()
        self.connection = Connection(self.server)
        self.connection.connection_made(cast("asyncio.Transport", self.transport))

    def send(self, data: bytes) -> tuple[list[Any], list[bytes]]:
        """Return how the data was understood, and which statuses it was answered with."""
        if self.connection.finished or self.connection.busy:
            self.connect()
        self.recorder.seen.clear()
        self.transport.written = b""
        self.connection.data_received(data)
        lines = self.transport.written.split(b"\r\n")
        return list(self.recorder.seen), [line for line in lines if line.startswith(b"HTTP/1.1")]


# All as long as one another, or what is known would never be compared.
plain = st.text("ab0-=;", min_size=8, max_size=8)
values = plain | plain | st.text("a0 \t\r\n:\0\xe9", min_size=8, max_size=8)
lines = st.sampled_from(
    [
        "Host: a",
        "Accept: */*",
        "Connection: close",
        "Connection: spare",
        " folded",
        "Content-Length: 0",
        "Content-Length: 3",
        "Expect: 100-continue",
    ]
)
AS_LONG = {"Content-Length: 3": "Content-Length: 0", "Connection: close": "Connection: spare"}
own_names = st.sampled_from(
    ["traceparent: ", "X-Request-Id: ", "x-request-id:", "TRACESTATE: ", "X-Amzn-Trace-Id: "]
)


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Requests that differ in little, mostly well formed, with headers of their own at any place."""
    shape = ["Host: a", *draw(st.lists(lines, max_size=1))]
    shape += [name + "{}" for name in draw(st.lists(own_names, min_size=1, max_size=3))]
    shape = ["POST /a HTTP/1.1", *draw(st.permutations(shape))]
    other = [AS_LONG.get(line, line) for line in shape]
    sent: list[bytes] = []
    for _ in range(draw(st.integers(2, 6))):
        chosen = draw(st.sampled_from([shape, other]))
        head = "\r\n".join(line.replace("{}", draw(values)) for line in chosen)
        body = draw(st.sampled_from(["", "", "abc"]))
        sent.append(f"{head}\r\n\r\n{body}".encode("latin-1"))
    return sent


@given(conversations())
@settings(max_examples=100, deadline=None)
def test_a_head_that_is_known_is_understood_as_the_parser_would(sent: list[bytes]) -> None:
    remembering = Understood()
    for data in sent:
        assert remembering.send(data) == Understood().send(data)


def test_the_place_of_what_is_cut_out_counts() -> None:
    """Else a digit of a length could be taken for an id, and the rest of the head for one that is known."""
    understood = Understood()
    start = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: "
    understood.send(start + b"3\r\nX-Request-Id: 7\r\n\r\nabc")
    understood.connect()
    # On this connection an id stood where the next request has a digit of its length.
    padding = b"GET /%b HTTP/1.1\r\nHost: a\r\nX-Request-Id: "
    path = b"a" * (len(start) - len(padding % b""))
    understood.send(padding % path + b"1\r\n\r\n")
    assert understood.send(start + b"13\r\nX-Request-Id: \r\n\r\nabc") == ([], [])


def test_a_head_is_known_but_for_its_own_headers() -> None:
    """Otherwise the test above compares the parser with itself."""
    understood = Understood()

    def message(number: int) -> bytes:
        own = f"traceparent: 00-{number:032x}-{SPAN}-00\r\nX-Request-Id: {number:08}\r\n"
        return f"POST /a HTTP/1.1\r\nHost: a\r\n{own}Content-Length: 3\r\n\r\nabc".encode()

    understood.send(message(1))
    parser = understood.connection._parser  # pyright: ignore[reportPrivateUsage]
    understood.connection._parser = None  # pyright: ignore[reportPrivateUsage]
    (seen,), (status,) = understood.send(message(2))
    assert seen[5] == {b"traceparent": f"00-{2:032x}-{SPAN}-00".encode(), b"x-request-id": b"00000002"}
    assert status == b"HTTP/1.1 200 OK"
    assert parser is not None
    # What is not plain is not taken for known: without a parser there is no answer.
    assert understood.send(message(3).replace(b"00000003", b"0000 003")) == ([], [])
