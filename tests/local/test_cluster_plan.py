"""The Deployment controller's decisions: bounds that always hold, and rollouts that always end."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.cluster.rollout import Counts, PodView, Progress, Wanted, advance, count, plan, wanted

if TYPE_CHECKING:
    import random

NAMES = itertools.count()
PODS = st.builds(
    PodView,
    name=st.uuids().map(str),
    revision=st.sampled_from(["old", "older", "new"]),
    ready=st.booleans(),
    available=st.booleans(),
    terminating=st.booleans(),
    created=st.integers(0, 9),
)


@st.composite
def wishes(draw: st.DrawFn) -> Wanted:
    replicas = draw(st.integers(0, 5))
    unavailable = draw(st.integers(0, replicas))
    surge = draw(st.integers(0 if unavailable else 1, 4))
    return Wanted(replicas=replicas, revision="new", max_surge=surge, max_unavailable=unavailable)


def available(pods: list[PodView]) -> int:
    return sum(pod.available for pod in pods if not pod.terminating)


def apply(want: Wanted, pods: list[PodView]) -> list[PodView]:
    step = plan(want, pods)
    stopped = [replace(pod, terminating=True) if pod.name in step.stop else pod for pod in pods]
    return stopped + [PodView(name=f"new-{next(NAMES)}", revision="new") for _ in range(step.start)]


@given(wishes(), st.lists(PODS, max_size=10))
def test_a_step_never_breaks_the_bounds(want: Wanted, pods: list[PodView]) -> None:
    after = apply(want, pods)
    floor = want.replicas - want.max_unavailable
    assert available(after) >= min(available(pods), floor)
    before_live = sum(not pod.terminating for pod in pods)
    after_live = sum(not pod.terminating for pod in after)
    assert after_live <= max(before_live, want.replicas + want.max_surge)


@given(wishes(), st.integers(0, 5), st.booleans(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_a_rollout_ends_when_new_pods_get_ready(
    want: Wanted, old: int, old_available: bool, chance: random.Random
) -> None:
    pods = [
        PodView(name=f"old-{number}", revision="old", ready=old_available, available=old_available)
        for number in range(old)
    ]
    floor = min(available(pods), want.replicas - want.max_unavailable)
    for _ in range(200):
        pods = apply(want, pods)
        assert available(pods) >= floor
        pods = [pod for pod in pods if not (pod.terminating and chance.random() < 0.5)]
        pods = [
            replace(pod, ready=True, available=True)
            if pod.revision == "new" and chance.random() < 0.3
            else pod
            for pod in pods
        ]
    live = [pod for pod in pods if not pod.terminating]
    assert [pod.revision for pod in live] == ["new"] * want.replicas


@given(wishes(), st.integers(1, 5))
def test_a_bad_revision_never_takes_the_old_pods_below_the_bound(want: Wanted, old: int) -> None:
    pods = [PodView(name=f"old-{n}", revision="old", ready=True, available=True) for n in range(old)]
    for _ in range(20):
        pods = [pod for pod in apply(want, pods) if not pod.terminating]
    assert available(pods) >= min(old, want.replicas - want.max_unavailable)


def test_pods_that_serve_nobody_go_first() -> None:
    want = Wanted(replicas=2, revision="new", max_surge=1, max_unavailable=0)
    pods = [
        PodView(name="serves", revision="old", ready=True, available=True),
        PodView(name="broken", revision="old"),
        PodView(name="fresh", revision="new", ready=True, available=True),
    ]
    assert plan(want, pods).stop == ("broken",)


def test_recreate_waits_until_the_old_ones_are_gone() -> None:
    want = Wanted(replicas=1, revision="new", recreate=True)
    old = PodView(name="old", revision="old", available=True)
    assert plan(want, [old]).stop == ("old",)
    assert plan(want, [replace(old, terminating=True)]).start == 0
    assert plan(want, []).start == 1


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (2, "25%", "25%", (1, 0)),
        (10, "25%", "25%", (3, 2)),
        (4, 2, 1, (2, 1)),
        (3, 0, "10%", (0, 1)),
        (1, "100%", 0, (1, 0)),
    ],
)
def test_bounds_are_numbers_or_percentages(
    replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]
) -> None:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    want = wanted({"replicas": replicas, "template": {}, "strategy": {"rollingUpdate": rolling}})
    assert (want.max_surge, want.max_unavailable) == expected


def test_progress_times_out_when_nothing_moves_and_recovers_when_it_does() -> None:
    want = Wanted(replicas=1, revision="new", progress_deadline_s=10)
    still = Counts(replicas=2, updated=1, ready=1, available=1)
    progress = advance(None, want, still, 0)
    assert not advance(progress, want, still, 10).timed_out
    late = advance(progress, want, still, 11)
    assert late.timed_out
    assert not advance(late, want, replace(still, ready=2), 12).timed_out
    assert not advance(late, replace(want, revision="newer"), still, 12).timed_out


def test_a_finished_rollout_never_times_out() -> None:
    want = Wanted(replicas=1, revision="new", progress_deadline_s=10)
    done = count(want, [PodView(name="a", revision="new", ready=True, available=True)])
    progress = advance(Progress(revision="new", counts=done, since=0), want, done, 1)
    assert progress.complete
    unready = replace(done, ready=0, available=0)
    assert advance(progress, want, unready, 100) == replace(progress, counts=unready)
