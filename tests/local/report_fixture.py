"""A report with the numbers of a plausible run, for tests of what is drawn and printed."""

from __future__ import annotations

import math
import random
from itertools import pairwise

from local.report import Refusal, Release, Report, Resource, Step, Traffic
from local.samples import Sample, buckets, by_phase, percentiles

START = 1_790_000_000.0
TITLES = (
    "Bring up the program's resources",
    "Train and release the first model",
    "Start live traffic",
    "New data: April's flights",
    "A malformed upload",
    "The next good upload: May's flights",
    "Stop traffic and report",
)
SWITCHES = (0.0, 30.0, 55.0, 70.0)


def traffic(rate: float = 250.0) -> Traffic:
    """Traffic from second 18 to 70 that sees two rollouts, and no failure."""
    dice = random.Random(7)  # noqa: S311
    samples: list[Sample] = []
    for index in range(int((70 - 18) * rate)):
        at = 18 + index / rate
        model = next(i for i, (low, high) in enumerate(pairwise(SWITCHES)) if low <= at < high)
        busy = 22 < at < 29 or 44 < at < 54
        samples.append(
            Sample(
                due=START + at,
                waited_ms=dice.expovariate(4),
                service_ms=1.6 * math.exp(dice.gauss(0, 0.35)) * (2.2 if busy else 1),
                status=200,
                version=f"ts-dev--flights-{model}",
                error="",
            )
        )
    rollouts = [(START + 28.0, START + 31.5), (START + 53.0, START + 56.5)]
    return Traffic(
        rate=rate, total=percentiles(samples), phases=by_phase(samples, rollouts), buckets=buckets(samples)
    )


def releases() -> list[Release]:
    """Three releases: the first by bootstrap, two by uploads."""
    titles = ("January-March", "April", "May")
    trained = ((6.0, 12.0), (21.5, 27.0), (44.0, 52.0))
    uploads = (None, START + 20.5, START + 43.0)
    found: list[Release] = []
    for index, (title, (low, high)) in enumerate(zip(titles, trained, strict=True)):
        metrics = {
            "auc": 0.9131 + index / 500,
            "logloss": 0.2712 - index / 300,
            "accuracy": 0.901 + index / 700,
        }
        champion = {"auc": 0.9102, "logloss": 0.2799, "accuracy": 0.8993} if index else None
        found.append(
            Release(
                number=index + 1,
                title=title,
                outcome="released",
                served=True,
                version=f"ts-dev--flights-{index}",
                job=f"ts-dev--flights-{index}a2b3c4d-{index}",
                digest="sha256:" + f"{index}f" * 32,
                bundle_digest="sha256:" + f"{index}e" * 32,
                package=f"arn:aws:sagemaker:us-east-1:123456789012:model-package/flights/{index + 1}",
                challenger=metrics,
                champion=champion,
                primary_metric="auc",
                rows=77_911 + 27_000 * index,
                uploaded=uploads[index],
                training=(START + low, START + high),
                rollout=(START + high + 1.0, START + high + 4.5),
                first_prediction=START + high + 2.8,
            )
        )
    return found


def resources() -> list[Resource]:
    """A small tree."""
    root = "urn:pulumi:dev::trainserve::pulumi:pulumi:Stack::trainserve-dev"
    found = [
        Resource(
            urn=root,
            type="pulumi:pulumi:Stack",
            name="trainserve-dev",
            parent=None,
            component=True,
            local=False,
        )
    ]
    parts = {
        "storage": [
            ("aws:s3/bucket:Bucket", "data", True),
            ("aws:s3/bucket:Bucket", "artifacts", True),
            ("aws:kms/key:Key", "key", True),
        ],
        "network": [
            ("aws:ec2/vpc:Vpc", "vpc", False),
            *[("aws:ec2/subnet:Subnet", f"private-{i}", False) for i in range(3)],
        ],
        "retraining": [
            ("aws:sqs/queue:Queue", "uploads", True),
            ("aws:lambda/function:Function", "start-training", True),
        ],
        "workload": [
            ("kubernetes:apps/v1:Deployment", "flights", True),
            ("kubernetes:core/v1:Service", "flights", True),
            ("kubernetes:policy/v1:PodDisruptionBudget", "flights", False),
        ],
    }
    for part, members in parts.items():
        urn = f"{root}$trainserve:{part}::{part}"
        found.append(
            Resource(
                urn=urn,
                type=f"trainserve:{part}:{part.title()}",
                name=part,
                parent=root,
                component=True,
                local=False,
            )
        )
        found += [
            Resource(
                urn=f"{urn}${kind}::{name}",
                type=kind,
                name=f"{part}-{name}",
                parent=urn,
                component=False,
                local=here,
            )
            for kind, name, here in members
        ]
    return found


def report() -> Report:
    """The whole run."""
    ends = (5.0, 18.0, 20.0, 32.0, 43.0, 57.5, 71.0)
    starts = (0.0, *ends[:-1])
    steps = [
        Step(
            number=i + 1,
            title=title,
            outcome="done",
            started=START + a,
            ended=START + b,
            found=(f"seen {i}",),
        )
        for i, (title, a, b) in enumerate(zip(TITLES, starts, ends, strict=True))
    ]
    reason = "2013-04-malformed.csv: column dep_delay is missing"
    refusal = Refusal(
        upload="2013-04-malformed.csv",
        job="ts-dev--flights-99aabbcc-1",
        reason=reason,
        uploaded=START + 33,
        training=(START + 34.5, START + 36.5),
    )
    return Report(
        stack="dev",
        model="flights",
        started=START,
        ended=START + 71,
        steps=steps,
        resources=resources(),
        releases=releases(),
        refusals=[refusal],
        traffic=traffic(),
        simulated=[
            (
                "SageMaker training",
                "the real training script in a process of its own; no container, no spot market",
            ),
            (
                "EKS nodes",
                "processes; CPU and memory limits, NetworkPolicy and security contexts are not enforced",
            ),
        ],
        facts={"python": "3.11.7", "cores": "2"},
    )
