"""A worker among others: it tells them what it counts and whether it is ready, and asks them for a scrape."""

from __future__ import annotations

import asyncio
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from serving import log
from serving.board import READY, UNREADY, Board
from serving.exposition import merged

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

# Asked or told, by whom, which question.
_MESSAGE: Final = struct.Struct("=BII")
_ASK: Final = 1
_TELL: Final = 2
# A worker that has not told by then is busy or gone: what it told last counts.
_PATIENCE_SECONDS: Final = 0.25
_PUBLISH_SECONDS: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Seat:
    """A worker's place: what it needs to know of the others.

    `inbox` is its own, `outboxes` everybody's. `lifeline` ends with the supervisor. `again`: it follows one
    that died, whose counts are in its slot.
    """

    index: int
    port: int
    grpc_port: int | None
    board: Board
    inbox: socket.socket
    outboxes: Sequence[socket.socket]
    lifeline: int
    again: bool


class Team:
    """A worker's part in telling and asking.

    `render` gives its own metrics; its argument is how many of the requests in flight ask for them.
    """

    def __init__(self, seat: Seat, render: Callable[[int], bytes]) -> None:
        self._seat = seat
        self._render = render
        self._before = seat.board.read(seat.index).decode()
        self._questions: dict[int, tuple[set[int], Callable[[bytes], None]]] = {}
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(seat.inbox, self._receive)
        self._loop.add_reader(seat.lifeline, self._orphaned)
        self._publish_often()

    def set_ready(self, ready: bool) -> None:
        """Tell the others whether this worker is ready."""
        self._seat.board.set_state(self._seat.index, READY if ready else UNREADY)

    def unready(self) -> str | None:
        """Return why a request might meet a worker that cannot answer it, or None."""
        board = self._seat.board
        waiting = [slot for slot in range(board.slots) if board.state(slot) == UNREADY]
        return f"workers that are not ready: {len(waiting)} of {board.slots}" if waiting else None

    def collect(self, done: Callable[[bytes], None]) -> None:
        """Call `done` with everybody's metrics of now as one text."""
        self._number = number = (self._number + 1) % (1 << 32)
        others = {slot for slot in range(self._seat.board.slots) if slot != self._seat.index}
        missing = {slot for slot in others if self._send(slot, _ASK, number)}
        self._questions[number] = (missing, done)
        self._publish()
        self._loop.call_later(_PATIENCE_SECONDS, self._finish, number)
        if not missing:
            self._finish(number)

    def _finish(self, number: int) -> None:
        _, done = self._questions.pop(number, (None, None))
        if done is not None:
            board = self._seat.board
            done(merged(board.read(slot).decode() for slot in range(board.slots)).encode())

    def _receive(self) -> None:
        while True:
            try:
                kind, slot, number = _MESSAGE.unpack(self._seat.inbox.recv(_MESSAGE.size))
            except BlockingIOError:
                return
            if kind == _ASK:
                self._publish()
                self._send(slot, _TELL, number)
            elif number in self._questions:
                missing = self._questions[number][0]
                missing.discard(slot)
                if not missing:
                    self._finish(number)

    def _send(self, slot: int, kind: int, number: int) -> bool:
        try:
            self._seat.outboxes[slot].send(_MESSAGE.pack(kind, self._seat.index, number))
        except OSError:  # it does not read: hung, or not there
            return False
        return True

    def _publish(self) -> None:
        text = merged((self._before, self._render(len(self._questions)).decode())).encode()
        if not self._seat.board.write(self._seat.index, text):
            log.error("metrics are not shared", reason="there are too many", bytes=len(text))

    def _publish_often(self) -> None:
        self._publish()
        self._loop.call_later(_PUBLISH_SECONDS, self._publish_often)

    def _orphaned(self) -> None:
        log.error("stopped", reason="the supervisor is gone")
        os._exit(1)
