"""What gRPC reaches: our server and an empty answer of the same library, in turn."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench import candidates, grpc_client, h2load
from bench.grpc_client import CallError
from bench.processes import StartError, free_port
from bench.runner import SIZES, CheckError
from bench.sample import TOLERANCE, largest_difference

if TYPE_CHECKING:
    from bench.processes import Served
    from bench.runner import Runner
    from bench.sample import Sample
    from bench.wrk import Load

FORMAT: Final = "grpc"


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request of so many rows, and the answer that was found right."""

    rows: int
    request: bytes
    answer: bytes


def measure(runner: Runner) -> None:
    """Measure our server and the floor in every round; a figure counts only if nothing went wrong."""
    program = shutil.which("h2load")
    if "grpc_port" not in runner.settings:
        runner.leave_out(candidates.GRPC, "the server has no setting grpc_port")
    elif program is None:
        runner.leave_out(candidates.GRPC, h2load.MISSING)
    else:
        try:
            for number in range(runner.plan.grpc_rounds):
                _round(runner, program, number)
        except (StartError, CallError, CheckError, h2load.H2loadError) as error:
            runner.leave_out(candidates.GRPC, str(error))
            runner.book.forget(candidates.GRPC)


def check(port: int, bench: Sample) -> dict[int, Exchange]:
    """Compare answers with XGBoost's own; return one of each size; raises `CallError`, `CheckError`."""
    found: dict[int, Exchange] = {}
    for size in SIZES:
        for rows, expected in bench.batches(size)[:8]:
            request = grpc_client.encode(rows)
            answer = grpc_client.call(port, request)
            if (off := largest_difference(grpc_client.decode(answer), expected)) > TOLERANCE:
                raise CheckError(f"predictions are {off:g} off")
            found.setdefault(size, Exchange(rows=size, request=request, answer=answer))
    return found


def _round(runner: Runner, program: str, number: int) -> None:
    """Measure floor and ours side by side; each has the core to itself while the other waits."""
    plan, port, bench = runner.plan, free_port(), runner.place.sample
    chosen = {"predictor": "fast"} if len(runner.ours) > 1 else {}
    with runner.start(candidates.ours(candidates.GRPC, grpc_port=port, **chosen)) as ours:
        exchanges = check(port, bench)
        one = exchanges[1]
        with runner.start(candidates.grpc_floor(one.answer)) as floor:
            if grpc_client.call(floor.port, one.request) != one.answer:
                raise CheckError("the floor does not answer what it was given")
            load = _Load(runner, program, floor.port, one)
            load.measure(candidates.GRPC_FLOOR, floor, number, plan.floor_s)
            for size, seconds in zip(plan.sizes, (plan.one_s, plan.many_s), strict=False):
                load = _Load(runner, program, port, exchanges[size])
                load.measure(candidates.GRPC, ours, number, seconds)
            _keep(runner, candidates.GRPC_FLOOR, floor)
        check(port, bench)
        _keep(runner, candidates.GRPC, ours)


def _keep(runner: Runner, name: str, served: Served) -> None:
    runner.book.rss_mib[name].append(served.memory_mib())
    runner.book.cold_s[name].append(served.cold_s)


class _Load:
    """The load generator, sending one request again and again."""

    def __init__(self, runner: Runner, program: str, port: int, exchange: Exchange) -> None:
        self._runner = runner
        self._program = program
        self._url = f"http://127.0.0.1:{port}{grpc_client.METHOD}"
        self._exchange = exchange
        self._body = runner.place.work / f"call-{exchange.rows}"
        self._body.write_bytes(h2load.frame(exchange.request))
        self._log = runner.place.work / "calls.log"

    def measure(self, name: str, served: Served, number: int, seconds: int) -> None:
        """Warm the server up, then let the load at it for the book."""
        runner = self._runner
        if runner.plan.warm_s:
            self._run(runner.plan.warm_s)
        runner.observe(name, served, (FORMAT, self._exchange.rows, number), lambda: self._run(seconds))

    def _run(self, seconds: int) -> Load:
        self._log.unlink(missing_ok=True)  # h2load adds to what is there
        argv = h2load.command(self._program, self._url, self._body, self._log, seconds)
        ended = self._runner.on_load_core(argv, seconds + 30.0)
        log = self._log.read_text(encoding="ascii") if self._log.exists() else ""
        size = len(h2load.frame(self._exchange.answer))
        return h2load.parse(ended.stdout + ended.stderr, log, seconds=seconds, answer_bytes=size)
