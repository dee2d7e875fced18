"""From the bytes of a request to those of its answer: random models predict as XGBoost does."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle import format as bundle_format
from bundle.format import Column
from serving.app import App
from serving.connection import Connection
from serving.metrics import Metrics
from serving.models import Models
from serving.sagemaker import SageMaker
from serving.server import Server
from serving.settings import Choice, Settings
from tests.serving.serving_support import csv_body, request, write_json

TEXTS = ("red", "green", "blue", "1")


class Sink:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


def make(directory: Path, seed: int, classes: int, *, categorical: bool, early: bool, **chosen: Any) -> Any:
    """Make a bundle of a random model; return 40 raw rows and what XGBoost predicts of them."""
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 8))
    matrix = rng.normal(size=(150, width)).round(2).astype(np.float32)
    columns = [Column(name=f"c{index}") for index in range(width)]
    if categorical:
        matrix[:, 0] = rng.integers(0, len(TEXTS), len(matrix))
        columns[0] = Column(name="c0", type="categorical", categories=TEXTS)
    matrix[rng.random(matrix.shape) < rng.choice((0, 0.2))] = np.nan
    score = np.nan_to_num(matrix).sum(axis=1) + rng.normal(size=len(matrix))
    task, objective = {0: ("regression", "reg:squarederror"), 2: ("binary", "binary:logistic")}.get(
        classes, ("multiclass", "multi:softprob")
    )
    labels = score
    if classes:
        labels = np.digitize(score, np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1]))
    if classes > 2:
        chosen["num_class"] = classes
    types = ["c" if column.type == "categorical" else "float" for column in columns]
    data = xgboost.DMatrix(matrix, labels, feature_types=types, enable_categorical=True)
    other = xgboost.DMatrix(matrix, rng.permutation(labels), feature_types=types, enable_categorical=True)
    stops: dict[str, Any] = {"evals": [(other, "other")], "early_stopping_rounds": 3} if early else {}
    booster = xgboost.train(
        {"objective": objective, "nthread": 1, "seed": seed, **chosen}, data, 12, verbose_eval=False, **stops
    )
    directory.mkdir(exist_ok=True)
    booster.save_model(directory / bundle_format.MODEL)
    best = booster.attr("best_iteration")
    sent = matrix[:40]
    expected = booster.inplace_predict(sent, iteration_range=(0, 0 if best is None else int(best) + 1))

    def raw(value: float, column: Column) -> Any:
        if np.isnan(value):
            return None
        return TEXTS[int(value)] if column.type == "categorical" else float(value)

    rows = [[raw(value, column) for value, column in zip(row, columns, strict=True)] for row in sent.tolist()]
    golden = {"columns": [column.name for column in columns], "rows": rows[:6]}
    write_json(directory / bundle_format.GOLDEN, {**golden, "predictions": expected[:6].tolist()})
    write_json(directory / bundle_format.BASELINE, {})
    names = [str(number) for number in range(classes)] if classes else None
    bundle_format.write(
        directory,
        bundle_format.describe("random", "v1", cast("Any", task), columns, {"m": 1.0}, classes=names),
    )
    return rows, expected


async def answers(directory: Path, choice: Choice, messages: list[bytes]) -> tuple[str, list[bytes]]:
    """Serve the bundle to one connection; return the predictor and the bodies of the answers."""
    chosen = Settings(model_dir=directory, predictor=choice)
    server = Server(chosen, Metrics())
    models = Models(chosen, server.metrics)
    server.attach(App(server, models, [SageMaker(models, chosen, server.heads)]))
    entry = await models.load("", directory)
    models.set_ready()
    bodies: list[bytes] = []
    for message in messages:
        for _ in range(2):  # the second time the head is known
            connection, sink = Connection(server), Sink()
            connection.connection_made(cast("Any", sink))
            connection.data_received(message)
            for _ in range(50):
                await asyncio.sleep(0)
            head, _, body = sink.written.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), sink.written
            bodies.append(body)
            connection.connection_lost(None)
    return entry.model.predictor, bodies


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    classes=st.sampled_from([0, 2, 2, 3, 5]),
    max_depth=st.integers(1, 8),
    base_score=st.sampled_from([0.5, 0.02, 0.9]),
    categorical=st.booleans(),
    early=st.booleans(),
)
def test_random_models(tmp_path: Path, **chosen: Any) -> None:
    rows, expected = make(tmp_path / "bundle", **chosen)
    messages = [
        request("POST", "/invocations", csv_body(rows), "text/csv"),
        request("POST", "/invocations", json.dumps({"instances": rows}).encode(), "application/json"),
        request("POST", "/invocations", json.dumps(rows[:1]).encode(), "application/json"),
    ]
    for choice, name in (("auto", "lignum"), ("xgboost", "xgboost")):
        predictor, bodies = asyncio.run(answers(tmp_path / "bundle", cast("Choice", choice), messages))
        assert predictor == name
        for body in bodies[:2]:
            found = [[float(part) for part in line.split(b",")] for line in body.split()]
            assert np.array(found).reshape(expected.shape) == pytest.approx(expected, abs=1e-6)
        for body in bodies[2:4]:
            assert np.array(json.loads(body)["predictions"]) == pytest.approx(expected, abs=1e-6)
        for body in bodies[4:]:
            assert np.array(json.loads(body)["predictions"]) == pytest.approx(expected[:1], abs=1e-6)
