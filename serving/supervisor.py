"""Several workers on one port: starts them, restarts one that dies, and ends them all together.

Each worker is a whole server and listens for itself; the kernel deals out connections by their addresses
(SO_REUSEPORT). One socket that all accept from would be dealt out worse: whoever wakes first takes them all.
A worker that dies takes its connections with it and no others: new ones go to the rest until its successor
has its models and listens.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from serving import cpus, log
from serving.board import GONE, Board
from serving.exposition import lasting, merged
from serving.team import Seat

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.settings import Settings

    Serve = Callable[[Seat], int]

_SIGNALS: Final = frozenset((signal.SIGCHLD, signal.SIGTERM, signal.SIGINT))
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 30.0
# Whoever lived this long had not failed at the start: the next pause is the first again.
_WELL_SECONDS: Final = 60.0
# A worker writes its metrics every two seconds. One that has not by so many looks in a row hangs; by several,
# because the whole machine may have stood still.
_LOOK_SECONDS: Final = 10.0
_MOST_MISSES: Final = 3
_ROOM: Final = 64 * 1024
_ROOM_PER_MODEL: Final = 16 * 1024
_RESTARTS: Final = (
    "# HELP trainserve_worker_restarts_total Workers that died and were replaced.\n"
    "# TYPE trainserve_worker_restarts_total counter\n"
    "trainserve_worker_restarts_total 1\n"
)


def workers(settings: Settings) -> int:
    """Return how many workers there are to be: as set, else one for each whole processor.

    Where models are loaded by request there is one: such a request reaches one worker only.
    """
    if settings.workers is not None:
        return settings.workers
    return 1 if settings.models_api else cpus.whole()


@dataclass
class _Worker:
    index: int
    inbox: socket.socket
    pid: int = 0
    began: float = 0.0
    pause: float = _FIRST_PAUSE_SECONDS
    due: float | None = None  # when it is to be started again
    written: int = 0  # its texts when last looked at
    misses: int = 0


@dataclass
class Supervisor:
    """The parent of the workers; `serve` is what each of them runs."""

    settings: Settings
    count: int
    serve: Serve
    _workers: list[_Worker] = field(default_factory=list[_Worker], init=False)
    _ending: bool = field(default=False, init=False)
    _failed: bool = field(default=False, init=False)
    _next_look: float = field(default=0.0, init=False)

    def run(self) -> int:
        """Serve until told to stop; return the exit status."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        host, wanted = self.settings.host, (self.settings.port, self.settings.grpc_port)
        try:
            # Bound and not listening: they keep the ports, whichever were free, and get no connections.
            self._ports = [_reserve(host, port) for port in wanted if port is not None]
        except OSError as error:
            log.error("cannot listen", host=host, port=wanted[0], grpc_port=wanted[1], reason=str(error))
            return 1
        self._board = Board(self.count, _ROOM + _ROOM_PER_MODEL * self.settings.max_models)
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(self.count)]
        for one in (end for pair in pairs for end in pair):
            one.settimeout(0)
        self._outboxes = [outbox for _, outbox in pairs]
        self._lifeline = os.pipe()
        self._workers = [_Worker(index, inbox) for index, (inbox, _) in enumerate(pairs)]
        log.info("supervising", workers=self.count, port=self._port(0), pid=os.getpid())
        gc.freeze()  # what is shared with the workers is not to be copied because the collector looked at it
        for worker in self._workers:
            self._start(worker, again=False)
        while any(worker.pid for worker in self._workers) or not self._ending:
            self._wait()
        log.info("ended", workers=self.count)
        return int(self._failed)

    def _wait(self) -> None:
        """Wait for a signal, or until a worker is due."""
        now = time.monotonic()
        due = [worker.due for worker in self._workers if worker.due is not None]
        seen = signal.sigtimedwait(_SIGNALS, max(0.0, min([*due, now + _LOOK_SECONDS]) - now))
        if seen is not None and seen.si_signo != signal.SIGCHLD and not self._ending:
            self._ending = True
            for worker in self._workers:
                worker.due = None
                if worker.pid:
                    os.kill(worker.pid, signal.SIGTERM)
        self._reap()
        for worker in self._workers:
            if worker.due is not None and worker.due <= time.monotonic():
                self._start(worker, again=True)

        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_SECONDS
            for worker in self._workers:
                self._look(worker)

    def _look(self, worker: _Worker) -> None:
        """Kill a worker that hangs: the kernel would go on to give it connections."""
        written = self._board.written(worker.index)
        worker.misses = 0 if written != worker.written else worker.misses + 1
        worker.written = written
        if worker.pid and worker.misses >= _MOST_MISSES:
            log.error("worker hangs", worker=worker.index)
            os.kill(worker.pid, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                for worker in self._workers:
                    if worker.pid == pid:
                        self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, status: int) -> None:
        lived, worker.pid = time.monotonic() - worker.began, 0
        self._failed |= self._ending and status != 0
        self._board.set_state(worker.index, GONE)
        counted = lasting(self._board.read(worker.index).decode())
        self._board.write(worker.index, merged((counted, "" if self._ending else _RESTARTS)).encode())
        if self._ending:
            return
        pause = _FIRST_PAUSE_SECONDS if lived > _WELL_SECONDS else worker.pause
        worker.due = time.monotonic() + pause
        worker.pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        log.error(
            "worker died",
            worker=worker.index,
            status=status,
            lived_seconds=round(lived, 3),
            again_in_seconds=round(pause, 3),
        )

    def _start(self, worker: _Worker, *, again: bool) -> None:
        worker.began, worker.due, worker.misses = time.monotonic(), None, 0
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            worker.pid = pid
            return
        status = 1
        try:
            status = self._become(worker, again=again)
        except BaseException as error:  # noqa: BLE001  whatever it is, nothing of the parent's must run here
            log.error("internal error", error, where="worker")
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _port(self, index: int) -> int:
        return int(self._ports[index].getsockname()[1])

    def _become(self, worker: _Worker, *, again: bool) -> int:
        # Signals stay blocked until there is who handles them: one that came now would be the end.
        os.close(self._lifeline[1])
        log.configure(self.settings.log_level, worker=worker.index)
        seat = Seat(
            index=worker.index,
            port=self._port(0),
            grpc_port=None if self.settings.grpc_port is None else self._port(1),
            board=self._board,
            inbox=worker.inbox,
            outboxes=self._outboxes,
            lifeline=self._lifeline[0],
            again=again,
        )
        return self.serve(seat)


def _reserve(host: str, port: int) -> socket.socket:
    """Return a socket that keeps the port for those who share it; raises `OSError` when it is taken."""
    family, kind, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # Without sharing, which would succeed beside a server that shares too.
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        address = (address[0], probe.getsockname()[1], *address[2:])
    found = socket.socket(family, kind)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(address)
    return found
