"""Makes out the bill of a stack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from local.plan import compute, nodes, rates
from local.plan.cost import Assumptions, Cost, Line
from local.plan.tables import HOURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local.plan.compute import Pods
    from local.plan.cost import Kind
    from local.plan.nodes import Nodes
    from local.plan.snapshot import Snapshot
    from local.plan.tables import Instance, Price, Prices

_SECONDS: Final = HOURS * 3600
_INSIGHTS: Final = "amazon-cloudwatch-observability"


def estimate(snapshot: Snapshot, prices: Prices, assumptions: Assumptions | None = None) -> Cost:
    """The bill of `snapshot`."""
    bill = _Bill(snapshot, prices, assumptions or Assumptions())
    bill.fixed()
    bill.load_balancers()
    bill.training()
    bill.compute()
    bill.insights()
    types = sorted({item.type for item in snapshot.resources()})
    unpriced = [kind for kind in types if kind not in rates.PRICED]
    usage = [kind for kind in unpriced if any(fnmatchcase(kind, p) for p in rates.USAGE_ONLY)]
    free = [kind for kind in unpriced if any(fnmatchcase(kind, p) for p in rates.FREE)]
    return Cost(
        lines=bill.lines,
        assumptions=bill.assumptions,
        dated=prices.dated,
        region=prices.region,
        baseline=bill.baseline("fixed", "compute", "usage"),
        compute_baseline=bill.baseline("compute"),
        notes=bill.notes,
        usage_only=usage,
        unknown=[kind for kind in unpriced if kind not in {*usage, *free}],
        sources=bill.sources,
    )


@dataclass(frozen=True, kw_only=True)
class _Rate:
    """Dollars a unit, as it is paid and on demand."""

    unit: str
    usd: float
    on_demand: float
    source: str

    @classmethod
    def of(cls, row: Price | Instance, unit: str, discount: float = 0.0) -> _Rate:
        return cls(
            unit=unit,
            usd=row.usd * (1 - discount),
            on_demand=row.usd,
            source=f"{row.source}, {row.dated}",
        )


class _Bill:
    """Collects lines."""

    def __init__(self, snapshot: Snapshot, prices: Prices, assumptions: Assumptions) -> None:
        self.snapshot = snapshot
        self.prices = prices
        self.assumptions = assumptions
        self.lines: list[Line] = []
        self.notes: list[str] = []
        self.sources: dict[str, int] = {}
        self._peak_extra = 0.0
        self._disk_gb = 0.0

    def add(
        self, component: str, price: str, quantity: float, *, what: str = "", kind: Kind = "fixed"
    ) -> None:
        """A line at a price of the table; equal ones of a component are added up."""
        if quantity <= 0:
            return
        row = self.prices.prices[price]
        self._line(component, what or row.what, quantity, _Rate.of(row, row.unit), kind)

    def _line(self, component: str, what: str, quantity: float, rate: _Rate, kind: Kind) -> None:
        factor = self.assumptions.region_factor
        self.sources[rate.source] = self.sources.get(rate.source, 0) + 1
        for index, line in enumerate(self.lines):
            if (line.component, line.what, line.unit) == (component, what, rate.unit):
                quantity += line.quantity
                self.lines.pop(index)
                break
        self.lines.append(
            Line(
                component=component,
                what=what,
                quantity=quantity,
                unit=rate.unit,
                monthly=quantity * rate.usd * factor,
                on_demand=quantity * rate.on_demand * factor,
                kind=kind,
                price=rate.source,
            )
        )

    def fixed(self) -> None:
        """What each resource costs by being there, and by its assumed use."""
        for item in self.snapshot.resources():
            for charge in rates.charges(item, self.assumptions):
                self.add(item.component, charge.price, charge.quantity, kind=charge.kind)

    def load_balancers(self) -> None:
        """One application load balancer for each Ingress, or group of Ingresses."""
        groups: dict[str, str] = {}
        for item in self.snapshot.of(rates.INGRESS):
            metadata: Mapping[str, Any] = item.inputs.get("metadata") or {}
            annotations: Mapping[str, Any] = metadata.get("annotations") or {}
            groups.setdefault(
                str(annotations.get("alb.ingress.kubernetes.io/group.name", item.urn)), item.component
            )
        load, kb = self.assumptions.requests_per_second, self.assumptions.request_kb
        for component in groups.values():
            self.add(component, "alb", HOURS)
            # A capacity unit: 1 GB an hour, or 25 new connections a second; one request in 100 opens one.
            units = max(load * kb * 3600 / 1e6, load / 100 / 25) / len(groups)
            self.add(component, "alb-lcu", units * HOURS, kind="usage")
        acl = self.snapshot.of(rates.WEB_ACL)
        if acl:
            self.add(acl[0].component, "waf-requests", load * _SECONDS / 1e6, kind="usage")

    def training(self) -> None:
        """Training jobs, as the models' configurations describe them."""
        for component, template in rates.training_jobs(self.snapshot):
            resources: Mapping[str, Any] = template.get("ResourceConfig") or {}
            kind = str(resources.get("InstanceType"))
            count = float(resources.get("InstanceCount") or 1)
            row = self.prices.training.get(kind)
            if row is None:
                self.notes.append(f"training on {kind} is not in the price table, counted as 0")
                continue
            hours = self.assumptions.training_runs * self.assumptions.training_hours * count
            spot = bool(template.get("EnableManagedSpotTraining"))
            what = f"training on {kind}{', spot' if spot else ''}"
            rate = _Rate.of(row, row.unit, self.assumptions.cpu_spot_discount if spot else 0.0)
            self._line(component, what, hours, rate, "usage")

    def compute(self) -> None:
        """Pods on Fargate and on nodes."""
        groups = compute.pods(
            self.snapshot,
            self.prices,
            self.assumptions.requests_per_second,
            self.assumptions.requests_per_core,
        )
        for group in groups:
            if group.carries is not None and group.count == group.peak and self._overloaded(group, groups):
                self.notes.append(
                    f"{group.name}: at most {group.peak} pods carry {group.carries:,.0f} a second;"
                    " the assumed load is more"
                )
            if group.fargate:
                self._fargate(group)
        self._nodes(groups)
        for item in self.snapshot.of("kubernetes:helm.sh/v3:Release"):
            self.add(item.component, "ebs-gp3", compute.claimed_gb(item.inputs.get("values")), what="volumes")

    def _overloaded(self, group: Pods, groups: Sequence[Pods]) -> bool:
        scaled = sum(other.carries is not None for other in groups)
        return self.assumptions.requests_per_second / scaled > (group.carries or 0.0)

    def _fargate(self, group: Pods) -> None:
        size, memory = compute.fargate_size(group.vcpu, group.gib)
        plural = "s" if group.count != 1 else ""
        what = f"{group.name}: {group.count} Fargate pod{plural} of {size:g} vCPU, {memory:g} GB"
        row, price = self.prices.prices["fargate-vcpu"], self.prices.prices["fargate-gb"]
        each = size * row.usd + memory * price.usd
        rate = replace(_Rate.of(row, "pod-hour"), usd=each, on_demand=each)
        self._line(group.component, what, group.count * HOURS, rate, "compute")
        self._peak_extra += (group.peak - group.count) * HOURS * each * self.assumptions.region_factor

    def _nodes(self, groups: Sequence[Pods]) -> None:
        pools = nodes.pools(self.snapshot, self.prices)
        taken = nodes.daemons(self.snapshot, self.prices)
        self._disk_gb = nodes.disk_gb(self.snapshot) or self.assumptions.node_disk_gb
        on_nodes = [group for group in groups if not group.fargate]
        fewest = nodes.fewest_nodes(self.snapshot)
        now, peak = (
            nodes.nodes(
                [(getattr(g, key), g) for g in on_nodes],
                pools,
                self.prices,
                taken,
                fewest,
                spot=key == "count",
            )
            for key in ("count", "peak")
        )
        component = next(
            (g.component for g in on_nodes if g.carries is not None),
            on_nodes[0].component if on_nodes else "",
        )
        if now is not None and peak is not None:
            self._node_lines(component, now)
            factor = self.assumptions.region_factor
            self._peak_extra += factor * (self._monthly(peak) - self._monthly(now))
        elif carried := [group for group in on_nodes if group.peak and not group.gpus]:
            self.notes.append(nodes.too_large(carried))
        for group in on_nodes:
            if group.gpus:
                self._gpus(group, spot=any(pool.spot for pool in pools if pool.gpu))
        if on_nodes and not pools:
            self.notes.append(f"no NodePool is declared for pods off Fargate: priced on {nodes.FALLBACK}")

    def _gpus(self, group: Pods, *, spot: bool) -> None:
        row, count = self.prices.prices["gpu-node"], group.count * group.gpus
        rate = _Rate.of(row, row.unit, self.assumptions.gpu_spot_discount if spot else 0.0)
        self._line(
            group.component, f"{group.name}: {count} GPU(s), {row.what}", count * HOURS, rate, "compute"
        )

    def _monthly(self, of: Nodes) -> float:
        usd = self.prices.instances
        hourly = of.on_demand * usd[of.floor].usd + of.spot * usd[of.instance].usd
        return hourly * HOURS + of.count * self._disk_gb * self.prices.prices["ebs-gp3"].usd

    def _node_lines(self, component: str, of: Nodes) -> None:
        discount = self.assumptions.cpu_spot_discount
        for count, instance, off, word in (
            (of.on_demand, of.floor, 0.0, "on demand"),
            (of.spot, of.instance, discount, "spot"),
        ):
            if count:
                rate = _Rate.of(self.prices.instances[instance], "hour", off)
                self._line(component, f"{count} {instance}, {word}", count * HOURS, rate, "compute")
        disk = of.count * self._disk_gb
        self.add(component, "ebs-gp3", disk, what="disks of the nodes", kind="compute")

    def baseline(self, *kinds: Kind) -> float:
        """The lines of these kinds on demand, with every autoscaler at its end."""
        return sum(line.on_demand for line in self.lines if line.kind in kinds) + self._peak_extra

    def insights(self) -> None:
        """Say what an add-on costs that is paid by observation."""
        if any(item.inputs.get("addonName") == _INSIGHTS for item in self.snapshot.of("aws:eks/addon:Addon")):
            self.notes.append("Container Insights and traces are paid by observation and span: not counted")
