"""What capture, logs and traces cost: our server with everything switched on against the same without."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from bench import candidates, collector, formats, targets
from bench.processes import Served, StartError

if TYPE_CHECKING:
    from pathlib import Path

    from bench.runner import Runner

_SECONDS: Final = 1
_WANTED: Final = ("capture_to", "log_requests")


def measure(runner: Runner) -> None:
    """Measure the pair in turn, and see that what was switched on did something; metrics are always on.

    Both run all the time, one idle, and take turns every second: on a machine that others use, a measurement
    says little beside another that was made half a minute later.
    """
    missing = [name for name in _WANTED if name not in runner.settings]
    if missing:
        runner.leave_out(targets.ON, f"the server has no setting {', '.join(missing)}")
        return
    place = runner.place.work
    captured = place / "capture"
    captured.mkdir()
    try:
        with Served(collector.launch(candidates.ROOT), place / "collector.log", runner.cores.load) as traces:
            _rounds(runner, captured, traces)
    except StartError as error:
        runner.leave_out(targets.ON, str(error))


def _rounds(runner: Runner, captured: Path, traces: Served) -> None:
    on: dict[str, object] = {"capture_to": captured, "capture_percentage": 100, "log_requests": "on"}
    # The server's own share of requests: the sampler's default.
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{traces.port}"}
    runner.book.switches = {**{key: str(value) for key, value in on.items()}, **environment}
    chosen = {"predictor": "fast"} if len(runner.ours) > 1 else {}
    both = [
        candidates.ours(targets.OFF, log_requests="off", **chosen),
        candidates.ours(targets.ON, environment, **chosen, **on),
    ]
    with ExitStack() as stack:
        pair = [(each.name, stack.enter_context(runner.start(each, runner.cores.load))) for each in both]
        for _, served in pair:
            runner.warm(served, formats.CSV, 1)
        for number in range(runner.plan.switch_rounds):
            # Who comes second meets what the first left behind: each comes first in turn.
            for name, served in pair if number % 2 else reversed(pair):
                runner.measure(name, served, formats.CSV, 1, number=number, seconds=_SECONDS)
        for name, served in pair:
            runner.book.rss_mib[name].append(served.memory_mib())
    logged = pair[1][1].lines(b'"event":"request"')
    idle = {
        "captured": not any(path.stat().st_size for path in captured.rglob("*") if path.is_file()),
        "logged": not logged,
        "traced": traces.ask("GET", "/")[1] == b"0",
    }
    for what in [name for name, nothing in idle.items() if nothing]:
        runner.leave_out(targets.ON, f"nothing was {what}, so the figure would say nothing")
        runner.book.forget(targets.ON)
