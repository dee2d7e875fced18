"""Prometheus' text of several workers as that of one server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_Number = int | float

# What is not a sum over workers. Ready is the server whose every worker is; it started when the first did.
_COMBINED: Final[Mapping[str, Callable[[_Number, _Number], _Number]]] = {
    "trainserve_ready": min,
    "process_start_time_seconds": min,
}


class _Family:
    def __init__(self, head: str) -> None:
        self.head = [head]
        self.kind = ""
        self.samples: dict[str, _Number] = {}


def merged(texts: Iterable[str]) -> str:
    """Return the sum of several texts, sample by sample; what describes a thing is there once."""
    families: dict[str, _Family] = {}
    for text in texts:
        _read(text, families)
    return _written(families)


def lasting(text: str) -> str:
    """Return what outlives the worker that gave this text: what it has counted, not what it was at."""
    families: dict[str, _Family] = {}
    _read(text, families)
    return _written({name: found for name, found in families.items() if found.kind != "gauge"})


def _read(text: str, families: dict[str, _Family]) -> None:
    name, family = "", _Family("")
    for line in text.splitlines():
        if line.startswith("# "):
            _, what, name, rest = line.split(" ", 3)
            family = families.setdefault(name, _Family(line))
            if what == "TYPE" and not family.kind:
                family.kind = rest
                family.head.append(line)
            continue
        key, _, number = line.rpartition(" ")
        value = float(number) if "." in number or "e" in number or number in {"NaN", "+Inf"} else int(number)
        before = family.samples.get(key)
        if before is None:
            family.samples[key] = value
        elif name in _COMBINED:
            family.samples[key] = _COMBINED[name](before, value)
        elif name.endswith("_info"):
            family.samples[key] = max(before, value)
        else:
            family.samples[key] = before + value


def _written(families: Mapping[str, _Family]) -> str:
    lines: list[str] = []
    for family in families.values():
        lines += family.head
        lines += [f"{key} {value}" for key, value in family.samples.items()]
    return "".join(f"{line}\n" for line in lines)
