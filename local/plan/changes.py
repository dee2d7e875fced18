"""What differs between two snapshots: settings, resources, access, cost, findings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from local.plan import access

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.plan.access import Grant
    from local.plan.cost import Cost
    from local.plan.snapshot import Item, Snapshot
    from policy.model import Finding

Action = Literal["added", "removed", "changed"]
ABSENT: Final = "(absent)"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One value, before and after; ABSENT stands for none."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True)
class Change:
    """What becomes of a resource."""

    action: Action
    type: str
    name: str
    component: str
    differences: Sequence[Difference] = ()


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Everything that differs from `against`."""

    against: str
    settings: Sequence[Difference] = ()
    resources: Sequence[Change] = ()
    widened: Sequence[Grant] = ()
    """What identities may do now and could not before."""
    monthly_before: float = 0.0
    monthly_after: float = 0.0
    cost: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Component to dollars a month before and after, where they differ."""
    new_findings: Sequence[Finding] = ()
    gone_findings: Sequence[Finding] = ()

    def count(self, action: Action) -> int:
        """How many resources are added, removed or changed."""
        return sum(change.action == action for change in self.resources)


def compare(before: Snapshot, after: Snapshot, *, costs: tuple[Cost, Cost], against: str) -> Changes:
    """What `after` has that `before` has not, and the other way round; `costs` in the same order."""
    old, new = without_stack(before), without_stack(after)
    was, now = costs[0].by_component(), costs[1].by_component()
    components = [name for name in {**now, **was} if abs(was.get(name, 0) - now.get(name, 0)) >= 0.005]
    seen = {(f.rule, _key(f.urn), f.message) for f in old.findings}
    found = {(f.rule, _key(f.urn), f.message) for f in new.findings}
    return Changes(
        against=against,
        settings=list(differences(before.settings, after.settings)),
        resources=sorted(_resources(old, new), key=lambda c: (c.component, c.type, c.name)),
        widened=access.widened(old, new),
        monthly_before=costs[0].monthly,
        monthly_after=costs[1].monthly,
        cost={name: (was.get(name, 0.0), now.get(name, 0.0)) for name in components},
        new_findings=[f for f in new.findings if (f.rule, _key(f.urn), f.message) not in seen],
        gone_findings=[f for f in old.findings if (f.rule, _key(f.urn), f.message) not in found],
    )


def without_stack(snapshot: Snapshot) -> Snapshot:
    """The snapshot with its stack's name out of every name, so that two stacks can be told apart by more."""
    word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(snapshot.stack)}(?![A-Za-z0-9])")
    return replace(
        snapshot,
        items=[replace(item, inputs=_renamed(item.inputs, word)) for item in snapshot.items],
        findings=[
            replace(finding, message=word.sub("<stack>", finding.message)) for finding in snapshot.findings
        ],
    )


def differences(before: object, after: object, path: str = "") -> Iterator[Difference]:
    """Where two JSON values differ; texts that are JSON are looked into."""
    before, after = _opened(before, after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            at = f"{path}.{key}" if path else str(key)
            yield from differences(before.get(key, ABSENT), after.get(key, ABSENT), at)
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            pair = (values[index] if index < len(values) else ABSENT for values in (before, after))
            yield from differences(*pair, path=f"{path}.{index}" if path else str(index))
    elif before != after:
        yield Difference(path=path, before=before, after=after)


def _resources(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    before = {item.key: item for item in old.resources()}
    after = {item.key: item for item in new.resources()}
    for key, item in after.items():
        if key not in before:
            yield _change("added", item)
        elif found := list(differences(_comparable(before[key]), _comparable(item))):
            yield _change("changed", item, found)
    for key, item in before.items():
        if key not in after:
            yield _change("removed", item)


def _comparable(item: Item) -> dict[str, Any]:
    options = {
        "(protect)": item.protect,
        "(retainOnDelete)": item.retain,
        "(dependencies)": {_name(urn): True for urn in item.dependencies},
    }
    return {**item.inputs, **options}


def _change(action: Action, item: Item, found: Sequence[Difference] = ()) -> Change:
    return Change(action=action, type=item.type, name=item.name, component=item.component, differences=found)


def _renamed(value: Any, word: re.Pattern[str]) -> Any:  # noqa: ANN401  # any JSON value
    if isinstance(value, str):
        return word.sub("<stack>", value)
    if isinstance(value, Mapping):
        return {key: _renamed(item, word) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_renamed(item, word) for item in value]
    return value


def _opened(before: object, after: object) -> tuple[object, object]:
    """Both decoded, if both are texts that hold JSON objects or arrays, and differ."""
    if not (isinstance(before, str) and isinstance(after, str)) or before == after:
        return before, after
    try:
        inner = json.loads(before), json.loads(after)
    except ValueError:
        return before, after
    return inner if all(isinstance(value, dict | list) for value in inner) else (before, after)


def _key(urn: str) -> str:
    return urn.split("::", 1)[-1]


def _name(urn: str) -> str:
    *_, types, name = urn.split("::")
    return f"{types.rpartition(':')[2]} {name}"


def to_json(changes: Changes) -> dict[str, Any]:
    """As JSON values."""
    return {
        "against": changes.against,
        "added": changes.count("added"),
        "removed": changes.count("removed"),
        "changed": changes.count("changed"),
        "settings": [asdict(difference) for difference in changes.settings],
        "resources": [asdict(change) for change in changes.resources],
        "iam_widening": [asdict(grant) | {"sentence": grant.sentence()} for grant in changes.widened],
        "monthly_before": round(changes.monthly_before, 2),
        "monthly_after": round(changes.monthly_after, 2),
        "cost_by_component": {
            name: {"before": round(was, 2), "after": round(now, 2)}
            for name, (was, now) in changes.cost.items()
        },
        "new_findings": [asdict(finding) for finding in changes.new_findings],
        "gone_findings": [asdict(finding) for finding in changes.gone_findings],
    }
