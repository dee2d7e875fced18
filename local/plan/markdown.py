"""The plan as Markdown for a pull request: a short summary, all else folded away."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from local.plan import words
from local.plan.words import change_of, kind, minutes, money, plural, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from local.plan.changes import Changes, Difference
    from local.plan.plan import Plan

_MAX_ROWS = 60
_MAX_DIFFERENCES = 12
_ENTITY = re.compile(r"[^A-Za-z0-9 ./,=-]")
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~>@:-])")


def render(plan: Plan) -> str:
    """The whole plan."""
    parts = [_summary(plan)]
    if plan.changes is not None:
        parts += _changes(plan.changes)
    parts += [_findings(plan), _resources(plan), _cost(plan), _path(plan)]
    return "\n\n".join(part for part in parts if part) + "\n"


def text(value: object) -> str:
    """A value as plain text: nothing in it is markup, a link or a mention."""
    return _SPECIAL.sub(r"\\\1", html.escape(words.clean(value), quote=False)).replace("@", "@\u200b")


def code(value: object) -> str:
    """A value as code, in a table too."""
    # Markdown is at work within tags as well, but not on what is written as entities.
    return f"<code>{_ENTITY.sub(lambda match: f'&#{ord(match[0])};', words.clean(value))}</code>"


def _summary(plan: Plan) -> str:
    taken, cost, changes = plan.snapshot, plan.cost, plan.changes
    mandatory = sum(finding.level == "mandatory" for finding in taken.findings)
    findings = plural(len(taken.findings), "finding") + (f", **{mandatory} mandatory**" if mandatory else "")
    rows: list[tuple[str, str]] = []
    if changes is not None:
        counts = [f"{changes.count(action)} {action}" for action in ("added", "changed", "removed")]
        rows.append((f"Against {text(changes.against)}", ", ".join(counts)))
    rows.append(("Resources", plural(len(taken.resources()), "resource")))
    monthly = f"{money(cost.monthly)} a month"
    if changes is not None:
        monthly += f" ({change_of(changes.monthly_before, changes.monthly_after)})"
    rows.append(("Cost", f"{monthly}; {money(cost.per_million)} for a million predictions"))
    rows.append(("Policy", findings))
    rows.append(
        ("First deployment", f"{minutes(plan.path.seconds)} ({minutes(plan.path.sum_seconds)} in all)")
    )
    if changes is not None:
        count = len(changes.widened)
        rows.append(("Access", f"**{plural(count, 'grant')} more**" if count else "nothing more is allowed"))
    return f"### Plan of stack {text(taken.stack)}\n\n" + _table(("", ""), rows)


def _changes(changes: Changes) -> list[str]:
    parts: list[str] = []
    if changes.widened:
        rows = [(code(grant.name), code(grant.sentence().partition(": ")[2])) for grant in changes.widened]
        parts.append("**Allowed now, and not before**\n\n" + _table(("policy", "grant"), rows))
    if changes.settings:
        parts.append(_folded(plural(len(changes.settings), "setting"), _differences(changes.settings)))
    if changes.resources:
        rows = [
            (
                change.action,
                text(change.component),
                text(kind(change.type)),
                code(change.name),
                _what(change.differences),
            )
            for change in changes.resources
        ]
        table = _table(("", "part", "type", "name", "what"), rows)
        parts.append(_folded(plural(len(changes.resources), "changed resource"), table))
    if changes.cost:
        rows = [
            (text(name), money(was), money(now), change_of(was, now))
            for name, (was, now) in changes.cost.items()
        ]
        table = _table(("part", "before", "after", "difference"), rows)
        parts.append(_folded("Difference in cost", table))
    found = [("new", f) for f in changes.new_findings] + [("gone", f) for f in changes.gone_findings]
    if found:
        rows = [(word, code(f.rule), code(f.name), text(f.message)) for word, f in found]
        parts.append("**Findings that differ**\n\n" + _table(("", "rule", "resource", "what"), rows))
    return parts


def _findings(plan: Plan) -> str:
    findings = plan.snapshot.findings
    if not findings:
        return ""
    rows = [(f.level, code(f.rule), code(f.name), f"{text(f.message)}. {text(f.advice)}") for f in findings]
    return _folded(plural(len(findings), "policy finding"), _table(("", "rule", "resource", "what"), rows))


def _resources(plan: Plan) -> str:
    costs = plan.cost.by_component()
    rows = [
        (text(component), str(count), money(costs.get(component, 0.0)))
        for component, count in plan.snapshot.counts().items()
    ]
    rows += [
        (text(name), "", money(usd)) for name, usd in costs.items() if name not in plan.snapshot.counts()
    ]
    return _folded("Resources and cost by part", _table(("part", "resources", "a month"), rows))


def _cost(plan: Plan) -> str:
    cost = plan.cost
    rows = [
        (text(line.component), text(line.what), f"{line.quantity:,.0f} {line.unit}", money(line.monthly))
        for line in sorted(cost.lines, key=lambda line: -line.monthly)
    ]
    rows += [
        ("", "**in all**", "", f"**{money(cost.monthly)}**"),
        ("", "nothing on spot", "", money(cost.on_demand)),
        ("", "always on demand, always at peak", "", f"{money(cost.baseline)} ({-cost.saving:.0%})"),
        ("", "pods and nodes of that", "", f"{money(cost.compute_baseline)} ({-cost.compute_saving:.0%})"),
    ]
    notes = [*cost.notes, *cost.assumptions.sentences()]
    if cost.unknown:
        notes.append(f"Not in the price table, counted as 0: {', '.join(cost.unknown)}.")
    if cost.usage_only:
        notes.append(f"Paid by use, not counted: {', '.join(map(kind, cost.usage_only))}.")
    listed = "\n".join(f"- {text(note)}" for note in notes)
    table = _table(("part", "what", "quantity", "a month"), rows)
    return _folded(f"The bill, prices of {cost.region}, {cost.dated}", f"{table}\n\n{listed}")


def _path(plan: Plan) -> str:
    rows = [
        (
            minutes(step.start),
            minutes(step.seconds),
            text(step.component),
            text(f"{kind(step.type)} {short(step.name, step.component)}"),
            text(step.because),
        )
        for step in plan.path.steps
    ]
    return _folded(
        "Critical path of a first deployment", _table(("at", "takes", "part", "what", "waits for"), rows)
    )


def _what(differences: Sequence[Difference]) -> str:
    return "<br>".join(
        [
            f"{code(d.path)}: {code(words.value(d.before))} → {code(words.value(d.after))}"
            for d in differences[:_MAX_DIFFERENCES]
        ]
        + [f"and {len(differences) - _MAX_DIFFERENCES} more"] * (len(differences) > _MAX_DIFFERENCES)
    )


def _differences(differences: Sequence[Difference]) -> str:
    rows = [(code(d.path), code(words.value(d.before)), code(words.value(d.after))) for d in differences]
    return _table(("setting", "before", "after"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    all_rows = list(rows)
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in all_rows[:_MAX_ROWS]]
    if len(all_rows) > _MAX_ROWS:
        lines.append(f"| and {len(all_rows) - _MAX_ROWS} more |{' |' * (len(head) - 1)}")
    return "\n".join(lines)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary>\n\n{body}\n\n</details>"
