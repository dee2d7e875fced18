"""Heads that are known again without the parser, because it has accepted the same bytes before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from serving.context import PLAIN, Context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.exchange import Head

    Known = dict[bytes | tuple[bytes, ...], Head]
    Own = Sequence[tuple[bytes, bytes]]

LONGEST: Final = 1024
"""Of longer heads none is known."""

# Heads that have something new where nothing is cut out are never met again: few are kept, then forgotten.
_MOST: Final = 1024


def remember(known: Known, message: bytes, head: Head, own: Own) -> Cuts | None:
    """Know the head of a request again that came as one whole message and asks for nothing special.

    `own` are its headers that are new in each request, as they are spelled. Returns where they are.
    """
    end = message.find(b"\r\n\r\n") + 4
    if (
        end > LONGEST
        or len(message) != end + head.length
        or not head.keep_alive
        or b"transfer-encoding" in head.headers
        or b"expect" in head.headers
    ):
        return None
    key: bytes | tuple[bytes, ...] = message[:end]
    cuts = None
    if own:
        cuts = find_cuts(message[:end], own)
        cut = None if cuts is None else cuts.apply(message[:end])
        if cut is None:
            return None
        key = cut[0]
    if len(known) >= _MOST:
        known.clear()
    known[key] = head
    return cuts


def recall(known: Known, data: bytes, cuts: Cuts) -> tuple[Head | None, Context | None]:
    """Return what is known of a head without the headers that are cut out, and what they say."""
    cut = cuts.apply(data) if len(data) <= LONGEST else None
    head = None if cut is None else known.get(cut[0])
    return (None, None) if cut is None or head is None else (head, Context(cut[1]))


class Cuts:
    """Where in a head the values of these headers are; without them, heads that differ in nothing else agree.

    What is cut out has no meaning to HTTP and consists of plain characters, and the rest is known piece by
    piece. So if the parser has accepted a head, it would read another one with the same pieces just alike.
    """

    __slots__ = ("_places",)

    def __init__(self, places: Sequence[tuple[bytes, int, int]]) -> None:
        self._places = places

    def apply(self, head: bytes) -> tuple[tuple[bytes, ...], dict[bytes, bytes]] | None:
        """Return the pieces that stay, and the headers cut out; None if one has other characters."""
        pieces: list[bytes] = []
        headers: dict[bytes, bytes] = {}
        last = 0
        for name, start, stop in self._places:
            value = head[start:stop]
            if value.translate(None, PLAIN):
                return None
            pieces.append(head[last:start])
            headers[name] = value
            last = stop
        pieces.append(head[last:])
        return tuple(pieces), headers


def find_cuts(head: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Cuts | None:
    """Find headers in a head, as the parser reported them: spelled so, in this order.

    None if one is not written as `name: value`, comes twice, or is empty.
    """
    places: list[tuple[bytes, int, int]] = []
    last = 0
    for name, value in headers:
        line = b"\r\n%b: %b\r\n" % (name, value)
        found = head.find(line, last)
        if found < 0 or not value or name.lower() in {place[0] for place in places}:
            return None
        start = found + len(name) + 4
        last = start + len(value)
        places.append((name.lower(), start, last))
    return Cuts(places)
