"""`python -m local up`: the whole system on this machine, until Ctrl-C."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local import activity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.console import Steps
    from local.session import LocalSession

_WATCH_S = 1.0
_DECLARED_SHOWN = 12


def bring_up(session: LocalSession, steps: Steps, *, wait: bool) -> None:
    """Bring the session up, say what came of it and how to use it.

    Raises:
        LocalError: it did not come up, or the first model was not released.
    """
    session.bring_up(steps)
    counts = session.program.counts()
    steps.note(
        f"{counts['declared']} resources in {counts['components']} components: {counts['local']} run on this "
        f"machine, {counts['declared_only']} are declared only"
    )
    steps.note(f"declared only: {_declared_only(session)}")
    for message in session.program.messages:
        steps.note(f"the program says: {message}")
    if wait:
        for model in session.models:
            steps.step(f"Wait for the first release of {model}")
            session.wait_for_model(model, steps)
    steps.close()
    for line in usage(session):
        steps.console.print(line, markup=False)


def stay(session: LocalSession, steps: Steps) -> None:
    """Say what happens to the models, until a signal or the death of an emulator raises."""
    happening = activity.Activity(session)
    happening.new()  # `bring_up` has told it
    silent = {model for model in session.models if not served_version(session.service_url(model))}
    while True:
        session.check()
        for line in happening.new():
            steps.console.print(f"{time.strftime('%H:%M:%S')}  {line}", markup=False)
        for model in sorted(silent):
            if row := _example(session, model):
                silent.remove(model)
                steps.console.print(f"\n  {curl(session.service_url(model), row)}\n", markup=False)
        time.sleep(_WATCH_S)


def usage(session: LocalSession) -> list[str]:
    """Where things are, and commands that work."""
    lines = ["", f"AWS       {session.aws_endpoint}", f"cluster   {session.cluster.endpoint}"]
    for model, facts in session.models.items():
        url = session.service_url(model)
        lines += ["", f"Model {model}", f"  answers at   {url}", f"  takes data   {facts['incoming']}"]
        row = _example(session, model)
        lines += [f"  {curl(url, row)}"] if row else ["  answers 503 until its first model is released"]
    local = _local_command()
    lines += ["", "New data, from another shell; what comes of it is told here:"]
    if "flights" in session.models:
        lines.append(f"  {local} data --months 4 --upload")
    lines += [f"  {local} upload FILE --model {next(iter(session.models))}"] if session.models else []
    return [*lines, "", f"The end: Ctrl-C, or `{local} down`.", ""]


def _example(session: LocalSession, model: str) -> dict[str, Any] | None:
    return activity.example(session, model) if served_version(session.service_url(model)) else None


def curl(url: str, row: Mapping[str, Any]) -> str:
    """A command that asks the model at `url` for a prediction."""
    body = json.dumps({"instances": [row]}, separators=(",", ":"), ensure_ascii=False)
    return f"curl -s {url}/invocations -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def _local_command() -> str:
    """How this command is called from where the user is: with the interpreter that has what it needs."""
    python, here = sys.executable, str(Path.cwd())
    if python.startswith(here + os.sep):
        python = os.path.relpath(python, here)
    return f"{shlex.quote(python)} -m local"


def served_version(url: str) -> str | None:
    """The version that answers now, as it says itself; None if none does."""
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=2) as answer:  # noqa: S310  # our own Service
            return answer.headers.get("X-Model-Version")
    except OSError:
        return None


def _declared_only(session: LocalSession) -> str:
    names: list[str] = []
    for kind, (declared, local) in session.program.by_type().items():
        if local < declared:
            short = kind.rpartition(":")[2]
            names.append(f"{declared - local} {short}")
    more = len(names) - _DECLARED_SHOWN
    return ", ".join(names[:_DECLARED_SHOWN]) + (f" and {more} more types" if more > 0 else "")
