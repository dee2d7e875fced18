"""Servers under measurement: on a core of their own, seen from outside, ended with all they started."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, Self

import psutil

from bench.paced import content_length, cpu_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ")
_POLL_S: Final = 0.004
_END_S: Final = 3.0


class StartError(Exception):
    """A server did not come up; the message has the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start a server. `ready` is a path that answers 200 once it serves; empty: who listens serves."""

    argv: Sequence[str]
    cwd: Path
    port: int
    ready: str
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    patience_s: float = 60.0


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the user's settings; one core, so no thread pools."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **extra}


class Served:
    """A running server; a context manager that ends it.

    What it writes goes into the file `log`: by itself, or, with `log_core`, through a pipe and a process on
    that core, as container runtimes have it.
    """

    def __init__(self, launch: Launch, log: Path, core: int, log_core: int | None = None) -> None:
        self.launch = launch
        self.port = launch.port
        self.cold_s = 0.0
        self._log = log
        self._stream: IO[bytes] = log.open("wb")
        self._keeper = None if log_core is None else _keeper(self._stream, log_core)
        output = self._stream if self._keeper is None else self._keeper.stdin
        begin = time.perf_counter()
        # Children inherit the core; code of ours between fork and exec would be fragile.
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})
        try:
            self._process = subprocess.Popen(
                launch.argv,
                cwd=launch.cwd,
                env=clean_environment(launch.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.sched_setaffinity(0, mine)
            if self._keeper is not None and self._keeper.stdin is not None:
                self._keeper.stdin.close()
        self.pid = self._process.pid
        try:
            self._wait(begin)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ask(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> tuple[int, bytes]:
        """Send one request on a connection of its own; raises OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {"Content-Type": content_type} if content_type else {}
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def raw(self, request: bytes) -> bytes:
        """Send a whole request and return the whole answer, byte by byte; raises OSError."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            found = b""
            while b"\r\n\r\n" not in found:
                found += _some(connection)
            head, _, body = found.partition(b"\r\n\r\n")
            length = content_length(head)
            while len(body) < length:
                body += _some(connection)
        return head + b"\r\n\r\n" + body

    def cpu_seconds(self) -> float:
        """CPU time used so far, descendants included."""
        return cpu_seconds(self.pid)

    def memory_mib(self) -> float:
        """Resident memory; what processes of one server have in common is counted once."""
        own, common = 0, 0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                found: Any = process.memory_full_info()
                own += int(found.uss)
                common = max(common, int(found.rss) - int(found.uss))
        return (own + common) / (1 << 20)

    def tail(self) -> str:
        """The last line that the server wrote."""
        text = self._log.read_text(encoding="utf-8", errors="replace").strip()
        return text.splitlines()[-1][-300:] if text else "it wrote nothing"

    def lines(self, mark: bytes) -> int:
        """Return how many lines it wrote that have this in them."""
        with self._log.open("rb") as stream:
            return sum(mark in line for line in stream)

    def stop(self) -> None:
        """End the server and everything it started, whatever session that is in."""
        tree = self._tree()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in tree:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
            tree = psutil.wait_procs(tree, timeout=_END_S)[1]
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        if self._keeper is not None:
            # It ends with the last who writes.
            with suppress(subprocess.TimeoutExpired):
                self._keeper.wait(_END_S)
            self._keeper.kill()
            self._keeper.wait(_END_S)
        self._stream.close()

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _wait(self, begin: float) -> None:
        end = begin + self.launch.patience_s
        while time.perf_counter() < end:
            if self._process.poll() is not None:
                raise StartError(f"ended with status {self._process.returncode}: {self.tail()}")
            with suppress(OSError):
                if self._answers():
                    self.cold_s = time.perf_counter() - begin
                    return
            time.sleep(_POLL_S)
        raise StartError(f"not ready within {self.launch.patience_s:.0f} s: {self.tail()}")

    def _answers(self) -> bool:
        if self.launch.ready:
            return self.ask("GET", self.launch.ready)[0] == 200
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True


def _keeper(log: IO[bytes], core: int) -> subprocess.Popen[bytes]:
    """Start what reads a server's output and keeps it."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log, start_new_session=True)
    finally:
        os.sched_setaffinity(0, mine)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data
