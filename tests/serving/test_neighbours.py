"""Requests that are predicted together do not touch each other, whatever any of them holds.

Those of one turn of the event loop share one text, one matrix and one call; each must be answered as if it
had come alone, and as the careful reader reads it.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.app import App
from serving.connection import Connection
from serving.metrics import Metrics
from serving.models import Models
from serving.sagemaker import SageMaker
from serving.server import Server
from serving.settings import Settings
from serving.v2 import V2
from tests.serving.serving_support import NUMBERS, make_bundle, request
from tests.serving.test_exactness import Sink
from tests.serving.test_fuzz import EXAMPLES

Ask = Callable[[list[tuple[str, bytes]]], list[bytes]]

NUMBER = st.one_of(
    st.sampled_from(["1", "2.5", "-0", "1e99", "2e99", "20e98", "1e300", "3.4e38", "3.5e38", "1e-50"]),
    st.sampled_from(["null", "NaN", "NA", "true", "1null", "-null", "0.null", "nullnull", "01", "+1"]),
    st.sampled_from(["1.", "18446744073709551616", "-9223372036854775809"]),
    st.sampled_from(["", " ", "\0", "\n", "\r", "1\n", "\n2", "[1", "1]", "],[", "{", "}", '"1"', '"', '"a']),
    st.integers().map(str),
    st.floats().map(repr),
)  # fmt: skip
TEXT = st.one_of(
    st.lists(NUMBER, min_size=3, max_size=3).map(",".join),
    st.lists(NUMBER, min_size=3, max_size=3).map(",".join),
    st.lists(NUMBER, max_size=8).map(",".join),
    st.just("1.5,200,7"),
)


def framed(kind: str, frame: str, text: str) -> tuple[str, bytes]:
    return kind, (frame % text).encode("utf-8", "surrogatepass")


CSV_BODY = TEXT.map(lambda text: ("csv", text.encode("utf-8", "surrogatepass")))
JSON_BODY = st.builds(
    framed,
    st.just("json"),
    st.sampled_from(
        ["[[%s]]", '{"instances":[[%s]]}', '{"instances": [[%s]] }', '{"a":[[1]],"instances":[[%s]]}']
    ),
    TEXT,
)
V2_BODY = st.builds(
    framed,
    st.just("v2"),
    st.sampled_from(
        [
            '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[%s]}]}',
            '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP64","data":[[%s]]}]}',
            '{"inputs":[{"data":[%s],"name":"x","shape":[1,3],"datatype":"FP32"}]}',
            '{"inputs":[{"name":"x","shape":[1,3],"datatype":"INT32","data":[%s]}]}',
            '{"id":"1","inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[%s]}]}',
        ]
    ),
    TEXT,
)
BODIES = CSV_BODY | JSON_BODY | V2_BODY
KINDS = {
    "csv": ("/invocations", "text/csv"),
    "json": ("/invocations", "application/json"),
    "v2": ("/v2/models/flights/infer", "application/json"),
}


def asker(runner: asyncio.Runner, directory: Path, *, careful: bool = False) -> Ask:
    """Ask a server without a socket: all requests in one turn, each on its own connection."""
    chosen = Settings(model_dir=directory)

    async def start() -> Server:
        server = Server(chosen, Metrics())
        models = Models(chosen, server.metrics)
        protocols = [SageMaker(models, chosen, server.heads), V2(models, server)]
        server.attach(App(server, models, protocols))
        entry = await models.load("", directory)
        if careful:
            entry.model.reader.numeric = False
        models.set_ready()
        return server

    server = runner.run(start())

    async def ask(bodies: list[tuple[str, bytes]]) -> list[bytes]:
        wires: list[Sink] = []
        connections: list[Connection] = []
        for kind, body in bodies:
            path, content_type = KINDS[kind]
            connection, wire = Connection(server), Sink()
            connection.connection_made(cast("Any", wire))
            connection.data_received(request("POST", path, body, content_type))
            connections.append(connection)
            wires.append(wire)
        for _ in range(6):
            await asyncio.sleep(0)
        for connection in connections:
            connection.connection_lost(None)
        assert server.in_flight == 0
        return [re.sub(rb"(Date|X-Request-Id): [^\r]*\r\n", b"", wire.written) for wire in wires]

    return lambda bodies: runner.run(ask(bodies))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module", params=[3, 1])
def both(request: Any, runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ask, Ask]:
    """A server that is quick where it can be, and one that reads every row the careful way."""
    columns = NUMBERS[: request.param]
    directory = make_bundle(tmp_path_factory.mktemp("neighbours") / "bundle", columns=columns).directory
    return asker(runner, directory), asker(runner, directory, careful=True)


@settings(
    max_examples=max(150, EXAMPLES),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(bodies=st.lists(BODIES, min_size=2, max_size=6))
def test_together_as_alone(both: tuple[Ask, Ask], bodies: list[tuple[str, bytes]]) -> None:
    quick, careful = both
    alone = [careful([body])[0] for body in bodies]
    assert all(answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 ")) for answer in alone)
    for _ in range(2):  # the second time the frames are known
        assert quick(bodies) == alone
