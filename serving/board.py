"""What workers know of one another: a slot of shared memory each, with its metrics and whether it is ready.

Shared memory, so that what a worker has counted outlives it, and reading takes nobody's time.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import Final

UNREADY: Final = 0
READY: Final = 1
GONE: Final = 2
"""States of a worker: listening but not ready; ready; not listening."""

_STATE: Final = struct.Struct("=B")
# Of a text: its number, its length, its checksum.
_HEADER: Final = struct.Struct("=QII")
_TRIES: Final = 100


class Board:
    """Slots that processes share which were forked after it was made.

    A slot has one writer at a time and room for two texts: the last one stays whole while the next is
    written, and also when that is never finished.
    """

    def __init__(self, slots: int, room: int) -> None:
        self.slots = slots
        self._room = room
        self._half = _HEADER.size + room
        self._size = _STATE.size + 2 * self._half
        self._memory = mmap.mmap(-1, slots * self._size)

    def state(self, slot: int) -> int:
        """Return a worker's state."""
        return int(self._memory[slot * self._size])

    def set_state(self, slot: int, state: int) -> None:
        """Tell a worker's state."""
        _STATE.pack_into(self._memory, slot * self._size, state)

    def write(self, slot: int, text: bytes) -> bool:
        """Replace a slot's text; return False, and leave it, when there is no room."""
        if len(text) > self._room:
            return False
        number = self.written(slot) + 1
        at = self._at(slot, number % 2)
        # The text first: what the header says is then there.
        self._memory[at + _HEADER.size : at + _HEADER.size + len(text)] = text
        _HEADER.pack_into(self._memory, at, number, len(text), zlib.crc32(text))
        return True

    def written(self, slot: int) -> int:
        """Return how many texts have been written to a slot."""
        return max(self._header(slot, half)[0] for half in (0, 1))

    def read(self, slot: int) -> bytes:
        """Return the last whole text of a slot; empty when there was none."""
        for _ in range(_TRIES):
            headers = [(*self._header(slot, half), half) for half in (0, 1)]
            for number, length, checksum, half in sorted(headers, reverse=True):
                at = self._at(slot, half) + _HEADER.size
                text = self._memory[at : at + length]
                if number and zlib.crc32(text) == checksum:
                    return text
            if not any(number for number, *_ in headers):
                break
        return b""

    def _at(self, slot: int, half: int) -> int:
        return slot * self._size + _STATE.size + half * self._half

    def _header(self, slot: int, half: int) -> tuple[int, int, int]:
        return _HEADER.unpack_from(self._memory, self._at(slot, half))
