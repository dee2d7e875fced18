"""What the child processes of `local up` share: a clean environment, a ready file, a timely death."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PARENT_POLL_S = 1.0
_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT")


def clean_environment(extra: Mapping[str, str] | None = None, *, home: Path | None = None) -> dict[str, str]:
    """An environment that knows nothing of the user's AWS account, plus `extra`.

    Only PATH, locale and TLS settings are kept, so no profile, credential file or token of the user can
    reach a subprocess and no slip can reach a real account. `home` becomes HOME and TMPDIR.
    """
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    environment |= {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONUNBUFFERED": "1",
    }
    if home is not None:
        home.mkdir(parents=True, exist_ok=True)
        environment |= {"HOME": str(home), "TMPDIR": str(home)}
    return environment | dict(extra or {})


def write_ready(path: Path, obj: Mapping[str, Any]) -> None:
    """Write `obj` as JSON, readable by the owner only; a reader sees nothing or all of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(obj, file)
    temporary.replace(path)


def log_to_file(run_dir: Path, name: str) -> None:
    """Send this process's stdout and stderr, and what `logging` reports, to `run_dir/<name>.log`."""
    descriptor = os.open(run_dir / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    os.close(descriptor)
    layout = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=layout, force=True)


def set_death_signal(sig: int = signal.SIGTERM) -> None:
    """Ask Linux to send `sig` to this process when its parent thread ends; elsewhere do nothing.

    Linux ties this to the *thread* that made the process: start such children from a thread that lives as
    long as they should.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, sig, 0, 0, 0)


def die_with_parent(*, parent: int | None = None, kernel: bool = True) -> None:
    """End this process (SIGTERM to itself) when the process that started it is gone.

    Args:
        parent: its process id; now's parent if not given.
        kernel: also ask the kernel, which is quicker; wrong if a short-lived thread started this process.
    """
    expected = os.getppid() if parent is None else parent
    if kernel:
        set_death_signal()

    def watch() -> None:
        pause = threading.Event()
        while os.getppid() == expected:
            pause.wait(_PARENT_POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def serve_forever(
    run_dir: Path, name: str, ready: Mapping[str, Any], stop: Callable[[], None] | None = None
) -> None:
    """Announce `ready` in `run_dir/<name>.json` and wait for SIGTERM or SIGINT; then call `stop`.

    For the main thread of a child that serves from other threads. The ready file is removed at the end.
    """
    stopped = threading.Event()

    def on_signal(_signum: int, _frame: object) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    path = run_dir / f"{name}.json"
    write_ready(path, ready)
    die_with_parent()
    try:
        stopped.wait()
    finally:
        path.unlink(missing_ok=True)
        if stop is not None:
            stop()


def stop_group(process: subprocess.Popen[Any], *, grace_s: float = 1.0) -> None:
    """End a process that leads its own session, and whatever it started: SIGTERM, then SIGKILL."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sig)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace_s)
    process.poll()
