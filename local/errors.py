"""Errors that a user of the command line sees as one message, without a traceback."""

from __future__ import annotations


class LocalError(Exception):
    """Something a user can act on; `str()` is the whole message."""


class ProgramError(LocalError):
    """The infrastructure program did not run to its end; says which resource or setting is at fault."""


class ChildError(LocalError):
    """A child process did not start, or ended while it was needed; carries the end of its log."""


class Interrupted(BaseException):  # like KeyboardInterrupt: not for `except Exception`
    """SIGINT, SIGTERM or SIGHUP reached the main process."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by signal {signum}")
        self.signum = signum
