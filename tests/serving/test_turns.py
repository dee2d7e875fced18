"""What one turn of the event loop reads has come by its beginning: from then on its requests are timed."""

import asyncio
import time
from typing import Any

import pytest

from serving import model
from serving.batch import Batcher
from serving.metrics import Histogram, ModelMetrics
from serving.observe import Answers, Audience, Turn
from serving.server import Server
from serving.settings import Settings
from tests.serving.serving_support import Made
from tests.serving.test_protocol import post
from tests.serving.wires import connect, start, turns


def test_requests_are_timed_from_the_beginning_of_their_turn(inside: tuple[asyncio.Runner, Server]) -> None:
    runner, server = inside
    (model,) = server.metrics.models.values()

    async def run() -> None:
        pairs = [connect(server) for _ in range(3)]
        before = counts(model.seconds("sagemaker"))
        began: set[float] = set()
        for connection, _ in pairs[:2]:
            connection.data_received(post())
            began.add(server.turn_began)
            time.sleep(0.003)  # noqa: ASYNC251  the turn takes long: whoever is read last waits for it, too
        await turns()
        assert server.turn_began == 0
        pairs[2][0].data_received(post())
        began.add(server.turn_began)
        await turns()
        assert len(began) == 2
        assert min(began) > 0
        assert all(wire.written.startswith(b"HTTP/1.1 200") for _, wire in pairs)
        after = counts(model.seconds("sagemaker"))
        assert after["count"] - before["count"] == 3
        assert after["0.005"] - before["0.005"] <= 1
        assert after["sum"] - before["sum"] >= 2 * 0.006
        for connection, _ in pairs:
            connection.connection_lost(None)

    runner.run(run())


def test_who_is_told_takes_no_time_of_those_who_were_answered(plain: Made) -> None:
    """Requests that were read one after the other, as gRPC's are, are told of one after the other."""

    class Slow:
        def observe(self, answers: Answers) -> None:
            time.sleep(0.02)
            told.append(answers.turn(0))

    class Asked:
        head, body, answer, context = "head", b"asked", b"answered", None

        def __init__(self) -> None:
            self.started = time.perf_counter()

    class Answering:
        content_type = b"text/csv"

        def __init__(self) -> None:
            self.seconds = Histogram((0.02,))

        def send(self, *_: object) -> bytes:
            return b"answered"

    told: list[Turn] = []
    reply: Any = Answering()

    async def run() -> None:
        loaded = model.load(plain.directory, max_rows=10)
        batcher = Batcher(loaded, ModelMetrics({}))
        batcher.audience = Audience([Slow()], at_once=True)
        for _ in range(8):
            asked: Any = Asked()
            batcher.take(asked, reply, plain.rows[:1])
        batcher.flush()

    asyncio.run(run())
    assert len(told) == 8
    assert counts(reply.seconds)["sum"] == pytest.approx(sum(turn.seconds for turn in told))
    assert len({turn.started for turn in told}) == 8
    assert len({turn.done for turn in told}) == 1


def test_a_model_that_is_gone_is_forgotten(plain: Made) -> None:
    """A connection keeps the last request for the next, but not for long: it leads to the model."""

    async def run() -> None:
        server = await start(Settings(model_dir=plain.directory))
        connection, wire = connect(server)
        for _ in range(2):
            connection.data_received(post())
            await turns()
        assert wire.written.count(b"200 OK") == 2
        assert connection.spare is not None
        connection.check(server.clock)
        assert connection.spare is None
        connection.connection_lost(None)

    asyncio.run(run())


def test_a_value_may_be_counted_several_times_at_once() -> None:
    one, many = Histogram((1.0, 2.0)), Histogram((1.0, 2.0))
    one.observe(1.0, 2)
    one.observe(1.5)
    one.observe(3.0)
    for value in (1.0, 3.0, 1.0, 1.5):
        many.observe(value)
    assert [*one.lines("a", "")] == [*many.lines("a", "")]
    assert counts(one) == {"1.0": 2, "2.0": 3, "+Inf": 4, "sum": 6.5, "count": 4}


def counts(histogram: Histogram) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in histogram.lines("x", ""):
        name, _, value = line.partition(" ")
        found[name.split('"')[1] if '"' in name else name.removeprefix("x_")] = float(value)
    return found
