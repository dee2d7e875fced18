"""The child processes of a session: start them, wait until they are ready, notice when one dies, end them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.errors import ChildError
from local.processes import clean_environment, stop_group
from local.workspace import RUN_DIR_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_LOG_LINES = 12
_WATCH_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Child:
    """One child process and where it says that it is ready."""

    name: str
    process: subprocess.Popen[bytes]
    ready_file: Path
    log: Path


@dataclass
class Supervisor:
    """Children of this process, each leading its own process group, so that Ctrl-C reaches only us."""

    run_dir: Path
    code_dir: Path
    """Where the package `local` lies: the children's working directory."""
    on_death: Callable[[ChildError], None] | None = None
    failure: ChildError | None = None
    _children: list[Child] = field(default_factory=list[Child])
    _stopping: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    def start(self, name: str, module: str, arguments: Sequence[str] = ()) -> Child:
        """Start `python -m <module> --run-dir … <arguments>`.

        Call it from the main thread: Linux ends the child when the *thread* that started it ends.
        """
        log = self.run_dir / f"{name}.log"
        environment = clean_environment({RUN_DIR_VARIABLE: str(self.run_dir)}, home=self.run_dir / "home")
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module, "--run-dir", str(self.run_dir), *arguments],
                cwd=self.code_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name=name, process=process, ready_file=self.run_dir / f"{name}.json", log=log)
        self._children.append(child)
        return child

    def wait_ready(self, child: Child, *, timeout_s: float = 60.0) -> dict[str, Any]:
        """What the child wrote into its ready file.

        Raises:
            ChildError: a child ended, or this one is not ready in time; with its last log lines.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError, ValueError):
                return json.loads(child.ready_file.read_text())
            self.check()
            time.sleep(0.02)
        raise ChildError(f"local.{child.name} was not ready within {timeout_s:.0f} s.{last_lines(child.log)}")

    def check(self) -> None:
        """Raise the ChildError of the first child found dead."""
        if self.failure is None and not self._stopping.is_set():
            for child in self._children:
                if (code := child.process.poll()) is not None and not self._stopping.is_set():
                    self.failure = ChildError(
                        f"local.{child.name} ended unexpectedly ({_ending(code)}).{last_lines(child.log)}"
                    )
                    break
        if self.failure is not None:
            raise self.failure

    def watch(self) -> None:
        """From now on look after the children in a thread, and call `on_death` once if one dies."""
        self._watcher = threading.Thread(target=self._watch, name="child-watch", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """End all children and what they started, the last one first; safe to call again."""
        self._stopping.set()
        for child in reversed(self._children):
            if child.process.poll() is None:
                child.process.terminate()
        for child in reversed(self._children):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(timeout=10)
            stop_group(child.process)
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join(timeout=5)

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_S):
            try:
                self.check()
            except ChildError as error:
                if self.on_death is not None:
                    self.on_death(error)
                return


def last_lines(log: Path, count: int = _LOG_LINES) -> str:
    """The end of a log, ready to be put behind a message."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        lines = []
    return f" Its last words ({log.name}):\n" + "\n".join(f"  {line}" for line in lines) if lines else ""


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
