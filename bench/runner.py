"""Runs everything in turn: checks each server's answers, then measures it, on a core of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from bench import candidates, formats, sample, targets, wrk
from bench.environments import InstallError, make
from bench.formats import Format
from bench.paced import Paced, Spec
from bench.plan import PAPER_RATE
from bench.processes import Served, StartError
from bench.results import Book, Measurement, PacedRun

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.candidates import Candidate, Place
    from bench.plan import Plan

SIZES: Final = (1, 32)
_SETTLE_S: Final = 0.3
_ERRORS: Final = 0.01  # above this share of all answers, errors are told at once


class CheckError(Exception):
    """A server does not answer as XGBoost does."""


@dataclass(frozen=True, kw_only=True)
class Cores:
    """Who runs where."""

    server: int
    load: int


class Runner:
    """One run of the benchmark. `note` is told of what was found, `live` of what goes on."""

    def __init__(  # noqa: PLR0913 - keywords
        self,
        place: Place,
        plan: Plan,
        cores: Cores,
        wrk_path: str,
        *,
        settings: frozenset[str],
        note: Callable[[str], None],
        live: Callable[[str], None],
    ) -> None:
        self.book = Book()
        self.place = place
        self.plan = plan
        self.settings = settings
        self.ours = candidates.all_ours(settings)
        self.cores = cores
        self._wrk = wrk_path
        self._note, self._live = note, live
        self._script = place.work / "load.lua"
        self._script.write_text(wrk.SCRIPT, encoding="utf-8")
        self._answers = candidates.Answers()
        self._logs = 0
        self._deadline = time.monotonic() + plan.limit_s
        self._spoken: dict[str, list[Format]] = {}
        self.book.kinds |= {candidate.name: candidate.kind for candidate in self.ours}

    @property
    def late(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() > self._deadline

    def install(self, peers: Sequence[Candidate], directory: Path) -> list[Candidate]:
        """Make the peers' environments; return the peers that can be measured."""
        made: dict[str, Path] = {}
        refused: dict[str, str] = {}
        for name in dict.fromkeys(peer.environment for peer in peers):
            self._live(name)
            try:
                made[name] = make(name, directory)
            except InstallError as error:
                refused[name] = str(error)
        self.place = replace(self.place, environments=made)
        for peer in peers:
            if peer.environment in refused:
                self.leave_out(peer.name, f"not installed: {refused[peer.environment]}")
        return [peer for peer in peers if peer.environment in made]

    def leave_out(self, name: str, reason: str) -> None:
        """Say that something is not measured, and why."""
        self.book.left_out[name] = reason
        self._note(f"left out: {name}: {reason}")

    def start(self, candidate: Candidate, log_core: int | None = None) -> Served:
        """Start a server on its core; raises `StartError`. For `log_core` see `Served`."""
        self._logs += 1
        self._live(f"{candidate.name}: starting")
        self.book.kinds[candidate.name] = candidate.kind
        return Served(
            candidate.launch(self.place),
            self.place.work / f"server-{self._logs}.log",
            self.cores.server,
            log_core,
        )

    def check(self, served: Served, spoken: Format) -> None:
        """Compare answers with XGBoost's own; raises `CheckError`."""
        for size in SIZES:
            for rows, expected in self.place.sample.batches(size)[:8]:
                try:
                    status, body = served.ask("POST", spoken.path, spoken.encode(rows), spoken.content_type)
                except OSError as error:
                    raise CheckError(f"{spoken.name}: {error}") from error
                if status != 200:
                    said = body.decode("utf-8", "replace")[:120]
                    raise CheckError(f"{spoken.name}: answers {status}: {said}")
                try:
                    found = spoken.decode(body)
                except (ValueError, KeyError, IndexError, TypeError) as error:
                    raise CheckError(f"{spoken.name}: {error!r} in {body[:120]!r}") from error
                if (off := sample.largest_difference(found, expected)) > sample.TOLERANCE:
                    raise CheckError(f"{spoken.name}: predictions are {off:g} off")

    def prepare(self) -> None:
        """Find out what our server speaks, and record its answers for the floors."""
        for candidate in tuple(self.ours):
            try:
                with self.start(candidate) as served:
                    self._spoken[candidate.name] = self._try(candidate, served)
            except StartError as error:
                self.leave_out(candidate.name, str(error))
                self.ours.remove(candidate)
        if not any(self._spoken.values()):
            raise CheckError("our own server answers nothing as it should")

    def _try(self, candidate: Candidate, served: Served) -> list[Format]:
        spoken = list[Format]()
        for item in candidate.formats:
            try:
                self.check(served, item)
            except CheckError as error:
                self.leave_out(f"{candidate.name}: {item.name}", str(error))
                continue
            spoken.append(item)
            self._record(served, item)
        return spoken

    def cold_starts(self) -> None:
        """Start our server again and again, with nothing else on the machine's mind."""
        for candidate in self.ours:
            for _ in range(self.plan.cold_runs):
                with self.start(candidate) as served:
                    self.book.cold_s[candidate.name].append(served.cold_s)

    def paced(self) -> None:
        """Send the paper's load: at even intervals, and once as independent clients do."""
        runs = ["even"] * self.plan.paced_rounds + ["random"]
        for arrivals in runs:
            for candidate in self.ours:
                with self.start(candidate) as served:
                    self._pace(candidate.name, served, arrivals)

    def many_models(self) -> None:
        """Measure the memory of many models in one process, each of which has answered."""
        if "models_dir" not in self.settings:
            self.leave_out(f"{targets.MANY_MODELS} models", "the server has one model only")
            return
        directory = self.place.work / "models"
        directory.mkdir()
        for index in range(targets.MANY_MODELS):
            shutil.copytree(self.place.sample.bundle, directory / f"m{index:02}")
        candidate = candidates.ours(models_dir=directory, default_model="m00")
        try:
            with self.start(candidate) as served:
                for index in range(targets.MANY_MODELS):
                    self.check(served, replace(formats.CSV, path=f"/models/m{index:02}/invoke"))
                self.book.models_rss_mib[targets.MANY_MODELS] = round(served.memory_mib(), 1)
        except (StartError, CheckError) as error:
            self.leave_out(f"{targets.MANY_MODELS} models", str(error))

    def rounds(self, peers: Sequence[Candidate]) -> None:
        """Measure everybody, round after round."""
        peers = list(peers)
        for number in range(self.plan.rounds):
            self._round_of_ours(number)
            self._live(f"round {number + 1} of {self.plan.rounds}")
            if self.plan.has_peers(number):
                # Another order each time: who comes late meets a machine in another mood.
                for peer in peers[number % max(len(peers), 1) :] + peers[: number % max(len(peers), 1)]:
                    if not self.late:
                        self._peer(peer, number)
                    elif peer.name not in self.book.left_out:
                        self.leave_out(peer.name, f"round {number + 1} and later: the time was used up")
            self._note(f"round {number + 1} of {self.plan.rounds} is done")
            if self.late:
                self._note("the time is used up")
                return

    def measure(  # noqa: PLR0913 - what, how, how long
        self, name: str, served: Served, spoken: Format, size: int, *, number: int, seconds: int
    ) -> None:
        """Let the load generator at a server, once."""
        argv = self._argv(served, self._requests(spoken, size), seconds)

        def drive() -> wrk.Load:
            ended = self.on_load_core(argv, seconds + 30.0)
            return wrk.parse(ended.stdout, ended.stderr)

        self.observe(name, served, (spoken.name, size, number), drive)

    def observe(
        self, name: str, served: Served, of: tuple[str, int, int], drive: Callable[[], wrk.Load]
    ) -> None:
        """Book what a load generator sees, and the CPU time of it; `of` is format, rows and round."""
        spoken, rows, number = of
        self._live(f"round {number + 1} of {self.plan.rounds}: {name}, {spoken}, {rows} rows")
        time.sleep(_SETTLE_S)
        before = served.cpu_seconds()
        load = drive()
        used = served.cpu_seconds() - before
        if load.errors > _ERRORS * load.requests:
            self._note(f"{name}, {spoken}, {rows} rows: {load.errors:,} errors in {load.requests:,} answers")
        self.book.measurements.append(
            Measurement(
                candidate=name,
                format=spoken,
                rows=rows,
                round=number,
                load=load,
                cpu_us=used * 1e6 / max(load.requests, 1),
            )
        )

    def _round_of_ours(self, number: int) -> None:
        """Measure floor and ours side by side, format by format."""
        with ExitStack() as stack:
            floor = stack.enter_context(self.start(candidates.floor(self._answers)))
            ours = [(item.name, stack.enter_context(self.start(item))) for item in self.ours]
            for spoken in [each for each in formats.OURS if each.name in self.plan.formats]:
                speakers = [(name, served) for name, served in ours if spoken in self._spoken[name]]
                if not speakers:
                    continue
                empty = replace(spoken, path=f"{spoken.path}?{spoken.name}")
                self.measure(candidates.FLOOR, floor, empty, 1, number=number, seconds=self.plan.floor_s)
                for size, seconds in zip(self.plan.sizes, (self.plan.one_s, self.plan.many_s), strict=False):
                    for name, served in speakers:
                        self.warm(served, spoken, size)
                        self.measure(name, served, spoken, size, number=number, seconds=seconds)
            self.book.rss_mib[candidates.FLOOR].append(floor.memory_mib())
            self.book.cold_s[candidates.FLOOR].append(floor.cold_s)
            for name, served in ours:
                self.book.rss_mib[name].append(served.memory_mib())
        self._nginx(number)

    def _nginx(self, number: int) -> None:
        candidate = candidates.nginx(self._answers)
        if candidate is None:
            if number == 0:
                self.leave_out(candidates.NGINX, "nginx is not installed: `apt-get install nginx-light`")
            return
        try:
            with self.start(candidate) as served:
                self.measure(candidate.name, served, formats.CSV, 1, number=number, seconds=self.plan.floor_s)
                self.book.rss_mib[candidate.name].append(served.memory_mib())
                self.book.cold_s[candidate.name].append(served.cold_s)
        except StartError as error:
            self.leave_out(candidate.name, str(error))

    def _peer(self, peer: Candidate, number: int) -> None:
        if peer.name in self.book.left_out:
            return
        spoken = peer.formats[0]
        try:
            with self.start(peer) as served:
                self.check(served, spoken)
                for size, seconds in zip(self.plan.sizes, (self.plan.one_s, self.plan.many_s), strict=False):
                    self.warm(served, spoken, size)
                    self.measure(peer.name, served, spoken, size, number=number, seconds=seconds)
                # The first start compiles its modules: that is installing, not starting.
                if number or self.plan.peer_rounds == 1:
                    self.book.cold_s[peer.name].append(served.cold_s)
                self.book.rss_mib[peer.name].append(served.memory_mib())
        except (StartError, CheckError, wrk.WrkError) as error:
            self.leave_out(peer.name, str(error))

    def _pace(self, name: str, served: Served, arrivals: str) -> None:
        self._live(f"{name}: {PAPER_RATE:,.0f} requests/s, {arrivals} arrivals")
        spec = Spec(
            port=served.port,
            pid=served.pid,
            requests=str(self._requests(formats.CSV, 1)),
            rate=PAPER_RATE,
            seconds=self.plan.paced_s,
            warm_s=min(2.0, self.plan.paced_s),
            poisson=arrivals == "random",
        )
        argv = [sys.executable, "-m", "bench.paced", json.dumps(asdict(spec))]
        ended = self.on_load_core(argv, spec.seconds + spec.warm_s + 30)
        if ended.returncode:
            reason = (ended.stderr.strip().splitlines() or ["the generator failed"])[-1][:200]
            self.leave_out(f"{name} at a fixed rate, {arrivals} arrivals", reason)
            return
        seen: dict[str, Any] = json.loads(ended.stdout)
        self.book.paced.append(PacedRun(candidate=name, arrivals=arrivals, seen=Paced(**seen)))

    def on_load_core(self, argv: Sequence[str], patience_s: float) -> subprocess.CompletedProcess[str]:
        """Run a load generator to its end, on its core."""
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.cores.load})
        try:
            return subprocess.run(
                argv, cwd=candidates.ROOT, capture_output=True, text=True, timeout=patience_s, check=False
            )
        finally:
            os.sched_setaffinity(0, mine)

    def _record(self, served: Served, spoken: Format) -> None:
        """Keep an answer of ours byte by byte, for the floor to give."""
        rows, _ = self.place.sample.batches(1)[0]
        answer = served.raw(spoken.request(rows))
        self._answers.by_target.setdefault(f"{spoken.path}?{spoken.name}", answer)

    def _requests(self, spoken: Format, size: int) -> Path:
        requests = [spoken.request(rows) for rows, _ in self.place.sample.batches(size)]
        # Named by what is in it: formats of the same name and path can differ in the body.
        path = self.place.work / f"requests-{hashlib.sha256(requests[0]).hexdigest()[:16]}"
        if not path.exists():
            wrk.write_requests(path, requests)
        return path

    def warm(self, served: Served, spoken: Format, size: int) -> None:
        """Let a server meet the load before it is measured."""
        if self.plan.warm_s:
            argv = self._argv(served, self._requests(spoken, size), self.plan.warm_s)
            self.on_load_core(argv, self.plan.warm_s + 30.0)

    def _argv(self, served: Served, requests: Path, seconds: int) -> list[str]:
        return wrk.command(self._wrk, self._script, requests, served.port, seconds)
