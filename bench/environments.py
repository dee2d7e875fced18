"""Throw-away environments for the peers, so that the project depends on none of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PEERS: Final = ROOT / "bench" / "peers"
_PATIENCE_S: Final = 300.0


class InstallError(Exception):
    """An environment could not be made; the message says why."""


def uv() -> str | None:
    """Find uv where the Makefile does, which names its own by a path in the project; it is run elsewhere."""
    named = os.environ.get("UV")
    local = ROOT / ".uv" / "bin" / "uv"
    found = shutil.which(named or "uv") or (str(local) if local.exists() else None)
    return None if found is None else str(Path(found).absolute())


def make(name: str, directory: Path) -> Path:
    """Install a peer's pinned packages into `directory`/`name`; return its bin directory."""
    tool, home = uv(), directory / name
    if tool is None:
        raise InstallError("uv is not installed; `make bench` installs it")
    pins = PEERS / f"{name}.txt"
    _run([tool, "venv", "--quiet", "--clear", "--no-project", "--python", sys.executable, str(home)])
    # The lists are complete; without --no-deps a peer would pull in XGBoost's build for GPUs beside ours.
    python = str(home / "bin" / "python")
    _run([tool, "pip", "install", "--quiet", "--no-deps", "--python", python, "--requirement", str(pins)])
    return home / "bin"


def serving_python() -> Path:
    """Return the Python of the pods' lean environment; raises `InstallError`."""
    python = ROOT / ".venv-serving" / "bin" / "python"
    if not python.exists():
        raise InstallError("the serving environment is missing; `make bench` installs it")
    return python


def _run(argv: list[str]) -> None:
    # Not from within the project: its constraints are not meant for peers.
    elsewhere = tempfile.gettempdir()
    try:
        ended = subprocess.run(
            argv, cwd=elsewhere, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(f"not installed within {_PATIENCE_S:.0f} s") from error
    if ended.returncode:
        said = ended.stderr.strip().splitlines()
        raise InstallError(" ".join(said)[:300] if said else f"uv ended with status {ended.returncode}")
