"""The Deployment controller's decisions, as pure functions of what is wanted and what is there."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a Deployment's spec asks for, with its bounds as numbers of pods."""

    replicas: int
    revision: str
    max_surge: int = 1
    max_unavailable: int = 0
    recreate: bool = False
    progress_deadline_s: float = 600
    min_ready_s: float = 0


@dataclass(frozen=True, kw_only=True)
class PodView:
    """What the controller knows of a pod. `created` orders pods; any clock does."""

    name: str
    revision: str
    ready: bool = False
    available: bool = False
    terminating: bool = False
    created: float = 0


@dataclass(frozen=True)
class Plan:
    """Pods of the wanted revision to start, and pods to stop, now."""

    start: int = 0
    stop: tuple[str, ...] = ()


def revision_of(template: Mapping[str, Any]) -> str:
    """The name of a pod template: ten characters of its hash."""
    canonical = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def wanted(spec: Mapping[str, Any]) -> Wanted:
    """Read a Deployment's spec, with Kubernetes' defaults."""
    replicas = int(spec.get("replicas", 1))
    strategy = spec.get("strategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    surge = _pods(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = _pods(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if surge == 0 and unavailable == 0:
        # Percentages may both round to nothing; Kubernetes then gives up one pod rather than stand still.
        unavailable = 1
    return Wanted(
        replicas=replicas,
        revision=revision_of(spec["template"]),
        max_surge=surge,
        max_unavailable=min(unavailable, replicas),
        recreate=strategy.get("type") == "Recreate",
        progress_deadline_s=float(spec.get("progressDeadlineSeconds", 600)),
        min_ready_s=float(spec.get("minReadySeconds", 0)),
    )


def _pods(value: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * replicas / 100
        return math.ceil(share) if up else math.floor(share)
    return int(value)


def plan(want: Wanted, pods: Sequence[PodView]) -> Plan:
    """The next step towards `want`.

    Never more than replicas + max_surge pods (those that terminate not counted), and no pod is stopped that
    would leave fewer than replicas - max_unavailable available.
    """
    live = [pod for pod in pods if not pod.terminating]
    new = [pod for pod in live if pod.revision == want.revision]
    old = [pod for pod in live if pod.revision != want.revision]
    if len(new) > want.replicas:
        return Plan(stop=_names(_least_useful(new)[: len(new) - want.replicas]))
    if want.recreate:
        if any(pod.revision != want.revision for pod in pods):
            return Plan(stop=_names(old))
        return Plan(start=want.replicas - len(new))
    start = min(want.replicas - len(new), want.replicas + want.max_surge - len(live))
    if start > 0:
        return Plan(start=start)
    return Plan(stop=_names(_surplus(want, new, old)))


def _surplus(want: Wanted, new: Sequence[PodView], old: Sequence[PodView]) -> list[PodView]:
    """Old pods that may stop now: those that serve nobody first, as far as new ones are not awaited."""
    min_available = want.replicas - want.max_unavailable
    awaited = sum(not pod.available for pod in new)
    budget = len(new) + len(old) - min_available - awaited
    unhealthy = [pod for pod in _least_useful(old) if not pod.available][: max(budget, 0)]
    healthy = [pod for pod in _least_useful(old) if pod.available]
    available = sum(pod.available for pod in new) + len(healthy)
    return unhealthy + healthy[: max(available - min_available, 0)]


def _least_useful(pods: Sequence[PodView]) -> list[PodView]:
    return sorted(pods, key=lambda pod: (pod.available, pod.ready, -pod.created))


def _names(pods: Sequence[PodView]) -> tuple[str, ...]:
    return tuple(pod.name for pod in pods)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A Deployment's pods by what they are; those that terminate are not counted."""

    replicas: int
    updated: int
    ready: int
    available: int

    @property
    def old(self) -> int:
        """Pods of earlier revisions."""
        return self.replicas - self.updated


def count(want: Wanted, pods: Sequence[PodView]) -> Counts:
    """Count the live pods."""
    live = [pod for pod in pods if not pod.terminating]
    return Counts(
        replicas=len(live),
        updated=sum(pod.revision == want.revision for pod in live),
        ready=sum(pod.ready for pod in live),
        available=sum(pod.available for pod in live),
    )


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How a rollout goes: to which revision, since when nothing moved, and how it ended, if it did."""

    revision: str
    counts: Counts
    since: float
    complete: bool = False
    timed_out: bool = False


def advance(previous: Progress | None, want: Wanted, counts: Counts, now: float) -> Progress:
    """Progress as Kubernetes sees it: more new, ready or available pods, or fewer old ones.

    A finished rollout stays finished until the template changes; one that stood still for longer than the
    deadline has timed out until it moves again.
    """
    if previous is None or previous.revision != want.revision:
        return Progress(revision=want.revision, counts=counts, since=now)
    done = counts.updated == counts.replicas == want.replicas and counts.available >= want.replicas
    if previous.complete or done:
        return Progress(revision=want.revision, counts=counts, since=previous.since, complete=True)
    before = previous.counts
    moved = (
        counts.updated > before.updated
        or counts.old < before.old
        or counts.ready > before.ready
        or counts.available > before.available
    )
    since = now if moved else previous.since
    timed_out = not moved and (previous.timed_out or now - since > want.progress_deadline_s)
    return Progress(revision=want.revision, counts=counts, since=since, timed_out=timed_out)
