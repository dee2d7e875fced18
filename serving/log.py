"""The log: one JSON object a line on standard error; a thread writes it, so nobody waits for its reader."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import stat
import termios
import threading
import time
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_BYTES: Final = 4 * 1024 * 1024
# Under load lines are written together, some 200 times a second: to wake the thread for each costs more, and
# what is written seldom is large, and no longer in the processor's caches.
_PAUSE_SECONDS: Final = 0.005
_PIECE: Final = 64 * 1024  # what a pipe holds, if nobody asks for more
_PIPE: Final = 256 * 1024
_STANDARD_ERROR: Final = 2

_logger = logging.getLogger("serving")


class Writer:
    """Writes lines to a file descriptor, at once or from a thread of its own.

    Whoever writes never waits: lines are written at once into a pipe that has been read empty, and so has
    room, else by the thread; when the other end is not read, they are kept up to a bound and then dropped
    and counted. `shared`: other processes write there too, and no line may be cut by theirs.
    """

    def __init__(self, descriptor: int, *, shared: bool = False) -> None:
        self.dropped = 0
        self._shared = shared
        self._descriptor = descriptor
        self._room = 0 if shared else _room(descriptor)
        self._unread = bytearray(4)
        self._lock = threading.Lock()
        self._waiting: list[tuple[bytes, int]] = []
        self._size = 0
        self._wanted = threading.Event()
        self._written = threading.Event()
        self._written.set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, data: bytes, lines: int = 1) -> None:
        """Have whole lines written, now or soon."""
        with self._lock:
            if not self._size and len(data) <= self._room and self._is_empty():
                # To wake the thread, and to hand it the interpreter's lock, would cost as much as the lines.
                self._write_or_drop(data, lines)
                return
            if self._size + len(data) > _MOST_BYTES:
                self.dropped += lines
                return
            if not self._waiting:
                self._written.clear()
                self._wanted.set()
            self._waiting.append((data, lines))
            self._size += len(data)

    def flush(self, seconds: float) -> bool:
        """Wait until all is written, at most so long; return whether it is."""
        self._closing.set()
        return self._written.wait(seconds)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            with self._lock:
                waiting, self._waiting = self._waiting, []
            for data, lines in _pieces(waiting):
                self._write_or_drop(data, lines)
            with self._lock:
                self._size -= sum(len(data) for data, _ in waiting)
                if not self._waiting:
                    self._written.set()
            self._closing.wait(_PAUSE_SECONDS)

    def _is_empty(self) -> bool:
        """Whether all that is in the pipe has been read."""
        fcntl.ioctl(self._descriptor, termios.FIONREAD, self._unread)
        return not any(self._unread)

    def _write_or_drop(self, data: bytes, lines: int) -> None:
        try:
            self._write_all(data)
        except OSError:
            # The other end is gone, or the disk is full: there is nobody to tell.
            self.dropped += lines

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            end = len(rest)
            if self._shared and end > select.PIPE_BUF:
                # So many bytes a pipe takes whole.
                start = len(data) - end
                end = data.rfind(b"\n", start, start + select.PIPE_BUF) + 1 - start
                end = end if end > 0 else select.PIPE_BUF
            rest = rest[os.write(self._descriptor, rest[:end]) :]


def _room(descriptor: int) -> int:
    """Make a pipe large enough for what is written at once; return how much that may be, 0 if it is no pipe.

    That is a little less than it takes: something may come from elsewhere at the same time.
    """
    tell, enlarge = (getattr(fcntl, name, None) for name in ("F_GETPIPE_SZ", "F_SETPIPE_SZ"))
    if tell is None or enlarge is None or not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return 0
    if fcntl.fcntl(descriptor, tell) < _PIPE:
        with suppress(OSError):  # a system may allow less
            fcntl.fcntl(descriptor, enlarge, _PIPE)
    return fcntl.fcntl(descriptor, tell) - select.PIPE_BUF


def _pieces(waiting: list[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """Put together what is short, up to about a pipe's room."""
    some: list[bytes] = []
    size = number = 0
    for data, lines in waiting:
        some.append(data)
        size += len(data)
        number += lines
        if size >= _PIECE:
            yield b"".join(some), number
            some.clear()
            size = number = 0
    if some:
        yield b"".join(some), number


class _JsonLines(logging.Formatter):
    """Formats a record as one line: time, level, event, and whatever the event carries."""

    def __init__(self, always: dict[str, object]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": timestamp(record.created).decode(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **self._always,
        }
        line.update(getattr(record, "detail", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class _Handler(logging.Handler):
    """Hands records to the writer."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(self.format(record).encode("utf-8", "replace") + b"\n")
        except Exception:  # noqa: BLE001  as the handlers of the standard library do
            self.handleError(record)


def timestamp(seconds: float) -> bytes:
    """Return a Unix time as RFC 3339 has it, to the millisecond."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return b"%b.%03dZ" % (_second(whole), milliseconds)


@lru_cache(maxsize=1)
def _second(second: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()


def configure(level: str, **always: object) -> None:
    """Send everything, other libraries' records included, to standard error as JSON lines.

    `always` is what every line says besides.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines(always))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)


def in_background(*, shared: bool) -> Writer:
    """From now on have a thread write, for a process that serves; it does not outlive a fork.

    `shared`: there are other such processes.
    """
    writer = Writer(_STANDARD_ERROR, shared=shared)
    root = logging.getLogger()
    handler = _Handler(writer)
    handler.setFormatter(root.handlers[0].formatter)
    root.handlers[:] = [handler]
    return writer


def debug(event: str, **detail: object) -> None:
    """Log what helps to find a mistake; costs little when it is not wanted."""
    if _logger.isEnabledFor(logging.DEBUG):
        _logger.debug(event, extra={"detail": detail})


def info(event: str, **detail: object) -> None:
    """Log something an operator wants to know."""
    _logger.info(event, extra={"detail": detail})


def warning(event: str, **detail: object) -> None:
    """Log something that is probably a mistake."""
    _logger.warning(event, extra={"detail": detail})


def error(event: str, exception: BaseException | None = None, **detail: object) -> None:
    """Log a failure, with the traceback of `exception` when it is given."""
    _logger.error(event, exc_info=exception, extra={"detail": detail})
