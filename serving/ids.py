"""Ids that begin alike and end with a number: where many are made, each costs next to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENDS: Final = [b"%03x" % number for number in range(4096)]


class Ids:
    """Gives ids that are never the same.

    Args:
        begin: what no other process has.
        digits: how many the number has at least, hexadecimal; three or more.
    """

    def __init__(self, begin: bytes, digits: int = 3) -> None:
        self._begin = begin
        self._digits = digits - 3
        self._blocks = 0
        self._block, self._next = b"", len(_ENDS)

    def one(self) -> bytes:
        """Return an id."""
        begin, ends = self.many(1)
        return begin + ends[0]

    def many(self, count: int) -> tuple[bytes, Sequence[bytes]]:
        """Return what so many ids begin with, and how each of them ends."""
        if count > len(_ENDS):
            return b"", [self.one() for _ in range(count)]
        if self._next + count > len(_ENDS):
            # What is left of the block stays unused: the ids of a call begin alike.
            self._block, self._next = b"%b%0*x" % (self._begin, self._digits, self._blocks), 0
            self._blocks += 1
        start, self._next = self._next, self._next + count
        return self._block, _ENDS[start : self._next]
