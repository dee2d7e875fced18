"""The critical path, and the graph functions under it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.plan import deployment, graph, tables

sys.path.insert(0, str(Path(__file__).parent))
from typing import TYPE_CHECKING

from plan_fixture import ROOT, item, stack, urn

if TYPE_CHECKING:
    from local.plan.snapshot import Item

DURATIONS = tables.durations()
BUCKET, KEY, ROLE = "aws:s3/bucket:Bucket", "aws:kms/key:Key", "aws:iam/role:Role"


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, float], dict[str, list[str]]]:
    nodes = [f"n{index}" for index in range(draw(st.integers(1, 12)))]
    seconds = {node: draw(st.floats(0, 1000)) for node in nodes}
    before = {
        node: draw(st.lists(st.sampled_from(nodes[:index]), unique=True)) if index else []
        for index, node in enumerate(nodes)
    }
    return seconds, before


@given(graphs())
def test_the_longest_path_is_a_path_no_longer_than_all_and_no_shorter_than_any(
    made: tuple[dict[str, float], dict[str, list[str]]],
) -> None:
    seconds, before = made
    found = graph.longest(seconds, before)
    assert max(seconds.values()) <= found.total <= sum(seconds.values()) + 1e-6
    assert sum(seconds[node] for node in found.path) == pytest.approx(found.total)
    for earlier, later in zip(found.path, found.path[1:], strict=False):
        assert earlier in before[later]


@given(graphs())
def test_more_edges_never_make_it_shorter(made: tuple[dict[str, float], dict[str, list[str]]]) -> None:
    seconds, before = made
    none = graph.longest(seconds, {node: [] for node in before})
    assert none.total == max(seconds.values())
    assert none.total <= graph.longest(seconds, before).total


@given(graphs())
def test_layers_are_below_what_they_need(made: tuple[dict[str, float], dict[str, list[str]]]) -> None:
    _, before = made
    rows = graph.layers(before, list(before))
    level = {node: index for index, row in enumerate(rows) for node in row}
    assert level.keys() == before.keys()
    assert all(level[earlier] < level[node] for node in before for earlier in before[node])


def test_a_diamond() -> None:
    found = graph.longest(
        {"a": 1, "b": 5, "c": 2, "d": 1}, {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    )
    assert found.path == ("a", "b", "d")
    assert found.total == 7


def test_nothing_takes_no_time() -> None:
    assert graph.longest({}, {}).total == 0
    assert graph.longest({}, {}).path == ()


def test_a_circle_is_named() -> None:
    with pytest.raises(graph.CycleError, match="in a circle: a, b"):
        graph.ordered({"a": ["b"], "b": ["a"], "c": []})


def names(*items: Item) -> list[str]:
    return [step.name for step in deployment.critical_path(stack(*items), DURATIONS).steps]


def test_inputs_and_depends_on_make_others_wait_and_say_why() -> None:
    key = item(KEY, "key")
    bucket = item(
        BUCKET,
        "bucket",
        dependencies=(urn(KEY, "key"),),
        property_dependencies={"kmsKey": (urn(KEY, "key"),)},
    )
    role = item(ROLE, "role", dependencies=(urn(BUCKET, "bucket"),))
    path = deployment.critical_path(stack(role, bucket, key), DURATIONS)
    assert [(step.name, step.because) for step in path.steps] == [
        ("key", ""),
        ("bucket", "input kmsKey"),
        ("role", "depends_on"),
    ]
    assert path.seconds == path.sum_seconds == sum(DURATIONS.of(kind) for kind in (KEY, BUCKET, ROLE))
    assert path.steps[1].start == DURATIONS.of(KEY)


def test_children_wait_for_what_their_component_depends_on() -> None:
    part = item("t:x:X", "x", kind="component", dependencies=(urn(KEY, "key"),))
    child = item(BUCKET, "child", parent=part.urn)
    assert names(item(KEY, "key"), part, child) == ["key", "child"]


def test_who_depends_on_a_component_waits_for_all_below_it() -> None:
    part = item("t:x:X", "x", kind="component")
    inner = item("t:x:Y", "y", kind="component", parent=part.urn)
    child = item(KEY, "child", parent=inner.urn)
    after = item(BUCKET, "after", dependencies=(part.urn,))
    path = deployment.critical_path(stack(part, inner, child, after), DURATIONS)
    assert [step.name for step in path.steps] == ["child", "after"]
    assert path.steps[1].because == "depends_on on x"


def test_what_is_inside_a_component_does_not_wait_for_itself() -> None:
    part = item("t:x:X", "x", kind="component")
    child = item(KEY, "child", parent=part.urn, dependencies=(part.urn, ROOT))
    assert names(part, child) == ["child"]


def test_objects_wait_for_the_cluster_behind_their_provider() -> None:
    cluster = item("eks:index:Cluster", "c")
    provider = item("pulumi:providers:kubernetes", "p", kind="provider", dependencies=(cluster.urn,))
    thing = item("kubernetes:core/v1:Namespace", "n", provider=provider.urn)
    path = deployment.critical_path(stack(cluster, provider, thing), DURATIONS)
    assert [step.name for step in path.steps] == ["c", "n"]
    assert path.steps[1].because == "depends_on, its provider"


def test_what_the_program_does_not_wait_for_is_quick() -> None:
    kind = "kubernetes:apps/v1:Deployment"
    waits = item(kind, "d")
    skips = item(kind, "d", {"metadata": {"annotations": {"pulumi.com/skipAwait": "true"}}})
    assert deployment.duration(skips, DURATIONS) < deployment.duration(waits, DURATIONS)
    assert deployment.duration(replace(waits, read=True), DURATIONS) == 0


def test_the_table_knows_unknown_types_by_their_package() -> None:
    assert DURATIONS.of("aws:new/thing:Thing") == DURATIONS.default["aws:"]
    assert DURATIONS.of("other:new:Thing") == DURATIONS.default[""]
    assert all(DURATIONS.sources.values())
