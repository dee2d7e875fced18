"""Makes a report of what a told story found."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING

from local import samples
from local.cluster import NOT_ENFORCED
from local.errors import LocalError
from local.looks import at, pieces, rollout_of
from local.report import Release, Report, Resource, Traffic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.session import LocalSession
    from local.story import Story, Trained

SIMULATED: tuple[tuple[str, str], ...] = (
    (
        "AWS APIs",
        "moto in one process: events, queues, state machines and tables follow the program's wiring.",
    ),
    (
        "IAM, KMS",
        "Roles, policies and keys exist and can be read; AWS calls are neither refused nor encrypted.",
    ),
    ("Lambda", "The real handlers from the deployed archives, in processes, with this machine's Python."),
    (
        "SageMaker",
        "The real training script with the job's channels and settings; no container, no spot market.",
    ),
    (
        "CodeBuild",
        "An image of the sources that the Dockerfile copies, no system; pods run in an environment here.",
    ),
    ("ECR", "An OCI registry that stores and serves real layers by digest; no scanning, no lifecycle rules."),
    ("EKS", "The Kubernetes calls that are made here, with authentication and RBAC; pods are processes."),
    ("Load balancer", "One local port in front of the ready pods; no ALB, no TLS towards clients."),
    ("Without effect on pods", ", ".join(text.partition(":")[0] for text in NOT_ENFORCED)),
    *(("", text) for text in NOT_ENFORCED),
)
_ERRORS_SHOWN = 10
_DEPENDENCIES = ("pulumi", "moto", "xgboost-cpu")


def build(session: LocalSession, story: Story, started: float, problems: Sequence[str]) -> Report:
    """The report of a story, whole or broken off."""
    options = session.options
    traffic = _traffic(story)
    found = list(problems)
    if traffic and traffic.total.failed:
        found.append(f"{traffic.total.failed:,} of {traffic.total.requests:,} requests failed")
    return Report(
        stack=options.stack,
        model=story.model,
        started=started,
        ended=time.time(),
        steps=story.steps,
        resources=_resources(session),
        releases=[_release(trained) for trained in story.trained],
        refusals=story.refusals,
        traffic=traffic,
        problems=found,
        simulated=SIMULATED,
        facts=_facts(),
    )


def _traffic(story: Story) -> Traffic | None:
    load = story.load
    if load is None or not load.samples:
        return None
    seen = sorted(load.samples, key=lambda sample: sample.due)
    rollouts = [
        rollout
        for trained in story.trained
        if trained.uploaded is not None and (rollout := rollout_of(trained.record))
    ]
    errors = Counter(sample.error for sample in seen if sample.error)
    return Traffic(
        rate=load.rate,
        total=samples.percentiles(seen),
        phases=samples.by_phase(seen, rollouts),
        buckets=samples.buckets(seen),
        errors=dict(errors.most_common(_ERRORS_SHOWN)),
    )


def _resources(session: LocalSession) -> list[Resource]:
    try:
        declared = session.program.resources
    except LocalError:
        return []
    return [
        Resource(
            urn=resource.urn,
            type=resource.type,
            name=resource.name,
            parent=resource.parent,
            component=resource.is_component,
            local=resource.realised,
        )
        for resource in declared
        if not resource.is_provider
    ]


def _release(trained: Trained) -> Release:
    record = trained.record
    bundle = record.get("bundle") or {}
    return Release(
        number=int(record["number"]),
        title=trained.title,
        outcome=str(record.get("outcome", "not ended")),
        served=record.get("outcome") == "released",
        reason=str(record.get("reason", "")),
        version=str(bundle.get("version", "")),
        job=trained.job,
        digest=str(pieces(record, "image", "digest") or ""),
        bundle_digest=str(bundle.get("digest", "")),
        package=str(pieces(record, "package", "arn") or ""),
        challenger=pieces(bundle, "metrics", "challenger") or {},
        champion=pieces(bundle, "metrics", "champion"),
        primary_metric=str(pieces(bundle, "primary_metric", "name") or ""),
        greater_is_better=bool(pieces(bundle, "primary_metric", "greater_is_better")),
        rows=bundle.get("rows"),
        uploaded=trained.uploaded,
        training=trained.training,
        decided=at(record, "gate"),
        rollout=rollout_of(record),
        first_prediction=trained.first_prediction,
    )


def _facts() -> dict[str, str]:
    found = {"Python": platform.python_version(), "processors": str(os.cpu_count())}
    return found | {name: version(name) for name in _DEPENDENCIES}
