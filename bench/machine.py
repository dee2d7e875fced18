"""On what machine, with what versions a run was made."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from bench.environments import PEERS, ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence


class TooFewCoresError(Exception):
    """Server and load generator need a core each."""


def cores() -> tuple[int, int]:
    """Return the server's core and the load generator's; raises `TooFewCoresError`."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise TooFewCoresError("two cores are needed: one for the server, one for the load generator")
    return allowed[-1], allowed[0]


def facts() -> dict[str, Any]:
    """Return what decides figures beside the code."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _commit(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "nice": os.nice(0),
        "versions": _versions(),
    }


def pinned(name: str, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of these packages in a peer's list."""
    text = (PEERS / f"{name}.txt").read_text(encoding="utf-8")
    found: dict[str, str] = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))
    return {package: found[package] for package in packages if package in found}


def _versions() -> dict[str, str]:
    ours = {
        name: metadata.version(name)
        for name in ("xgboost-cpu", "numpy", "uvloop", "httptools", "orjson", "grpcio")
    }
    for name, packages in (
        ("mlserver", ["mlserver"]),
        ("bentoml", ["bentoml"]),
        ("litserve", ["litserve"]),
        ("fastapi", ["fastapi", "uvicorn"]),
        ("flask", ["flask", "gunicorn", "gevent"]),
    ):
        ours |= pinned(name, packages)
    return ours


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", path.read_text(encoding="utf-8")) if path.exists() else None
    return found[1].strip() if found else platform.processor()


def _commit() -> str:
    try:
        ended = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except OSError:
        return ""
    return ended.stdout.strip()
