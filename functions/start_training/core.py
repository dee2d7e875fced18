"""Decisions about trainings, and the request that starts one. Pure."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from common.settings import ModelConfig

# How long after its end a job without a recorded outcome may still be about to be released.
GRACE_S = 900
RUNNING = frozenset({"InProgress", "Stopping"})


@dataclass(frozen=True)
class Job:
    """A training job as SageMaker lists it; `ended` in seconds since the epoch."""

    name: str
    status: str
    ended: float


@dataclass(frozen=True)
class Start:
    """Train, as the attempt of this number (part of the job's name), after so many failures."""

    attempt: int
    failures: int = 0


@dataclass(frozen=True)
class Skip:
    """Do not train; `failed` where no attempt is left."""

    reason: str
    failed: bool = False


def in_flight(jobs: Iterable[Job], has_outcome: Callable[[str], bool], now: float) -> str | None:
    """Return the name of a job that runs, or has just ended and is about to be released."""
    for job in jobs:
        if job.status in RUNNING or (now - job.ended < GRACE_S and not has_outcome(job.name)):
            return job.name
    return None


def decide(record: Mapping[str, Any], status: str | None, max_attempts: int) -> Start | Skip:
    """Decide about a data set from its record (empty: a new one) and its last job's status (None: no job)."""
    state = record.get("state")
    attempt, failures = int(record.get("attempt", 0)), int(record.get("failures", 0))
    if state is None:
        return Start(1)
    if state == "training":
        # A crash between the record and the job leaves no job: the same attempt again.
        if status is None:
            return Start(attempt, failures)
        if status in RUNNING:
            return Skip("its job is in progress")
        # The job ended and nobody released it.
        failures += 1
    elif state != "retry":
        return Skip(f"its training ended: {state}")
    if failures >= max_attempts:
        return Skip(f"all {max_attempts} attempts failed", failed=True)
    return Start(attempt + 1, failures)


def job_request(
    config: ModelConfig,
    name: str,
    lineage: Mapping[str, str],
    *,
    train_uri: str,
    champion_uri: str | None,
) -> dict[str, Any]:
    """Return the create_training_job request: the template with this data set's channels and lineage."""
    # The template is shared by all jobs of this process: never write into it.
    request: dict[str, Any] = json.loads(json.dumps(config.training_job))
    request["TrainingJobName"] = name
    request.setdefault("HyperParameters", {}).update(lineage)
    request["InputDataConfig"] = [_channel("train", "ManifestFile", train_uri, config.content_type)]
    if champion_uri:
        request["InputDataConfig"].append(_channel("champion", "S3Prefix", champion_uri, None))
    checkpoints = request.get("CheckpointConfig")
    if checkpoints:
        # A checkpoint of another job would be taken for this one's.
        checkpoints["S3Uri"] = f"{checkpoints['S3Uri'].rstrip('/')}/{name}"
    return request


def _channel(name: str, kind: str, uri: str, content_type: str | None) -> dict[str, Any]:
    channel: dict[str, Any] = {
        "ChannelName": name,
        "InputMode": "File",
        "DataSource": {
            "S3DataSource": {"S3DataType": kind, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
        },
    }
    return channel | ({"ContentType": content_type} if content_type else {})
