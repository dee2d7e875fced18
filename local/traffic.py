"""A load generator, run as a process of its own: `python -m local.traffic --url … --rows … --out …`.

Open loop: request k is due at start + k / rate, whatever the server does. A fixed number of clients, each
with one connection, sends them in turn; when all of them wait for answers, the next request goes out late,
and its lateness is in its latency (see `local.samples`). Nothing is retried: what a client would see as a
failure is one, and a failure is anything but a 200 that carries a prediction. Half of the clients keep their
connection for as long as the server lets them, the others open a new one every so many requests: both kinds
live through every rollout.

SIGTERM ends it: no new requests, those under way are answered and written down, exit status 0.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from local.processes import die_with_parent
from local.samples import Sample, percentiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

VERSION_HEADER = "X-Model-Version"
_FLUSH_S = 0.2
_LEAD_S = 0.05
_RENEW_AFTER = 25
_LAST = {"Connection": "close"}
_ERROR_LENGTH = 200


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to send where. `rate` is requests a second over all connections."""

    url: str
    bodies: Sequence[bytes]
    rate: float = 250.0
    connections: int = 16
    limit: int | None = None
    timeout_s: float = 10.0
    content_type: str = "application/json"

    def __post_init__(self) -> None:
        if not self.bodies:
            raise ValueError("rows: want at least one request")
        if not 0 < self.rate <= 100_000:
            raise ValueError(f"rate: want more than 0 requests a second, got {self.rate:g}")
        if self.connections < 1:
            raise ValueError(f"connections: want at least 1, got {self.connections}")


class Generator:
    """Sends a plan's requests on schedule and appends a line for each to `out`."""

    def __init__(self, plan: Plan, out: TextIO) -> None:
        self._plan = plan
        self._out = out
        self._stop = asyncio.Event()
        self._numbers = itertools.count()
        self._lines: list[str] = []
        self.samples: list[Sample] = []

    def stop(self) -> None:
        """Send nothing more; `run` returns once what is under way has ended."""
        self._stop.set()

    async def run(self) -> None:
        """Send until `stop`, or until the plan's limit is reached."""
        writer = asyncio.create_task(self._write())
        # The epoch and the loop's clock, read together: durations come from the one that never jumps.
        start, epoch = asyncio.get_running_loop().time() + _LEAD_S, time.time() + _LEAD_S
        clients = (
            self._client(start, epoch, renews=index % 2 == 1) for index in range(self._plan.connections)
        )
        await asyncio.gather(*clients)
        self._stop.set()
        await writer
        self._flush()

    async def _client(self, start: float, epoch: float, *, renews: bool) -> None:
        plan = self._plan
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=plan.timeout_s),
            headers={"Content-Type": plan.content_type},
        ) as session:
            await self._send(session, start, epoch, _RENEW_AFTER if renews else None)

    async def _send(
        self, session: aiohttp.ClientSession, start: float, epoch: float, renew_after: int | None
    ) -> None:
        plan = self._plan
        clock = asyncio.get_running_loop().time
        for sends, number in enumerate(self._numbers, 1):
            if plan.limit is not None and number >= plan.limit:
                return
            offset = number / plan.rate
            if await self._stopped_before(start + offset):
                return
            sent = clock()
            last = renew_after is not None and sends % renew_after == 0
            status, version, error = await self._request(
                session, plan.bodies[number % len(plan.bodies)], _LAST if last else None
            )
            sample = Sample(
                due=epoch + offset,
                waited_ms=max(0.0, sent - start - offset) * 1000,
                service_ms=(clock() - sent) * 1000,
                status=status,
                version=version,
                error=error,
            )
            self.samples.append(sample)
            self._lines.append(sample.line())

    async def _stopped_before(self, due: float) -> bool:
        """Sleep until a request is due; True if the end came first."""
        clock = asyncio.get_running_loop().time
        while not self._stop.is_set() and (pause := due - clock()) > 0:  # noqa: ASYNC110  # the schedule
            await asyncio.sleep(min(pause, _FLUSH_S))
        return self._stop.is_set()

    async def _request(
        self, session: aiohttp.ClientSession, body: bytes, headers: dict[str, str] | None
    ) -> tuple[int, str, str]:
        status, version = 0, ""
        try:
            async with session.post(self._plan.url, data=body, headers=headers) as response:
                status, version = response.status, response.headers.get(VERSION_HEADER, "")
                return status, version, fault(status, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return status, version, f"{type(error).__name__}: {error}"[:_ERROR_LENGTH]

    async def _write(self) -> None:
        while not self._stop.is_set():
            await asyncio.sleep(_FLUSH_S)
            self._flush()

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._out.write("".join(lines))
            self._out.flush()


def fault(status: int, body: bytes) -> str:
    """What is wrong with an answer; empty if it is a 200 that carries one finite prediction or more."""
    if status != 200:
        return f"HTTP {status}: {body[:_ERROR_LENGTH].decode('utf-8', 'replace')}"
    try:
        predictions: Any = json.loads(body)["predictions"]
        flat = itertools.chain.from_iterable(p if isinstance(p, list) else [p] for p in predictions)
        numbers: list[Any] = list(flat)
        if numbers and all(math.isfinite(number) for number in numbers):
            return ""
    except (ValueError, KeyError, TypeError):
        pass
    return f"no prediction in the answer: {body[:_ERROR_LENGTH].decode('utf-8', 'replace')}"


async def generate(plan: Plan, out: Path) -> Generator:
    """Run a plan until SIGTERM, SIGINT or its limit."""
    with out.open("a", encoding="utf-8") as file:
        generator = Generator(plan, file)
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, generator.stop)
        await generator.run()
    return generator


def main(argv: Sequence[str] | None = None) -> int:
    """Send requests; at the end, one JSON line on stdout says how many, how many failed, how fast."""
    parser = argparse.ArgumentParser(
        prog="python -m local.traffic", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--url", required=True, help="where to POST, such as http://127.0.0.1:8080/invocations"
    )
    parser.add_argument("--rows", type=Path, required=True, help="a file with one JSON request body a line")
    parser.add_argument("--out", type=Path, required=True, help="the samples file, appended to")
    parser.add_argument("--rate", type=float, default=250.0, help="requests a second (default 250)")
    parser.add_argument("--connections", type=int, default=16, help="at most so many at once (default 16)")
    parser.add_argument("--requests", type=int, help="stop after so many (default: at SIGTERM)")
    options = parser.parse_args(argv)
    try:
        plan = Plan(
            url=options.url,
            bodies=options.rows.read_bytes().splitlines(),
            rate=options.rate,
            connections=options.connections,
            limit=options.requests,
        )
    except (OSError, ValueError) as error:
        print(f"traffic: {error}", file=sys.stderr)
        return 2
    die_with_parent()
    samples = asyncio.run(generate(plan, options.out)).samples
    of = percentiles(samples)
    print(
        json.dumps(
            {"requests": of.requests, "failed": of.failed, "p50": of.p50, "p95": of.p95, "p99": of.p99}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
