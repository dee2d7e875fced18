"""What a stack costs a month, as lines over a dated price table, and what stands behind each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from local.plan.tables import HOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["fixed", "compute", "usage"]
_SECONDS: Final = HOURS * 3600


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What the program does not say and a bill depends on."""

    region_factor: float = 1.0
    """Prices here against those of the table's region."""
    requests_per_second: float = 1000.0
    requests_per_core: float = 5000.0
    """Predictions a second that one core serves."""
    request_kb: float = 1.5
    """Request and answer together."""
    cpu_spot_discount: float = 0.60
    gpu_spot_discount: float = 0.45
    training_runs: float = 30.0
    """A month, of each model."""
    training_hours: float = 0.25
    """Of one run."""
    nat_gb: float = 50.0
    """A month, through each NAT gateway."""
    log_gb: float = 1.0
    """A month, into each log group."""
    flow_log_gb: float = 10.0
    storage_gb: float = 50.0
    """In each bucket."""
    image_gb: float = 5.0
    builds: float = 20.0
    """A month, of five minutes each."""
    node_disk_gb: float = 50.0

    def sentences(self) -> list[str]:
        """The assumptions in words."""
        disk, builds = self.node_disk_gb, self.builds
        return [
            f"Load: {self.requests_per_second:,.0f} predictions a second, {self.request_kb:g} kB each.",
            f"One core serves {self.requests_per_core:,.0f} predictions a second.",
            f"Spot: {self.cpu_spot_discount:.0%} off, for GPUs {self.gpu_spot_discount:.0%} off.",
            "Pods run on the cheapest node type of the table that the pools allow; whole nodes are paid.",
            "Where a pool offers spot, all nodes but one are spot; the one is the on-demand floor.",
            f"Training: {self.training_runs:g} runs a month and model, {self.training_hours:g} h each.",
            f"{self.nat_gb:g} GB a month through each NAT gateway.",
            f"{self.log_gb:g} GB a month into each log group, {self.flow_log_gb:g} GB of flow logs.",
            f"{self.storage_gb:g} GB in each bucket, {self.image_gb:g} GB of images, {disk:g} GB a node.",
            f"{builds:g} image builds a month, five minutes each.",
            f"Prices are {self.region_factor:g} times those of the table; a month has {HOURS} hours.",
            "Not counted: taxes, free tiers, savings plans, data sent to the Internet.",
        ]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the bill."""

    component: str
    what: str
    quantity: float
    unit: str
    """Of `quantity`, a month."""
    monthly: float
    on_demand: float
    """The same without spot."""
    kind: Kind = "fixed"
    price: str = ""
    """Where the price comes from: its source and date."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A month's bill at the assumed load."""

    lines: Sequence[Line]
    assumptions: Assumptions
    dated: str
    region: str
    baseline: float
    """The same platform always at its peak size, all on demand."""
    compute_baseline: float = 0.0
    """Pods and nodes of that."""
    notes: Sequence[str] = ()
    usage_only: Sequence[str] = ()
    """Types that are paid by use, and are not priced here."""
    unknown: Sequence[str] = ()
    """Types that this table does not know, counted as 0."""
    sources: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def monthly(self) -> float:
        """The sum, in US dollars."""
        return sum(line.monthly for line in self.lines)

    @property
    def on_demand(self) -> float:
        """The sum if nothing ran on spot."""
        return sum(line.on_demand for line in self.lines)

    def by_component(self) -> dict[str, float]:
        """Component to dollars a month, the dearest first."""
        sums: dict[str, float] = {}
        for line in self.lines:
            sums[line.component] = sums.get(line.component, 0.0) + line.monthly
        return dict(sorted(sums.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def millions(self) -> float:
        """Million predictions a month at the assumed load."""
        return self.assumptions.requests_per_second * _SECONDS / 1e6

    @property
    def per_million(self) -> float:
        """Dollars for a million predictions: the whole platform over all of them."""
        return self.monthly / self.millions if self.millions else 0.0

    @property
    def compute_per_million(self) -> float:
        """The same, of pods and nodes alone."""
        return self.compute / self.millions if self.millions else 0.0

    @property
    def compute(self) -> float:
        """Pods and nodes, a month."""
        return sum(line.monthly for line in self.lines if line.kind == "compute")

    @property
    def compute_saving(self) -> float:
        """How much less pods and nodes cost than always on demand and at their peak, as a share of that."""
        return 1 - self.compute / self.compute_baseline if self.compute_baseline else 0.0

    @property
    def saving(self) -> float:
        """How much less than the always-on-demand baseline, as a share of it."""
        return 1 - self.monthly / self.baseline if self.baseline else 0.0


def to_json(cost: Cost) -> dict[str, Any]:
    """As JSON values."""
    return {
        "currency": "USD",
        "monthly": round(cost.monthly, 2),
        "by_component": {name: round(value, 2) for name, value in cost.by_component().items()},
        "on_demand_monthly": round(cost.on_demand, 2),
        "always_on_demand_monthly": round(cost.baseline, 2),
        "saving_against_always_on_demand": round(cost.saving, 4),
        "compute_monthly": round(cost.compute, 2),
        "compute_always_on_demand_monthly": round(cost.compute_baseline, 2),
        "compute_saving_against_always_on_demand": round(cost.compute_saving, 4),
        "per_million_predictions": round(cost.per_million, 4),
        "compute_per_million_predictions": round(cost.compute_per_million, 4),
        "lines": [asdict(line) for line in cost.lines],
        "assumptions": asdict(cost.assumptions),
        "prices_dated": cost.dated,
        "prices_region": cost.region,
        "notes": list(cost.notes),
        "usage_based_not_priced": list(cost.usage_only),
        "unknown_counted_as_zero": list(cost.unknown),
        "sources": dict(cost.sources),
    }
