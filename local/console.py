"""What the commands print: numbered steps, with a spinner where a person looks on, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from rich.status import Status


class Steps:
    """Progress on the terminal. Use it as a context manager, or call `close`, to end the last step."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._number = 0
        self._title = ""
        self._started = 0.0
        self._status: Status | None = None

    def step(self, text: str) -> None:
        """End the step before and begin the next one."""
        self._finish(done=True)
        self._number += 1
        self._title, self._started = f"{self._number}. {text}", time.monotonic()
        self.console.print(Text(self._title, style="bold"))
        if self.console.is_terminal:
            self._status = self.console.status("")
            self._status.start()

    def note(self, text: str) -> None:
        """A line within the step."""
        self.console.print(f"     {text}", markup=False, style="dim" if self.console.is_terminal else None)

    def live(self, text: str) -> None:
        """Show what goes on this moment beside the spinner; nothing where nobody looks on."""
        if self._status is not None:
            self._status.update(Text(text, style="dim"))

    def close(self, *, done: bool = True) -> None:
        """End the last step; `done` says whether it did what it should."""
        self._finish(done=done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(done=kind is None)

    def _finish(self, *, done: bool) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._title and self.console.is_terminal:
            mark, style = ("✓", "green") if done else ("✗", "red")
            took = f"{time.monotonic() - self._started:.1f} s"
            self.console.print(Text.assemble((f"   {mark} ", style), (took, "dim")))
        self._title = ""
