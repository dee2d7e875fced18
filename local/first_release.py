"""Waits for a model's first release and says what happens meanwhile."""

from __future__ import annotations

import time
import urllib.request
from typing import TYPE_CHECKING

from local.errors import LocalError

if TYPE_CHECKING:
    from local.session import LocalSession, Progress

_POLL_S = 0.25


def wait(session: LocalSession, model: str, progress: Progress, *, timeout_s: float) -> None:
    """Return once the Service answers /ping with 200; at once if the program trains no first model.

    Raises:
        LocalError: training or release failed, or nothing was released within `timeout_s`.
    """
    url = f"{session.service_url(model)}/ping"
    if not _jobs(session, model):
        progress.note(f"the stack names no bootstrapData for {model}: the first upload will train it")
        return
    deadline = time.monotonic() + timeout_s
    said: set[str] = set()
    while not answers(url):
        session.check()
        for line, failed in _jobs(session, model):
            if failed:
                raise LocalError(line)
            if line not in said:
                said.add(line)
                progress.note(line)
        if reason := _not_released(session, model):
            raise LocalError(f"the first release of {model} ended as {reason}")
        if time.monotonic() > deadline:
            raise LocalError(f"no model {model!r} was released within {timeout_s:.0f} s")
        time.sleep(_POLL_S)


def answers(url: str) -> bool:
    """True if a GET of `url` is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # our own Service
            return answer.status == 200
    except OSError:
        return False


def _not_released(session: LocalSession, model: str) -> str | None:
    """Outcome and reason of a release that ended otherwise than it should; None if there is none."""
    answer = session.client("dynamodb").query(
        TableName=session.program.outputs["stateTable"],
        KeyConditionExpression="model = :model AND begins_with(#record, :prefix)",
        ExpressionAttributeNames={"#record": "record"},
        ExpressionAttributeValues={":model": {"S": model}, ":prefix": {"S": "release#"}},
    )
    for item in answer["Items"]:
        outcome = item.get("outcome", {}).get("S", "released")
        if outcome != "released":
            return f"{outcome}: {item.get('reason', {}).get('S', 'no reason recorded')}"
    return None


def _jobs(session: LocalSession, model: str) -> list[tuple[str, bool]]:
    """One line per training job of the model, and whether it failed."""
    client = session.client("sagemaker")
    names = f"ts-{session.options.stack}--{model}-"
    found: list[tuple[str, bool]] = []
    for summary in client.list_training_jobs(NameContains=names)["TrainingJobSummaries"]:
        name, status = summary["TrainingJobName"], summary["TrainingJobStatus"]
        if status == "Failed":
            reason = client.describe_training_job(TrainingJobName=name).get(
                "FailureReason", "no reason given"
            )
            found.append((f"training job {name} failed: {reason}", True))
        else:
            found.append((f"training job {name}: {status}", False))
    return found
