"""`python -m local demo`: the story, its summary and its report."""

from __future__ import annotations

import json
import shutil
import time
import traceback
from typing import TYPE_CHECKING

from rich.console import Console

from local import findings, flights, report, summary
from local.console import Steps
from local.errors import ChildError, LocalError
from local.signals import ignore_deaths
from local.story import BOOTSTRAP_MONTHS, DemoOptions, Story, data_folder

if TYPE_CHECKING:
    from pathlib import Path

    from local.session import LocalSession

__all__ = ["DemoOptions", "run", "settings"]

_DEATH_NOTICED_S, _LOG_WIDTH = 1.0, 120


def settings(project: Path) -> dict[str, str]:
    """What the demo sets differently from the stack file: all flights of the first months, not samples.

    Writes these files.

    Raises:
        LocalError: the flights are not installed.
    """
    try:
        files = flights.write_months(data_folder(project), BOOTSTRAP_MONTHS)
    except flights.FlightsMissingError as error:
        raise LocalError(str(error)) from error
    names = [str(file.resolve()) for file in files]
    return {"training.bootstrapData.flights": json.dumps(names)}


def run(session: LocalSession, options: DemoOptions) -> int:
    """Tell the story, whatever comes of it write the report; 0 if all of it happened, else 1."""
    console, started = Steps(_console()), time.time()
    story = Story(session, console, options)
    problems: list[str] = []
    try:
        try:
            story.tell()
        except Exception as error:  # noqa: BLE001  # whatever it was, the report says so
            ignore_deaths()
            problems.append(_explain(session, story, error))
        ignore_deaths()
        if story.load is not None:
            story.load.stop()
    except BaseException:
        console.close(done=False)
        if story.load is not None:
            story.load.kill()
        raise
    folder = session.options.project / "reports" / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    found = findings.build(session, story, started, problems)
    _, html = report.write(found, folder)
    summary.show(console.console, found, html)
    if not found.ok and _keep_logs(session, folder / "logs"):
        console.console.print(f"Logs:   {(folder / 'logs').resolve().as_uri()}", markup=False)
    return 0 if found.ok else 1


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    # Rich takes 80 columns where nobody looks on; logs have room for whole tables.
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=_LOG_WIDTH)


def _explain(session: LocalSession, story: Story, error: Exception) -> str:
    """What went wrong, in a line or two; an emulator's death explains whatever came of it."""
    step = next((step.title for step in story.steps if step.outcome == "failed"), "the demo")
    if not isinstance(error, LocalError):
        time.sleep(_DEATH_NOTICED_S)
        try:
            session.check()
        except ChildError as death:
            error = death
        except LocalError:
            pass
    if isinstance(error, LocalError):
        return f"{step}: {error}"
    traceback.print_exception(error)
    return f"{step}: {type(error).__name__}: {error}"


def _keep_logs(session: LocalSession, folder: Path) -> bool:
    """Copy the processes' logs to where they outlive the session; False if there are none."""
    try:
        logs = list(session.run_dir.glob("*.log"))
    except LocalError:
        return False
    for log in logs:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(log, folder / log.name)
    return bool(logs)
