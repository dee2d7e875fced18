"""The load generator: what it counts as failed, how it keeps its schedule, how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from local.samples import Sample, SampleFile, buckets, by_phase, percentiles, phase
from local.traffic import Generator, Plan, fault, main

if TYPE_CHECKING:
    from pathlib import Path

BODY = b'{"instances":[{"carrier":"UA"}]}'
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def predicts(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"predictions": [0.25]}, headers={"X-Model-Version": "v1"})


@asynccontextmanager
async def server(handler: Handler) -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_post("/invocations", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/invocations"
    finally:
        await runner.cleanup()


async def send(
    url: str, *, rate: float = 500, connections: int = 4, limit: int = 50, timeout_s: float = 10
) -> list[Sample]:
    plan = Plan(url=url, bodies=[BODY], rate=rate, connections=connections, limit=limit, timeout_s=timeout_s)
    out = io.StringIO()
    generator = Generator(plan, out)
    await asyncio.wait_for(generator.run(), 30)
    assert [Sample.parse(line) for line in out.getvalue().splitlines()] == [
        Sample.parse(sample.line()) for sample in generator.samples
    ]
    return sorted(generator.samples, key=lambda sample: sample.due)


async def test_requests_are_due_at_the_rate_and_answered() -> None:
    async with server(predicts) as url:
        samples = await send(url, rate=200, limit=60)
    assert len(samples) == 60
    assert [(s.status, s.version, s.error) for s in samples] == [(200, "v1", "")] * 60
    assert samples[-1].due - samples[0].due == pytest.approx(59 / 200, abs=1e-6)


async def test_waiting_behind_a_slow_answer_is_latency() -> None:
    calls = 0

    async def stalls_once(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.sleep(0.4)
        return await predicts(request)

    async with server(stalls_once) as url:
        samples = await send(url, rate=100, connections=1, limit=20)
    # One connection: the requests behind the stalled one were due long before they could be sent.
    assert samples[5].latency_ms > 250
    assert samples[5].service_ms < 100


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (web.Response(status=503, text="no model"), "HTTP 503: no model"),
        (web.Response(text="0.5"), "no prediction in the answer: 0.5"),
        (web.json_response({"predictions": []}), "no prediction"),
        (web.json_response({"predictions": ["late"]}), "no prediction"),
        (web.json_response({"predictions": [float("nan")]}), "no prediction"),
    ],
)
async def test_anything_but_a_prediction_has_failed(answer: web.Response, said: str) -> None:
    status, body = answer.status, answer.body
    assert isinstance(body, bytes)

    async def answers(request: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    async with server(answers) as url:
        samples = await send(url, limit=2)
    assert all(said in sample.error for sample in samples)
    assert percentiles(samples).failed == 2


def test_predictions_of_several_classes_are_predictions() -> None:
    assert not fault(200, b'{"predictions":[[0.1,0.9],[0.5,0.5]]}')


async def test_a_refused_connection_is_a_failure_and_is_not_tried_again() -> None:
    async with server(predicts) as url:
        pass
    samples = await send(url, limit=5)
    assert [sample.status for sample in samples] == [0] * 5
    assert all("Connect" in sample.error for sample in samples)


async def test_a_connection_cut_in_the_middle_is_a_failure() -> None:
    calls = 0

    async def cuts(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        if calls == 3:
            assert request.transport
            request.transport.abort()
        return await predicts(request)

    async with server(cuts) as url:
        samples = await send(url, limit=6, connections=1)
    assert [bool(sample.error) for sample in samples] == [False, False, True, False, False, False]
    assert calls == 6


async def test_no_answer_in_time_is_a_failure() -> None:
    async def hangs(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return await predicts(request)

    async with server(hangs) as url:
        samples = await send(url, limit=1, timeout_s=0.2)
    assert "Timeout" in samples[0].error


async def test_sigterm_ends_it_after_what_is_under_way(tmp_path: Path) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.3)
        return await predicts(request)

    rows, out = tmp_path / "rows.jsonl", tmp_path / "samples.jsonl"
    rows.write_bytes(BODY + b"\n")
    async with server(slow) as url:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "local.traffic", "--url", url, "--rows", str(rows), "--out", str(out),
            "--rate", "40", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        file = SampleFile(out)
        seen: list[Sample] = []
        deadline = time.monotonic() + 20
        while not seen and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            seen += file.new()
        os.kill(process.pid, signal.SIGTERM)
        said, _ = await asyncio.wait_for(process.communicate(), 10)
    seen += file.new()
    assert process.returncode == 0
    assert json.loads(said)["requests"] == len(seen)
    assert not any(sample.error for sample in seen)


@pytest.mark.parametrize(
    ("rows", "rate", "said"),
    [
        (b"", "250", "at least one request"),
        (BODY, "0", "rate"),
        (BODY, "nan", "rate"),
        (None, "1", "No such file"),
    ],
)
def test_nonsense_is_refused(
    rows: bytes | None, rate: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    if rows is not None:
        path.write_bytes(rows)
    arguments = [
        "--url",
        "http://127.0.0.1:1",
        "--rows",
        str(path),
        "--out",
        str(tmp_path / "o"),
        "--rate",
        rate,
    ]
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_growing_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    file = SampleFile(path)
    assert file.new() == []
    line = sample(1.0).line()
    path.write_text(line + line[:10])
    assert len(file.new()) == 1
    with path.open("a") as more:
        more.write(line[10:])
    assert file.new() == [sample(1.0)]
    assert file.new() == []


def test_percentiles_are_of_the_answered_requests() -> None:
    of = percentiles(
        [sample(0.0, ms=float(value)) for value in range(1, 101)] + [sample(0.0, error="HTTP 503")]
    )
    assert (of.requests, of.failed, of.p50, of.p95, of.p99, of.worst) == (101, 1, 50, 95, 99, 100)


def test_phases_lie_around_the_rollouts() -> None:
    rollouts = [(10.0, 12.0), (20.0, 21.0)]
    assert [phase(at, rollouts) for at in (9.9, 10, 12, 15, 20.5, 30)] == [
        "before", "during", "during", "after", "during", "after",
    ]  # fmt: skip
    assert by_phase([sample(11.0)], rollouts)["during"].requests == 1
    assert phase(1.0, []) == "before"


def test_buckets_count_by_version_and_keep_the_gaps() -> None:
    found = buckets([sample(5.0), sample(5.5, version="v2"), sample(7.2, error="HTTP 503")])
    assert [bucket.answered for bucket in found] == [{"v1": 1, "v2": 1}, {}, {}]
    assert [bucket.failed for bucket in found] == [0, 0, 1]
    assert buckets([]) == []


def sample(due: float, *, ms: float = 2.0, version: str = "v1", error: str = "") -> Sample:
    return Sample(due, 0.0, ms, 503 if error else 200, "" if error else version, error)
