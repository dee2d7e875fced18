"""Live traffic as the story sees it: the generator's process, and what it has written down so far."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from local.errors import LocalError
from local.processes import clean_environment
from local.samples import Sample, SampleFile, percentiles
from local.workspace import RUN_DIR_VARIABLE

_CODE = Path(__file__).resolve().parent.parent
_RECENT_S = 2.0
_STOP_S = 20.0


class Load:
    """Traffic to one URL from a process of its own.

    Make it in the main thread: Linux ends the process when the thread that started it ends.
    """

    def __init__(self, url: str, rows: Path, run_dir: Path, *, rate: float, connections: int) -> None:
        self.rate = rate
        self.samples: list[Sample] = []
        self._first: dict[str, float] = {}
        self._failed = 0
        self._file = SampleFile(run_dir / "samples.jsonl")
        self._log = run_dir / "traffic.log"
        arguments = {
            "--url": url,
            "--rows": str(rows),
            "--out": str(run_dir / "samples.jsonl"),
            "--rate": str(rate),
            "--connections": str(connections),
        }
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "local.traffic",
                    *(word for pair in arguments.items() for word in pair),
                ],
                cwd=_CODE,
                env=clean_environment({RUN_DIR_VARIABLE: str(run_dir)}, home=run_dir / "home"),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> None:
        """Take in what was written since the last call.

        Raises:
            LocalError: the generator has ended, which it should not by itself.
        """
        self._take()
        if (code := self._process.poll()) is not None:
            said = self._log.read_text(errors="replace").strip().splitlines()[-3:]
            words = f": {' '.join(said)}" if said else ""
            raise LocalError(f"the traffic generator ended by itself (status {code}){words}")

    def first(self, version: str) -> float | None:
        """When the first prediction by a model version was there, seconds since the epoch."""
        return self._first.get(version)

    @property
    def failed(self) -> int:
        """Failed requests so far."""
        return self._failed

    def versions_since(self, moment: float) -> set[str]:
        """Who answered requests that were due since `moment`."""
        return {sample.version for sample in self.samples if sample.due >= moment and not sample.error}

    def line(self) -> str:
        """The last seconds in a line."""
        if not self.samples:
            return "no answer yet"
        since = self.samples[-1].due - _RECENT_S
        recent: list[Sample] = []
        for sample in reversed(self.samples):
            if sample.due < since:
                break
            recent.append(sample)
        of = percentiles(recent)
        rate = len(recent) / _RECENT_S
        return (
            f"{rate:.0f} requests/s, p50 {of.p50:.1f} ms, p99 {of.p99:.1f} ms, "
            f"{len(self.samples):,} sent, {self._failed} failed"
        )

    def stop(self) -> None:
        """End the traffic, what is under way first, and take in the rest. Safe to call again."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        self.kill()
        self._take()

    def kill(self) -> None:
        """End the traffic at once."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _take(self) -> None:
        for sample in self._file.new():
            self.samples.append(sample)
            if sample.error:
                self._failed += 1
            else:
                self._first[sample.version] = min(self._first.get(sample.version, sample.done), sample.done)
