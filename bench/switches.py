"""What capture, logs and traces cost: our server with everything switched on against the same without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import targets

if TYPE_CHECKING:
    from bench.runner import Runner


def measure(runner: Runner) -> None:
    """Measure the pair, if the server has the switches."""
    directory = runner.place.work / "capture"
    on = settings(runner.settings, str(directory))
    if on is None:
        runner.leave_out(targets.ON, "the server has no capture yet")
        return
    directory.mkdir()
    runner.switches(on)


def settings(known: frozenset[str], directory: str) -> dict[str, object] | None:
    """Return the settings that switch everything on; None when there is no capture."""
    wanted: dict[str, object] = {
        "capture_to": directory,
        "capture_percentage": 100,
        "log_requests": "on",
    }
    found = {key: value for key, value in wanted.items() if key in known}
    return found if "capture_to" in found else None
