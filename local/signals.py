"""SIGINT, SIGTERM, SIGHUP and a child's death end the command wherever it is, but never its clean-up."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from local.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import TypeVar

    from local.errors import ChildError

    T = TypeVar("T")

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Turns signals into exceptions of the main thread, until `hold`. One per process."""

    def __init__(self) -> None:
        self._holding = False
        self._death: ChildError | None = None

    def install(self) -> None:
        """From now on an ending signal raises Interrupted in the main thread."""
        for signum in _ENDING:
            signal.signal(signum, self._on_ending)
        signal.signal(signal.SIGUSR1, self._on_death)

    def hold(self) -> None:
        """From now on signals are noted and nothing more: the clean-up runs."""
        self._holding = True

    def child_died(self, error: ChildError) -> None:
        """Raise `error` in the main thread; called from another one."""
        self._death = error
        os.kill(os.getpid(), signal.SIGUSR1)

    def guarded(self, work: Callable[[], T], clean_up: Callable[[], None]) -> T:
        """Do `work`, then, whatever happens, `clean_up`, undisturbed."""
        try:
            try:
                return work()
            finally:
                self.hold()
                clean_up()
        except (Interrupted, KeyboardInterrupt):
            # It may have come in the one moment between the end of `work` and `hold`.
            self.hold()
            clean_up()
            raise
        finally:
            # Python puts the default actions back at its own end; an ignored signal stays ignored.
            for signum in _ENDING:
                signal.signal(signum, signal.SIG_IGN)

    def _on_ending(self, signum: int, _frame: FrameType | None) -> None:
        if self._holding:
            print("still cleaning up …", file=sys.stderr)
            return
        raise Interrupted(signum)

    def _on_death(self, _signum: int, _frame: FrameType | None) -> None:
        if not self._holding and self._death is not None:
            raise self._death


def ignore_deaths() -> None:
    """From now on a child's death interrupts nothing: for who is about to look at it, or at the end."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
