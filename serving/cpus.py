"""How many processors this process may use: those it may run on, and what its control group lets it spend."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")


def whole() -> int:
    """Return the number of whole processors, at least 1."""
    runnable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError):
        return max(1, math.floor(min(runnable, quota(_OWN.read_text(encoding="ascii"), _ROOT))))
    return runnable


def quota(own: str, root: Path) -> float:
    """Return how many processors' time control groups allow; infinite when they say nothing.

    `own` is the text of /proc/self/cgroup, `root` where control groups are mounted. Each group above limits
    too; from inside a container those outside are not seen, and the container's own is the root.
    """
    found = [math.inf]
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += [_v2(group) for group in _with_parents(root, path)]
        elif "cpu" in controllers.split(","):
            found += [_v1(group) for group in _with_parents(root / "cpu", path)]
    return min(found)


def _with_parents(root: Path, path: str) -> list[Path]:
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    return [root.joinpath(*parts[:count]) for count in range(len(parts) + 1)]


def _v2(group: Path) -> float:
    with suppress(OSError, ValueError):
        most, period = (group / "cpu.max").read_text(encoding="ascii").split()
        if most != "max":
            return int(most) / int(period)
    return math.inf


def _v1(group: Path) -> float:
    with suppress(OSError, ValueError):
        most = int((group / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        if most > 0:
            return most / int((group / "cpu.cfs_period_us").read_text(encoding="ascii"))
    return math.inf
