"""Random models predict over /v2 as XGBoost does, with categories and missing values."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.app import App
from serving.connection import Connection
from serving.metrics import Metrics
from serving.models import Models
from serving.server import Server
from serving.settings import Settings
from serving.v2 import V2
from tests.serving.serving_support import request
from tests.serving.test_exactness import Sink, make


async def outputs(directory: Path, documents: list[Any]) -> list[Any]:
    """Serve the bundle to one connection; return the output tensors of the answers."""
    chosen = Settings(model_dir=directory)
    server = Server(chosen, Metrics())
    models = Models(chosen, server.metrics)
    server.attach(App(server, models, [V2(models, server)]))
    await models.load("", directory)
    models.set_ready()
    connection, found = Connection(server), list[Any]()
    for document in documents:
        sink = Sink()
        connection.connection_made(cast("Any", sink))
        body = json.dumps(document).encode()
        connection.data_received(request("POST", "/v2/models/random/infer", body, "application/json"))
        for _ in range(50):
            await asyncio.sleep(0)
        head, _, body = sink.written.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), sink.written
        found += json.loads(body)["outputs"]
    connection.connection_lost(None)
    return found


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    classes=st.sampled_from([0, 2, 3, 5]),
    max_depth=st.integers(1, 8),
    categorical=st.booleans(),
    early=st.booleans(),
)
def test_random_models(tmp_path: Path, **chosen: Any) -> None:
    rows, expected = make(tmp_path / "bundle", **chosen)
    width = len(rows[0])
    by_column = [
        {
            "name": f"c{index}",
            "shape": [len(rows)],
            "datatype": "BYTES" if index == 0 and chosen["categorical"] else "FP32",
            "data": [row[index] for row in rows],
        }
        for index in range(width)
    ]
    documents: list[Any] = [{"inputs": by_column}, {"inputs": by_column[::-1], "id": "1"}]
    if not chosen["categorical"]:
        flat = [value for row in rows for value in row]
        whole = {"name": "x", "shape": [len(rows), width], "datatype": "FP64", "data": flat}
        documents += [{"inputs": [whole]}, {"inputs": [whole | {"data": rows}]}]
    for output in asyncio.run(outputs(tmp_path / "bundle", documents)):
        assert output["shape"] == list(expected.shape)
        assert output["data"] == pytest.approx(expected.ravel(), abs=1e-6)
