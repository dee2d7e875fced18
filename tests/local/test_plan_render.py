"""The plan's formats: what they show, and that any text in them is only text."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local.plan import diagram, html, markdown, tables, terminal, words
from local.plan import plan as plans
from policy.model import Finding

sys.path.insert(0, str(Path(__file__).parent))
from plan_fixture import allow, deployment_item, item, plan, role_policy, scaler, stack

if TYPE_CHECKING:
    from local.plan.plan import Plan

HOSTILE = [
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m\x07",
    "| a | b |\n| --- |",
    "](https://example.com) @everyone `code` **bold**",
    "\u202eevil\u2028",
    "{{ 7 * 7 }} {% raw %}",
    '" onload="x',
    "</code></details><h1>big",
]


def hostile(text: str) -> Plan:
    finding = Finding(rule=text, level="mandatory", urn="", name=text, message=text, advice=text)
    before = stack(
        role_policy("p"), item("aws:s3/bucket:Bucket", "b", {"x": 1}), name="prod", settings={"k": 1}
    )
    after = stack(
        role_policy("p", allow(text, text)),
        item("aws:s3/bucket:Bucket", "b", {"x": text, text: 1}),
        item("aws:kms/key:Key", text, component=text),
        item("aws:ec2/natGateway:NatGateway", f"{text}2", component=text),
        findings=(finding,),
        settings={"k": text, "aws:region": text},
        messages=[text],
    )
    return plan(after, before)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_do_nothing_to_a_terminal(text: str) -> None:
    shown = terminal.render(hostile(text))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028]", shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_do_nothing_to_a_page(text: str) -> None:
    tags = _Tags()
    tags.feed(html.render(hostile(text)))
    kinds = {tag for tag, _ in tags.seen}
    assert not kinds & {"script", "img", "iframe", "a", "link"}
    assert sum(tag == "h1" for tag, _ in tags.seen) == 1
    assert not [name for _, attributes in tags.seen for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_do_nothing_to_a_pull_request(text: str) -> None:
    shown = markdown.render(hostile(text))
    assert "<script" not in shown
    assert "<h1" not in shown
    assert "@everyone" not in shown
    assert "](https" not in shown
    assert shown.count("<details>") == shown.count("</details>")
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    tables = [list(part) for part in _runs(shown.splitlines())]
    assert rows
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table}) == 1


def _runs(lines: list[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [run for run in found if run]


def usual() -> Plan:
    return plan(stack(item("eks:index:Cluster", "t-part-c", protect=True), deployment_item(), scaler()))


def test_the_terminal_shows_the_main_figures() -> None:
    shown = terminal.render(usual())
    assert "3 resources" in shown
    assert "eks Cluster" in shown
    assert "c*" in shown
    assert "Policy: 0 findings" in shown
    assert re.search(r"EKS control plane, standard support +\$73\.00", shown)
    assert "Critical path of a first deployment: 10 min" in shown
    assert "\x1b" not in shown
    assert "\x1b[1m" in terminal.render(usual(), colour=True)


def test_a_page_is_self_contained() -> None:
    page = html.render(usual())
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in page
    assert "<svg" in page


def test_the_diagram_shows_each_part_and_thins_lines_that_follow_from_others() -> None:
    a = item("aws:kms/key:Key", "a", component="a")
    b = item("aws:s3/bucket:Bucket", "b", component="b", dependencies=(a.urn,))
    c = item("aws:iam/role:Role", "c", component="c", dependencies=(a.urn, b.urn))
    taken = stack(c, b, a)
    assert diagram.order(taken, tables.durations()) == ["a", "b", "c"]
    assert diagram.needs(taken) == {"c": {"a": 1, "b": 1}, "b": {"a": 1}, "a": {}}
    assert diagram.reduced(diagram.needs(taken)) == {"c": {"b"}, "b": {"a"}, "a": set()}
    svg = str(diagram.components(taken, {}, tables.durations()))
    assert svg.count('class="part"') == 3
    # Three boxes of 138 with gaps of 46: letters of 13.5 px are never drawn with fewer than 11.
    assert 'style="min-width:418px;max-width:510px"' in svg
    assert 418 / 510 * 13.5 > 11
    assert svg.count('class="edge"') == 2


def test_parts_that_need_each_other_are_drawn_all_the_same() -> None:
    a = item("aws:kms/key:Key", "a", component="a")
    b = item("aws:s3/bucket:Bucket", "b", component="b", dependencies=(a.urn,))
    late = item("aws:iam/role:Role", "late", component="a", dependencies=(b.urn,))
    assert str(diagram.components(stack(a, b, late), {}, tables.durations())).count('class="part"') == 2


def test_an_empty_stack_can_be_shown() -> None:
    empty = plan(stack())
    for render in (terminal.render, markdown.render, html.render):
        assert render(empty)
    assert plans.to_json(empty)["counts"]["resources"] == 0


def test_json_has_what_it_promises_and_only_finite_values() -> None:
    document = json.loads(json.dumps(plans.to_json(hostile("x")), allow_nan=False))
    assert {"resources", "findings", "cost", "critical_path", "counts", "changes"} <= document.keys()
    one = document["resources"][1]
    assert {"type", "name", "parent", "inputs", "dependencies", "urn", "component", "protect"} <= one.keys()


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0, "$0.00"), (0.0123, "$0.012"), (0.5, "$0.50"), (12.3, "$12.30"), (1234.5, "$1,234"), (-5, "-$5.00")],
)
def test_money(usd: float, text: str) -> None:
    assert words.money(usd) == text


def test_lists_are_cut_where_they_do_not_fit() -> None:
    assert words.listed(["aa", "bb", "cc"], 100) == "aa, bb, cc"
    assert words.listed(["aa", "bb", "cc"], 6) == "aa, bb, +1"
    assert words.listed(["a" * 50, "b"], 6) == "a" * 50 + ", +1"
