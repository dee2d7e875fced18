"""`python -m bench.overload`: 120 % of the server's capacity for ten minutes; overload.md and overload.json.

The capacity is what 64 patient clients get out of it, before and after. Between that, requests come by a
schedule that asks for more, from many connections, and every ten seconds it is noted what came of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench import candidates, environments, formats, machine, sample, wrk
from bench.candidates import Place
from bench.flood import Spec
from bench.processes import Served, StartError
from bench.targets import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

_PEAK_RUNS: Final = 3
_PEAK_S: Final = 4
_WARM: Final = 0.1
"""The share of the time in which memory still settles."""

_MAX_GROWTH_MIB: Final = 8.0
_REFUSALS: Final = (StartError, wrk.WrkError, environments.InstallError, machine.TooFewCoresError)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a run is to be."""

    seconds: float
    share: float
    connections: int
    rows: int
    trees: int
    out: Path


@dataclass(frozen=True, kw_only=True)
class Peak:
    """What patient clients get: requests a second, and in a second of the server's CPU time."""

    rps: float
    per_cpu: float

    @property
    def capacity(self) -> float:
        """What the server could answer a second: where others use its core too, more than it was seen to."""
        return max(self.rps, self.per_cpu)


class Lane:
    """The server on its core, and the load on the other."""

    def __init__(self, chosen: Chosen, work: Path) -> None:
        self._chosen = chosen
        self._server_core, self._load_core = machine.cores()
        found = shutil.which("wrk")
        if found is None:
            raise wrk.WrkError(wrk.MISSING)
        self._wrk, self._work = found, work
        self._script = work / "load.lua"
        self._script.write_text(wrk.SCRIPT, encoding="utf-8")
        made = sample.make(work / "bundle", trees=chosen.trees)
        python = environments.serving_python()
        self._place = Place(work=work, serving_python=python, environments={}, sample=made)
        self._requests = work / "requests"
        bodies = [formats.CSV.request(rows) for rows, _ in made.batches(chosen.rows)]
        wrk.write_requests(self._requests, bodies)

    def run(self) -> dict[str, Any]:
        """Measure; return the document. Raises what `_REFUSALS` names."""
        chosen = self._chosen
        launch = candidates.ours().launch(self._place)
        with Served(launch, self._work / "server.log", self._server_core) as served:
            self._peak(served)  # warm
            before = self._peak(served)
            offered = before.capacity * chosen.share
            _say(f"peak {before.rps:,.0f} requests/s of {chosen.rows} rows; now {offered:,.0f} are asked for")
            intervals = self._flood(served, offered)
            after = self._peak(served)
        document = {
            "environment": machine.facts(),
            **{name: value for name, value in asdict(chosen).items() if name != "out"},
            "peak_rps": before.rps,
            "peak_per_cpu": before.per_cpu,
            "peak_after_rps": after.rps,
            "offered_rps": offered,
            "intervals": intervals,
        }
        targets = evaluate(document)
        return {**document, "targets": [asdict(item) | {"outcome": item.outcome} for item in targets]}

    def _peak(self, served: Served) -> Peak:
        """Return what 64 connections get, the median of some runs."""
        argv = wrk.command(self._wrk, self._script, self._requests, served.port, _PEAK_S)
        used = served.cpu_seconds()
        runs = [wrk.run(["taskset", "-c", str(self._load_core), *argv], _PEAK_S) for _ in range(_PEAK_RUNS)]
        per_cpu = sum(run.requests for run in runs) / (served.cpu_seconds() - used)
        return Peak(rps=statistics.median(run.rps for run in runs), per_cpu=per_cpu)

    def _flood(self, served: Served, rate: float) -> list[dict[str, Any]]:
        spec = Spec(
            port=served.port,
            requests=str(self._requests),
            rate=rate,
            seconds=self._chosen.seconds,
            interval_s=min(10.0, self._chosen.seconds / 6),
            connections=self._chosen.connections,
        )
        argv = [sys.executable, "-m", "bench.flood", json.dumps(asdict(spec))]
        found: list[dict[str, Any]] = []
        used, at = served.cpu_seconds(), 0.0
        with subprocess.Popen(
            ["taskset", "-c", str(self._load_core), *argv],
            cwd=candidates.ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as flood:
            for line in flood.stdout or ():
                interval: dict[str, Any] = json.loads(line)
                before, used = used, served.cpu_seconds()
                at += interval["seconds"]
                interval |= {
                    "at": round(at),
                    "rps": interval["good"] / interval["seconds"],
                    "core": (used - before) / interval["seconds"],
                    "rss_mib": served.memory_mib(),
                }
                found.append(interval)
                _say(
                    "{at:>5} s  {rps:>8,.0f} good/s  p50 {p50_ms:7.1f}  p99 {p99_ms:7.1f} ms  "
                    "turned away {turned_away:>6}  given up {given_up:>6}  errors {errors:>3}  "
                    "core {core:.2f}  {rss_mib:.1f} MiB".format(**interval)
                )
        if flood.returncode or len(found) < 3:
            raise wrk.WrkError("the load generator failed")
        return found


def evaluate(document: dict[str, Any]) -> list[Target]:
    """Return what is asked of a server under more load than it can carry, with what was found."""
    intervals: list[dict[str, Any]] = document["intervals"]
    settled = intervals[max(1, round(len(intervals) * _WARM)) :]
    peak = document["peak_rps"]
    seconds = sum(item["seconds"] for item in settled)
    good = sum(item["good"] for item in settled)
    core = sum(item["core"] * item["seconds"] for item in settled) / seconds
    third = max(1, len(settled) // 3)
    memory = [item["rss_mib"] for item in settled]
    growth = statistics.median(memory[-third:]) - statistics.median(memory[:third])
    asked = sum(item["sent"] + item["given_up"] for item in settled) / seconds
    where = f"on {core:.2f} of a core"
    goodput = Target(name="goodput, share of the peak", want=0.9, found=good / seconds / peak, where=where)
    if asked < 0.97 * document["offered_rps"]:
        goodput = replace(goodput, void=True, where="the load generator could not send as much")
    per_cpu = good / seconds / max(core, 1e-9) / document["peak_per_cpu"]
    return [
        goodput,
        Target(name="answers per CPU time of the server, share of the peak's", want=0.9, found=per_cpu),
        Target(
            name="the worst interval, share of the peak",
            want=0.8,
            found=min(i["rps"] for i in settled) / peak,
        ),
        Target(
            name="peak afterwards, share of that before", want=0.9, found=document["peak_after_rps"] / peak
        ),
        Target(name="growth of memory", want=_MAX_GROWTH_MIB, unit="MiB", at_most=True, found=growth),
        Target(
            name="p99 of what was answered, the worst interval",
            want=3000,
            unit="ms",
            at_most=True,
            found=max(item["p99_ms"] for item in settled),
        ),
        Target(
            name="errors other than 503 with Retry-After",
            want=0,
            at_most=True,
            found=float(sum(item["errors"] for item in intervals)),
        ),
    ]


def written(document: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    rows = [
        "| {name} | {found:,.2f} {unit} | {bound} {want:g} | {outcome} |".format(
            **item, bound="≤" if item["at_most"] else "≥"
        )
        for item in document["targets"]
    ]
    lines = [
        "| {at} | {rps:,.0f} | {p50_ms:.1f} | {p99_ms:.1f} | {turned_away} | {given_up} | {errors} "
        "| {core:.2f} | {rss_mib:.1f} |".format(**item)
        for item in document["intervals"]
    ]
    what = (
        "{seconds:g} s at {offered_rps:,.0f} requests/s, {share:.0%} of the capacity (the peak is "
        "{peak_rps:,.0f}), {rows} rows each, {trees} trees, {connections} connections; ".format(**document)
    )
    return "\n".join(
        [
            "# Overload",
            "",
            what + "{date}, {cpu}, commit {commit}.".format(**document["environment"]),
            "",
            "| | found | asked | |",
            "|---|---|---|---|",
            *rows,
            "",
            "| s | good/s | p50 ms | p99 ms | turned away | given up | errors | core | MiB |",
            "|---|---|---|---|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 1 when something asked for was not reached."""
    chosen = _parse(arguments)
    local = environments.ROOT / ".local" / "bench"
    local.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"overload-{os.getpid()}-", dir=local))
    try:
        document = Lane(chosen, work).run()
    except KeyboardInterrupt:
        return 130
    except _REFUSALS as error:
        _say(f"overload: {error}")
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "overload.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    (chosen.out / "overload.md").write_text(written(document), encoding="utf-8")
    for item in document["targets"]:
        _say(f"{item['outcome']:>8}  {item['name']}: {item['found']:,.2f} {item['unit']} {item['where']}")
    _say(f"wrote {chosen.out}/overload.md and overload.json")
    return int(any(item["outcome"] != "reached" for item in document["targets"]))


def _parse(arguments: Sequence[str] | None) -> Chosen:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--share", type=float, default=1.2, help="of the capacity")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument(
        "--rows", type=int, default=32, help="of a request; with few, the generator is too slow"
    )
    parser.add_argument("--trees", type=int, default=sample.TREES, help="of the model")
    parser.add_argument("--out", type=Path, default=environments.ROOT / "reports" / "bench")
    return Chosen(**vars(parser.parse_args(arguments)))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
