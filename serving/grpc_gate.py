"""Lets calls in together, so that one prediction serves many."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.grpc_infer import Call

_LONGEST_SECONDS: Final = 0.002
_MOST: Final = 64


class Gate:
    """Has calls planned in groups of as many as are seen to come at the same time.

    gRPC's event loop hands over a call a turn, however many have arrived, so that each would be a batch by
    itself. Here a call waits until there are as many as were lately under way at once, or for two
    milliseconds; when it has waited in vain, fewer are waited for. One client that calls again and again is
    never under way twice, so it never waits.
    """

    def __init__(self, plan: Callable[[Call], None]) -> None:
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Call] = []
        self._inside: set[Call] = set()
        self._wanted = 1
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, call: Call) -> None:
        """Have the call of the current task planned, now or later; it is inside until the task ends."""
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(partial(self._leave, call))
        waiting = self._waiting
        waiting.append(call)
        if self._inside:
            self._wanted = min(max(self._wanted, len(self._inside) + len(waiting)), _MOST)
        if len(waiting) >= self._wanted:
            self._open()
        elif self._timer is None:
            self._timer = self._loop.call_later(_LONGEST_SECONDS, self._give_up)

    def _leave(self, call: Call, _task: asyncio.Task[Any]) -> None:
        self._inside.discard(call)

    def _give_up(self) -> None:
        self._wanted = len(self._waiting)
        self._open()

    def _open(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            if call.done.done():  # its client has gone
                continue
            self._inside.add(call)
            try:
                self._plan(call)
            except Exception as error:  # noqa: BLE001  a defect must cost one call, not the process
                call.fail(error)
