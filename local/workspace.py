"""`.local/` in the project: who runs there now, the run directory, and what a killed session left behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from local.errors import LocalError
from local.processes import write_ready

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUN_DIR_VARIABLE = "TRAINSERVE_RUN_DIR"
"""Names the run directory in the environment of every process that works for a session."""

_DOWN_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that holds the lock."""

    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """The live process, or None: gone, or its id now belongs to another."""
        try:
            process = psutil.Process(self.pid)
            return process if abs(process.create_time() - self.started) < 1 else None
        except psutil.Error:
            return None


class Workspace:
    """`.local/`: at most one session at a time, its run directory, its session file."""

    def __init__(self, project: Path) -> None:
        self.root = project / ".local"
        self.session_file = self.root / "session.json"
        self._lock_path = self.root / "lock"
        self._lock: int | None = None
        self.run_dir: Path | None = None

    def acquire(self) -> Path:
        """Take the lock, clean up after a killed session and make a run directory.

        Raises:
            LocalError: another session runs here; names its process id.
        """
        self.root.mkdir(exist_ok=True)
        if not self._try_lock():
            raise self._taken()
        me = psutil.Process()
        assert self._lock is not None  # noqa: S101  # just taken
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps({"pid": me.pid, "started": me.create_time()}).encode(), 0)
        self.clean_stale()
        self.run_dir = self.root / f"run-{secrets.token_hex(4)}"
        self.run_dir.mkdir(mode=0o700)
        return self.run_dir

    def release(self) -> None:
        """Remove this session's files and give the lock back; harmless if nothing is held."""
        if self._lock is None:
            return
        self.session_file.unlink(missing_ok=True)
        if self.run_dir is not None:
            end_processes_of(self.run_dir)
            remove_tree(self.run_dir)
            self.run_dir = None
        os.ftruncate(self._lock, 0)
        os.close(self._lock)
        self._lock = None

    def write_session(self, facts: dict[str, Any]) -> None:
        """Publish what `status` shows; readable by the owner only."""
        write_ready(self.session_file, facts)

    def read_session(self) -> dict[str, Any] | None:
        """What the running session published, or None."""
        try:
            return json.loads(self.session_file.read_text())
        except (OSError, ValueError):
            return None

    def owner(self) -> Owner | None:
        """The process that holds the lock, as it wrote itself down; None if nobody does."""
        try:
            facts = json.loads(self._lock_path.read_text())
            return Owner(pid=int(facts["pid"]), started=float(facts["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def check_free(self) -> None:
        """Raise the LocalError of `acquire` if another session runs here."""
        if self.running():
            raise self._taken()

    def _taken(self) -> LocalError:
        owner = self.owner()
        who = f"process {owner.pid}" if owner else "another process"
        return LocalError(
            f"a local session is already running ({who}). `python -m local status` shows it, "
            "`python -m local down` ends it."
        )

    def running(self) -> bool:
        """True while another process holds the lock."""
        if not self._lock_path.exists():
            return False
        if self._try_lock():
            self._unlock()
            return False
        return True

    def stop(self, note: Callable[[str], None], *, timeout_s: float = _DOWN_TIMEOUT_S) -> bool:
        """End the session that runs here and wait until it is gone; False if there was none.

        Raises:
            LocalError: it is still there after `timeout_s` and could not be killed.
        """
        if not self.running():
            self._clean_if_free()
            return False
        owner = self.owner()
        process = owner.process() if owner else None
        if process is None:
            raise LocalError(f"{self._lock_path} is held by a process that did not say who it is")
        note(f"asking process {process.pid} to end")
        for sig, patience in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(psutil.Error):
                process.send_signal(sig)
            if self._wait_unlocked(patience):
                self._clean_if_free()
                return True
            note(f"process {process.pid} did not end within {patience:.0f} s")
        raise LocalError(f"process {process.pid} does not end")

    def clean_stale(self) -> None:
        """Remove run directories, and processes, of killed sessions. Only while holding the lock."""
        self.session_file.unlink(missing_ok=True)
        for directory in self.root.glob("run-*"):
            end_processes_of(directory)
            remove_tree(directory)

    def _wait_unlocked(self, patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if not self.running():
                return True
            time.sleep(0.05)
        return False

    def _clean_if_free(self) -> None:
        if self.root.exists() and self._try_lock():
            try:
                self.clean_stale()
            finally:
                self._unlock()

    def _try_lock(self) -> bool:
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def processes_of(run_dir: Path) -> list[psutil.Process]:
    """Processes that work for the session in `run_dir`: their environment or `--run-dir` says so.

    A user's own `tail -f` on a log there is none of them.
    """
    here = str(run_dir)
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
            marks = [environment.get(name, "") for name in (RUN_DIR_VARIABLE, "HOME", "TMPDIR")]
            command = process.cmdline()
            if any(mark == here or mark.startswith(f"{here}{os.sep}") for mark in marks) or (
                "--run-dir" in command and here in command
            ):
                found.append(process)
    return found


def end_processes_of(run_dir: Path, *, grace_s: float = 2.0) -> None:
    """End what still runs on behalf of `run_dir`: SIGTERM, then SIGKILL."""
    processes = processes_of(run_dir)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=grace_s)


def remove_tree(directory: Path) -> None:
    """Remove a directory that a dying process may still write into."""
    for _ in range(5):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.1)
    raise LocalError(f"could not remove {directory}")
