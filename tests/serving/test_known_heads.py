"""A known head saves the parser: whatever was sent before, it must mean what it meant to the parser."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.server import Server
from tests.serving.serving_support import request
from tests.serving.test_protocol import PING, ROW, WHOLE, chunked, post
from tests.serving.wires import said

PIECES = st.sampled_from(
    [
        post(),
        post(),
        post(b"", b""),
        post(b"", ROW + b"\n" + ROW),
        post().replace(b"Host", b"hOST"),
        # Their answers name other things.
        post().replace(b"/invocations", b"/endpoints/one/invocations"),
        post().replace(b"/invocations", b"/nowhere"),
        post(b"Connection: close\r\n"),
        post(b"Connection: keep-alive\r\n", version=b"1.0"),
        # What is new in each request is cut out of the head: these are as long as one another.
        post(b"X-Request-Id: abcdefgh\r\n"),
        post(b"X-Request-Id: 12345678\r\n"),
        post(b"X-Request-Id: a\r\nX: ab\r\n"),
        post(b"X-Request-Id: a\nX: abc\r\n"),
        post(b"X-Request-Id: a  b  cd\r\n"),
        post(b"X-Request-Id: abcdefgh\r\nX-Request-Id: abcdefgh\r\n"),
        post(b"X-Request-Id: abcdefgh\r\ntraceparent: 00-%b-%b-01\r\n" % (b"1" * 32, b"2" * 16)),
        post(b"X-Request-Id: 12345678\r\ntraceparent: 00-%b-%b-01\r\n" % (b"3" * 32, b"x" * 16)),
        post(b"Expect: 100-continue\r\n"),
        post(b"Upgrade: h2c\r\nConnection: upgrade\r\n"),
        chunked(WHOLE),
        PING,
        request("GET", "/ping", Content_Length="0"),
        b"\r\n",
        b"\r\n\r\n",
        post()[: -len(ROW)],
        ROW,
        b"9\r\n" + ROW + b"\r\n0\r\n\r\n",
        b"GET /ping HTTP/1.1\r\n",
        b"Host: t\r\n\r\n",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, min_size=1, max_size=6))
def test_known_heads_change_nothing(inside: tuple[asyncio.Runner, Server], pieces: list[bytes]) -> None:
    runner, server = inside
    runner.run(said(server, pieces))  # now the heads are known
    fast = runner.run(said(server, pieces))
    known, server.known_heads = server.known_heads, Forgetful()
    assert runner.run(said(server, pieces)) == fast
    server.known_heads = known
    assert server.in_flight == 0


@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("whole", [PING, post(), post(b"", ROW * 8), post(b"X-Request-Id: abcdefgh\r\n")])
def test_a_piece_of_a_request_is_never_known(
    inside: tuple[asyncio.Runner, Server], whole: bytes, before: bytes
) -> None:
    """Not even where it is just as long as a head and the body that comes later: others begin so, too."""
    runner, server = inside
    known, server.known_heads = server.known_heads, {}
    whole = before + whole
    for end in range(len(before) + 1, len(whole)):
        runner.run(said(server, [whole[:end], whole[end:]]))
    assert server.known_heads == {}
    runner.run(said(server, [whole]))
    assert len(server.known_heads) == (before != b"\r\n\r\n")
    server.known_heads = known


class Forgetful(dict[bytes | tuple[bytes, ...], Any]):
    """Knows no head: every one is parsed."""

    def __setitem__(self, key: bytes | tuple[bytes, ...], value: Any) -> None:
        pass
