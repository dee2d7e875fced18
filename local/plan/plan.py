"""Puts a plan together: the snapshot and what follows from it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from local.plan import against, bill, changes, cost, deployment, snapshot, tables

if TYPE_CHECKING:
    from pathlib import Path

    from local.plan.changes import Changes
    from local.plan.cost import Assumptions, Cost
    from local.plan.deployment import CriticalPath
    from local.plan.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is shown."""

    snapshot: Snapshot
    cost: Cost
    path: CriticalPath
    changes: Changes | None = None
    seconds: float = 0.0
    """How long it took to find out."""


def make(project: Path, stack: str, assumptions: Assumptions, other: str | None = None) -> Plan:
    """Run the program, work out the rest; compare with `other`, a stack or a git revision.

    Raises:
        LocalError: a setting, the program, or `other` cannot be used.
    """
    started = time.monotonic()
    prices = tables.prices()
    with ExitStack() as ends:
        running = None
        if other is not None:
            running = ends.enter_context(against.Running(project, against.resolve(project, stack, other)))
        taken = snapshot.take(project, stack)
        costs = bill.estimate(taken, prices, assumptions)
        path = deployment.critical_path(taken, tables.durations())
        found = None
        if running is not None:
            before = running.result()
            before_costs = bill.estimate(before, prices, assumptions)
            found = changes.compare(before, taken, costs=(before_costs, costs), against=running.label)
    return Plan(snapshot=taken, cost=costs, path=path, changes=found, seconds=time.monotonic() - started)


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as one JSON document."""
    taken = plan.snapshot
    return {
        "format": 1,
        "stack": taken.stack,
        "region": taken.settings.get("aws:region"),
        "counts": {
            "resources": len(taken.resources()),
            "components": sum(item.kind == "component" for item in taken.items),
            "by_component": taken.counts(),
        },
        "resources": [
            {
                "urn": item.urn,
                "type": item.type,
                "name": item.name,
                "kind": item.kind,
                "component": item.component,
                "parent": item.parent,
                "protect": item.protect,
                "retain_on_delete": item.retain,
                "inputs": dict(item.inputs),
                "dependencies": list(item.dependencies),
                "property_dependencies": {k: list(v) for k, v in item.property_dependencies.items()},
                "provider": item.provider,
            }
            for item in taken.items
        ],
        "settings": dict(taken.settings),
        "findings": [asdict(finding) for finding in taken.findings],
        "messages": list(taken.messages),
        "cost": cost.to_json(plan.cost),
        "critical_path": deployment.to_json(plan.path),
        "changes": changes.to_json(plan.changes) if plan.changes else None,
        "seconds": round(plan.seconds, 2),
    }
