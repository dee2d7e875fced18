"""Lambda entry point: one step of a release per call."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from common.services import Services, services
from release_model import bundle_steps, publish, rollout, settle
from release_model.claim import claim, plan
from release_model.record import Done, Handle, Record, open_record

logger = Logger()

# What is done once, and then only answered from the record.
STEPS: dict[str, Callable[[Record], Done]] = {
    "verify": bundle_steps.verify,
    "gate": bundle_steps.gate,
    "image": publish.image,
    "register": publish.register,
    "rollout": rollout.rollout,
    "watch": rollout.watch,
    "promote": rollout.promote,
    "watch_rollback": rollout.watch_rollback,
    "refuse": settle.refuse,
}


@logger.inject_lambda_context(clear_state=True)
def handle(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Do one step; an exception's class name tells the state machine whether to try again."""
    return run(services(), event)


def run(outside: Services, event: dict[str, Any]) -> dict[str, Any]:
    """Do one step of the state machine with these adapters."""
    step = str(event.get("step"))
    logger.append_keys(step=step)
    if step == "plan":
        owner = f"{event['execution']}@{event['started']}"
        releases = plan(outside, event["event"], owner)
        logger.info("planned", extra={"releases": [release["job"] for release in releases]})
        return {"releases": releases}
    who = Handle.parse(event["release"])
    logger.append_keys(model=who.model, job=who.job)
    if step == "claim":
        result = claim(outside, who)
    elif step == "finish":
        result = settle.finish(outside, who, _error(event))
    else:
        result = _once(outside, who, step, event)
    logger.info("done", extra={"result": result})
    return result


def _once(outside: Services, who: Handle, step: str, event: dict[str, Any]) -> dict[str, Any]:
    """Do a step unless it is done; a step that says `wait` is never done."""
    if step != "rollback" and step not in STEPS:
        raise ValueError(f"unknown step {step!r:.40}")
    record = open_record(outside, who)
    following = record.following(step)
    if following is None:
        done = rollout.rollback(record, _error(event)) if step == "rollback" else STEPS[step](record)
        following = done.next
        if following == "wait":
            return {"next": following, "seconds": rollout.pause(record, step)}
        record.complete(step, done)
    return {"next": following}


def _error(event: dict[str, Any]) -> str | None:
    """Return a caught error as one line: its name and message, without the stack trace."""
    error = event.get("error")
    if not error:
        return None
    cause = str(error.get("Cause", ""))
    with suppress(ValueError, KeyError, TypeError):
        cause = str(json.loads(cause)["errorMessage"])
    return " ".join(f"{error.get('Error', 'error')}: {cause}".split())[:500]
