"""The dated tables behind cost and critical path: prices, typical footprints, typical durations."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_DATA: Final = Path(__file__).parent / "data"
HOURS: Final = 730
"""Hours in a month."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a unit of something costs, in US dollars."""

    usd: float
    unit: str
    what: str
    source: str
    dated: str
    """Year and month."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """An EC2 instance type; `usd` an hour, on demand."""

    usd: float
    vcpu: float
    gib: float
    arch: str
    gpus: int
    source: str
    dated: str


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a chart or an add-on asks for: pods of (vCPU, GiB), and what its daemon takes of every node."""

    pods: int
    vcpu: float
    gib: float
    namespace: str
    labels: Mapping[str, str]
    daemon: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, kw_only=True)
class Prices:
    """The price table of one region."""

    region: str
    dated: str
    prices: Mapping[str, Price]
    instances: Mapping[str, Instance]
    training: Mapping[str, Price]
    footprints: Mapping[str, Footprint]


@dataclass(frozen=True, kw_only=True)
class Durations:
    """Typical seconds to create a resource, by type; else by the longest prefix in `default`."""

    dated: str
    types: Mapping[str, float]
    default: Mapping[str, float]
    sources: Mapping[str, str]

    def of(self, kind: str) -> float:
        """Seconds for a type."""
        if kind in self.types:
            return self.types[kind]
        prefix = max((p for p in self.default if kind.startswith(p)), key=len, default="")
        return self.default.get(prefix, 0.0)


@cache
def prices() -> Prices:
    """The price table."""
    table = _read("prices.json")
    return Prices(
        region=table["region"],
        dated=table["dated"],
        prices={name: Price(**row) for name, row in table["prices"].items()},
        instances={name: Instance(**row) for name, row in table["instances"].items()},
        training={name: Price(**row) for name, row in table["training"].items()},
        footprints={name: Footprint(**row) for name, row in table["footprints"].items()},
    )


@cache
def durations() -> Durations:
    """The table of durations."""
    table = _read("durations.json")
    return Durations(
        dated=table["dated"],
        types={kind: float(row["seconds"]) for kind, row in table["types"].items()},
        default={prefix: float(seconds) for prefix, seconds in table["default"].items()},
        sources={kind: row["source"] for kind, row in table["types"].items()},
    )


def _read(name: str) -> dict[str, Any]:
    return json.loads((_DATA / name).read_text(encoding="utf-8"))
