"""What one turn of the event loop reads has come by its beginning: from then on its requests are timed."""

import asyncio
import time

from serving.metrics import Histogram
from serving.server import Server
from tests.serving.test_protocol import post
from tests.serving.wires import connect, turns


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
