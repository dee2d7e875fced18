"""`python -m bench`: measure, then write report.md, report.html and bench.json."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.text import Text

from bench import candidates, environments, grpc_rounds, machine, report, switches, targets, wrk
from bench.candidates import Place
from bench.plan import FULL, QUICK, TINY, Plan
from bench.processes import StartError
from bench.runner import CheckError, Cores, Runner
from bench.sample import make

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.status import Status

REFUSALS = (CheckError, StartError, wrk.WrkError, environments.InstallError, machine.TooFewCoresError)
PLANS = {"full": FULL, "quick": QUICK, "tiny": TINY}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    chosen = _parse(arguments)
    console = Console(highlight=False, soft_wrap=True)
    # In the background of a script SIGINT would be ignored, and servers would outlive an impatient person.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    local = environments.ROOT / ".local" / "bench"
    local.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=local))
    try:
        return _run(console, chosen, work)
    except KeyboardInterrupt:
        console.print("\nstopped; nothing is left running")
        return 130
    except REFUSALS as error:
        console.print(f"bench: {error}", style="red", markup=False)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _stop(number: int, _frame: object) -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # the end itself is not interrupted
    raise KeyboardInterrupt(signal.Signals(number).name)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--plan", choices=PLANS, default="full", help="how thorough; full has the peers too")
    parser.add_argument("--out", type=Path, default=environments.ROOT / "reports" / "bench")
    return parser.parse_args(arguments)


def _run(console: Console, chosen: argparse.Namespace, work: Path) -> int:
    plan: Plan = PLANS[chosen.plan]
    wrk_path = shutil.which("wrk")
    if wrk_path is None:
        raise wrk.WrkError(wrk.MISSING)
    server, load = machine.cores()
    python = environments.serving_python()
    settings = candidates.server_settings(python)
    peers = candidates.peers() if plan.peer_rounds else []
    expected = plan.expected_s(len(candidates.all_ours(settings)), len(peers))
    facts = machine.facts() | {"server_core": server, "load_core": load, "plan": chosen.plan}
    console.print(
        f"{plan.rounds} rounds, server on core {server}, load on core {load}; "
        f"about {expected / 60:.0f} min, at most {plan.limit_s / 60:.0f}"
    )
    begun = time.monotonic()
    place = Place(work=work, serving_python=python, environments={}, sample=make(work / "bundle"))
    with _Progress(console) as progress:
        runner = Runner(
            place,
            plan,
            Cores(server=server, load=load),
            wrk_path,
            settings=settings,
            note=progress.note,
            live=progress.live,
        )
        _measure(runner, peers, work / "environments", progress.step)
    document = {
        "format": 1,
        "environment": facts,
        "seconds": round(time.monotonic() - begun),
        **runner.book.document(),
        **targets.document(runner.book),
    }
    report.write(chosen.out, document)
    console.print(report.headlines(document), markup=False)
    console.print(f"wrote {chosen.out}/report.html, report.md and bench.json", markup=False)
    return 0


def _measure(
    runner: Runner, peers: list[candidates.Candidate], directory: Path, step: Callable[[str], None]
) -> None:
    if peers:
        step("Installing the peers, each into an environment of its own")
        peers = runner.install(peers, directory)
    step("Checking our answers against XGBoost's")
    runner.prepare()
    step("Cold starts")
    runner.cold_starts()
    step("The paper's load: 3,500 requests a second")
    runner.paced()
    step("Many models in one process")
    runner.many_models()
    if runner.plan.switch_rounds:
        step("Capture, metrics, logs and traces: on against off")
        switches.measure(runner)
    if runner.plan.grpc_rounds:
        step("gRPC: ours against an empty answer")
        grpc_rounds.measure(runner)
    step("Rounds: everybody in turn, as fast as they can")
    runner.rounds(peers)


class _Progress:
    """A line for each step, and what goes on beside it where a person looks on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title = ""
        self._begun = time.monotonic()
        self._status: Status | None = console.status("") if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def step(self, title: str) -> None:
        """Begin a step."""
        self._title = title
        minutes, seconds = divmod(int(time.monotonic() - self._begun), 60)
        self._console.print(f"{minutes:2}:{seconds:02}  {title}", markup=False)

    def note(self, text: str) -> None:
        """Tell something that stays on the screen."""
        self._console.print(f"       {text}", markup=False)

    def live(self, text: str) -> None:
        """Tell what goes on this moment."""
        if self._status is not None:
            self._status.update(Text(text, style="dim"))


if __name__ == "__main__":
    sys.exit(main())
