"""`python -m local up`: the whole system on this machine, until Ctrl-C."""

from __future__ import annotations

import json
import shlex
import time
import urllib.request
from typing import TYPE_CHECKING

from local import flights

if TYPE_CHECKING:
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


def stay(session: LocalSession) -> None:
    """Stay until a signal or the death of an emulator raises."""
    while True:
        session.check()
        time.sleep(_WATCH_S)


def usage(session: LocalSession) -> list[str]:
    """Where things are, and commands that work."""
    lines = ["", f"AWS       {session.aws_endpoint}", f"cluster   {session.cluster.endpoint}"]
    for model, facts in session.models.items():
        url = session.service_url(model)
        lines += [
            f"model     {model} at {url}",
            f"data      {facts['incoming']}",
            "",
            "Ask for a prediction (503 until a first model is released):",
            f"  {curl(model, url)}",
        ]
    lines += [
        "",
        "New data: `python -m local data --months 4 --upload`.  The end: Ctrl-C, or `python -m local down`.",
    ]
    return lines


def curl(model: str, url: str) -> str:
    """A command that asks the model for a prediction; for models other than the demo's, for its state."""
    if model != "flights":
        return f"curl -i {url}/ping"
    body = json.dumps({"instances": [EXAMPLE]}, separators=(",", ":"))
    return f"curl -s {url}/invocations -H 'Content-Type: application/json' -d {shlex.quote(body)}"


EXAMPLE: dict[str, str | float] = {
    "carrier": "UA",
    "origin": "EWR",
    "dest": "SFO",
    "time_hour": "2013-04-12 18:00:00",
    "distance": 2565,
    "dep_delay": 20,
}
"""One flight, from what is known when it departs."""
assert set(EXAMPLE) == set(flights.COLUMNS) - {flights.TARGET}  # noqa: S101  # one example for one schema


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
