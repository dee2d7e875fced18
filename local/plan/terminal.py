"""The plan as text for a terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local.plan import words
from local.plan.words import change_of, clean, kind, listed, minutes, money, plural, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.plan.changes import Changes
    from local.plan.plan import Plan
    from policy.model import Finding

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_WIDTH = 110
_MAX_DIFFERENCES = 8
_MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


@dataclass
class _Page:
    """Lines, styled if colours are wanted."""

    colour: bool
    lines: list[str] = field(default_factory=list[str])

    def say(self, text: str = "", style: str = "") -> None:
        self.lines.append(self.styled(text, style))

    def styled(self, text: str, style: str) -> str:
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.colour and style and text else text

    def title(self, text: str) -> None:
        self.say()
        self.say(text, "bold")


def render(plan: Plan, *, colour: bool = False) -> str:
    """The whole plan; the values of resources are in the JSON only."""
    page = _Page(colour)
    _head(page, plan)
    _tree(page, plan)
    _findings(page, plan.snapshot.findings)
    _cost(page, plan)
    _path(page, plan)
    if plan.changes is not None:
        _changes(page, plan.changes)
    return "\n".join(page.lines) + "\n"


def _head(page: _Page, plan: Plan) -> None:
    taken = plan.snapshot
    page.say(f"trainserve: what stack {clean(taken.stack)} would be", "bold")
    region = clean(taken.settings.get("aws:region", ""))
    page.say(
        f"{plural(len(taken.resources()), 'resource')} in {region}, {money(plan.cost.monthly)} a month,"
        f" {minutes(plan.path.seconds)} to deploy;"
        f" found out in {plan.seconds:.1f} s without credentials",
        "dim",
    )
    for message in taken.messages:
        page.say(f"  ! {clean(message)}", "yellow")


def _tree(page: _Page, plan: Plan) -> None:
    page.title("Resources")
    resources, costs = plan.snapshot.resources(), plan.cost.by_component()
    for component, count in plan.snapshot.counts().items():
        usd = f"  {money(costs[component])}/month" if costs.get(component) else ""
        page.say(f"  {clean(component):<46}{count:>4}{page.styled(usd, 'dim')}", "")
        inside = [item for item in resources if item.component == component]
        kinds = Counter(item.type for item in inside)
        for index, (of, number) in enumerate(sorted(kinds.items(), key=lambda pair: kind(pair[0]))):
            branch = "└" if index == len(kinds) - 1 else "├"
            names = [
                short(item.name, component) + ("*" if item.protect else "")
                for item in inside
                if item.type == of
            ]
            line = f"    {branch} {kind(of):<42}{number:>4}  "
            page.say(line + page.styled(listed(names, _WIDTH - len(line)), "dim"))
    if any(item.protect for item in resources):
        page.say("  * protected against deletion", "dim")


def _findings(page: _Page, findings: Sequence[Finding]) -> None:
    page.title(f"Policy: {plural(len(findings), 'finding')}")
    for finding in findings:
        style = "red" if finding.level == "mandatory" else "yellow"
        mark = page.styled(f"{finding.level:<10}", style)
        page.say(f"  {mark} {clean(finding.rule)}: {clean(finding.name)} {clean(finding.message)}")
        page.say(f"             {clean(finding.advice)}", "dim")


def _cost(page: _Page, plan: Plan) -> None:
    cost = plan.cost
    page.title(f"Cost: {money(cost.monthly)} a month")
    for component, monthly in cost.by_component().items():
        page.say(f"  {clean(component):<60}{money(monthly):>12}")
        inside = [line for line in cost.lines if line.component == component]
        for line in sorted(inside, key=lambda line: -line.monthly):
            what = f"    {clean(line.what)}"
            quantity = f"{line.quantity:,.0f} {line.unit}"
            page.say(f"{what:<60}{money(line.monthly):>12}   {quantity}", "dim")
    page.say(f"  {'nothing on spot':<60}{money(cost.on_demand):>12}")
    page.say(f"  {'always on demand, always at peak':<60}{money(cost.baseline):>12}")
    page.say(f"  {'this plan against that':<60}{-cost.saving:>12.0%}")
    page.say(f"  {'its pods and nodes against that':<60}{-cost.compute_saving:>12.0%}")
    a_second = f"at {cost.assumptions.requests_per_second:,.0f} a second"
    page.say(f"  {f'a million predictions, {a_second}':<60}{money(cost.per_million):>12}")
    page.say(f"  {'of it pods and nodes':<60}{money(cost.compute_per_million):>12}")
    for note in cost.notes:
        page.say(f"  ! {clean(note)}", "yellow")
    if cost.unknown:
        page.say(f"  ! not in the price table, counted as 0: {clean(', '.join(cost.unknown))}", "yellow")
    if cost.usage_only:
        names = listed([kind(of) for of in cost.usage_only], 2 * _WIDTH)
        page.say(f"  Paid by use and not counted: {names}.", "dim")
    page.say(f"  Assumed (prices of {cost.region}, {cost.dated}):", "dim")
    for sentence in cost.assumptions.sentences():
        page.say(f"    {sentence}", "dim")
    for source, count in cost.sources.items():
        page.say(f"    {plural(count, 'price')} from: {source}.", "dim")


def _path(page: _Page, plan: Plan) -> None:
    path = plan.path
    page.title(
        f"Critical path of a first deployment: {minutes(path.seconds)};"
        f" one after the other {minutes(path.sum_seconds)}"
    )
    for step in path.steps:
        what = f"{clean(step.component)}  {kind(step.type)} {short(step.name, step.component)}"
        page.say(f"  {minutes(step.start):>12}  {minutes(step.seconds):>12}  {what:<62}{clean(step.because)}")
    page.say(
        f"  Typical durations, {path.dated}; the last column says why it waits for the line above.", "dim"
    )


def _changes(page: _Page, changes: Changes) -> None:
    counts = ", ".join(f"{changes.count(action)} {action}" for action in ("added", "changed", "removed"))
    page.title(f"Against {clean(changes.against)}: {counts}")
    for grant in changes.widened:
        page.say(f"  may do more  {clean(grant.sentence())}", "red")
    for difference in changes.settings:
        before, after = words.value(difference.before), words.value(difference.after)
        page.say(f"  setting      {clean(difference.path)}: {before} → {after}")
    for change in changes.resources:
        mark, style = _MARKS[change.action]
        page.say(f"  {mark} {clean(change.component)}  {kind(change.type)} {clean(change.name)}", style)
        for difference in change.differences[:_MAX_DIFFERENCES]:
            before, after = words.value(difference.before), words.value(difference.after)
            page.say(f"      {clean(difference.path)}: {before} → {after}", "dim")
        if (more := len(change.differences) - _MAX_DIFFERENCES) > 0:
            page.say(f"      and {more} more", "dim")
    for component, (before, after) in changes.cost.items():
        page.say(f"  cost         {clean(component):<44}{change_of(before, after):>12}")
    total = change_of(changes.monthly_before, changes.monthly_after)
    page.say(f"  cost         {'a month, in all':<44}{total:>12}")
    for finding in changes.new_findings:
        page.say(
            f"  new finding  {clean(finding.rule)}: {clean(finding.name)} {clean(finding.message)}", "red"
        )
    for finding in changes.gone_findings:
        page.say(
            f"  gone         {clean(finding.rule)}: {clean(finding.name)} {clean(finding.message)}", "green"
        )
