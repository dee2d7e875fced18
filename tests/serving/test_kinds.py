"""Every kind of model that XGBoost's trees can be, through every protocol, to the bit.

Of rows with missing values, and at and just beside the thresholds of the model's own splits.
"""

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
from bundle.format import BundleError, Column
from serving.app import App
from serving.connection import Connection
from serving.endpoints import Endpoints
from serving.metrics import Metrics
from serving.models import Models
from serving.sagemaker import SageMaker
from serving.server import Server
from serving.settings import Settings
from serving.v2 import V2
from tests.serving.serving_support import csv_body, request, write_json
from tests.serving.test_exactness import Sink

COUNT = 40


def labels_for(kind: dict[str, Any], score: Any) -> Any:
    """Labels that suit the objective: `classes`, `positive`, or the score itself, negative ones too."""
    classes = kind.pop("classes", 0)
    if classes:
        return np.digitize(score, np.quantile(score, np.linspace(0, 1, classes + 1)[1:-1]))
    return np.abs(score) + 0.1 if kind.pop("positive", False) else score


def train(directory: Path, kind: dict[str, Any]) -> tuple[xgboost.Booster, Any]:
    """Train a model of this kind and write its bundle; return it, and rows to ask for."""
    rng = np.random.default_rng(kind.pop("seed", 0))
    count, width, rounds = kind.pop("rows", 300), kind.pop("width", 5), kind.pop("rounds", 12)
    early, task = kind.pop("early", False), kind.pop("task", "regression")
    classes, categorical = kind.get("classes", 0), kind.pop("categorical", False)
    names = None if task == "regression" else [str(number) for number in range(classes)]
    matrix = rng.normal(size=(count, width)).round(2).astype(np.float32)
    columns = [Column(name=f'c {index}, "é"') for index in range(width)]
    if categorical:
        matrix[:, 0] = rng.integers(0, 30, count)
        columns[0] = Column(name="c", type="categorical", categories=tuple(f"k{code}" for code in range(30)))
    matrix[rng.random(matrix.shape) < kind.pop("missing", 0.1)] = np.nan
    score = (np.nan_to_num(matrix).sum(axis=1) + rng.normal(size=count)) * kind.pop("scale", 1.0)
    types = ["c" if column.type == "categorical" else "float" for column in columns]
    options: dict[str, Any] = {"feature_types": types, "enable_categorical": True}
    if kind["objective"].startswith("rank"):
        options["qid"] = np.sort(rng.integers(0, 12, count))
    if kind["objective"] == "survival:aft":
        data = xgboost.DMatrix(matrix, **options)
        data.set_float_info("label_lower_bound", np.abs(score) + 0.1)
        data.set_float_info("label_upper_bound", np.where(score > 0, np.inf, np.abs(score) + 0.1))
        labels = score
    else:
        labels = labels_for(kind, score)
        data = xgboost.DMatrix(matrix, labels, **options)
    stops: dict[str, Any] = {}
    if early:
        other = xgboost.DMatrix(matrix, rng.permutation(labels), **options)
        stops = {"evals": [(other, "other")], "early_stopping_rounds": 3, "verbose_eval": False}
    booster = xgboost.train({"nthread": 1, "seed": 1, **kind}, data, rounds, **stops)
    rows = asked(booster, rng, matrix)
    directory.mkdir(exist_ok=True)
    booster.save_model(directory / bundle_format.MODEL)
    golden = {"columns": [column.name for column in columns], "rows": raw(rows[:6], columns)}
    expected = predicted(booster, rows[:6]).tolist()
    write_json(directory / bundle_format.GOLDEN, {**golden, "predictions": expected})
    write_json(directory / bundle_format.BASELINE, {})
    manifest = bundle_format.describe("kind", "v1", task, columns, {"m": 1.0}, classes=names)
    bundle_format.write(directory, manifest)
    return booster, (raw(rows, columns), rows)


def asked(booster: xgboost.Booster, rng: np.random.Generator, matrix: Any) -> Any:
    """Rows of the data, most of their numbers replaced by thresholds and their neighbours."""
    model: Any = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    model = model.get("gbtree", model)["model"]  # dart has its trees one level deeper
    rows = matrix[:COUNT].copy()
    for tree in model["trees"][:50]:
        for feature, value, kind, left in zip(
            tree["split_indices"],
            tree["split_conditions"],
            tree["split_type"],
            tree["left_children"],
            strict=True,
        ):
            if left >= 0 and kind == 0:
                side = rng.choice((-np.inf, 0, np.inf))
                value32 = np.float32(value)
                rows[rng.integers(COUNT), feature] = (
                    np.nextafter(value32, np.float32(side)) if side else value32
                )
    rows[0] = np.nan
    return rows


def raw(rows: Any, columns: list[Column]) -> list[list[Any]]:
    """Rows as a client has them; a 32-bit float in full, so that it is read as the same."""
    return [
        [
            None if np.isnan(value) else f"k{int(value)}" if column.type == "categorical" else float(value)
            for value, column in zip(row, columns, strict=True)
        ]
        for row in rows
    ]


def predicted(booster: xgboost.Booster, rows: Any) -> Any:
    """XGBoost's own answer, by its own Python package."""
    best = booster.attr("best_iteration")
    return booster.inplace_predict(rows, iteration_range=(0, 0 if best is None else int(best) + 1))


def messages(sent: list[list[Any]], rows: Any, columns: list[Column]) -> list[bytes]:
    """The rows as each protocol has them, all at once and the first ones alone."""
    names = [column.name for column in columns]
    objects = [dict(zip(names, row, strict=True)) for row in sent]
    found = [
        request("POST", "/invocations", csv_body(sent), "text/csv", Accept="application/json"),
        request("POST", "/invocations", json.dumps({"instances": sent}).encode(), "application/json"),
        request("POST", "/models/kind/invoke", json.dumps(objects).encode(), "application/json"),
        request("POST", "/endpoints/e/invocations", json.dumps(sent).encode(), "application/json"),
    ]
    tensors = [
        {
            "name": column.name,
            "shape": [len(sent)],
            "datatype": "BYTES" if column.type == "categorical" else "FP64",
            "data": [row[index] for row in sent],
        }
        for index, column in enumerate(columns)
    ]
    found.append(request("POST", "/v2/models/kind/infer", json.dumps({"inputs": tensors}).encode()))
    if all(column.type == "numeric" for column in columns):
        data = rows.astype("<f4").tobytes()
        tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP32"}
        head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]}).encode()
        length = {"Inference_Header_Content_Length": str(len(head))}
        found.append(request("POST", "/v2/models/kind/infer", head + data, **length))
    single = [csv_body([row]) for row in sent[:3]]
    found += [request("POST", "/invocations", row, "text/csv", Accept="application/json") for row in single]
    return found


async def serve(directory: Path, asks: list[bytes], predictor: Any) -> tuple[str, list[Any]]:
    """Serve the bundle without a socket; return the predictor and the predictions in each answer."""
    chosen = Settings(model_dir=directory, predictor=predictor)
    server = Server(chosen, Metrics())
    models = Models(chosen, server.metrics)
    sagemaker = SageMaker(models, chosen, server.heads)
    server.attach(App(server, models, [sagemaker, Endpoints(models, sagemaker), V2(models, server)]))
    entry = await models.load("", directory)
    models.set_ready()
    found: list[Any] = []
    for ask in asks:
        connection, wire = Connection(server), Sink()
        connection.connection_made(cast("Any", wire))
        connection.data_received(ask)
        for _ in range(100):
            if wire.written:
                break
            await asyncio.sleep(0)
        head, _, body = wire.written.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), wire.written
        document = json.loads(body)
        found.append(document["predictions"] if "predictions" in document else document["outputs"][0]["data"])
        connection.connection_lost(None)
    return entry.model.predictor, found


def check(directory: Path, kind: dict[str, Any]) -> set[str]:
    """Serve a model of this kind by both predictors; return those that there are."""
    booster, (sent, rows) = train(directory, dict(kind))
    columns = list(bundle_format.read(directory).columns)
    expected = predicted(booster, rows)
    used: set[str] = set()
    for choice in ("auto", "xgboost"):
        predictor, answers = asyncio.run(serve(directory, messages(sent, rows, columns), choice))
        used.add(predictor)
        for answer in answers[:-3]:
            got = np.array(answer, dtype=np.float64).reshape(expected.shape)
            assert got.astype(np.float32).tobytes() == expected.astype(np.float32).tobytes()
        for number, answer in enumerate(answers[-3:]):
            got = np.array(answer, dtype=np.float64).reshape(expected[:1].shape)
            assert got.astype(np.float32).tobytes() == expected[number : number + 1].tobytes()
    return used


BINARY: dict[str, Any] = {"objective": "binary:logistic", "classes": 2, "task": "binary"}
REGRESSION: dict[str, Any] = {"objective": "reg:squarederror"}
SOFTPROB: dict[str, Any] = {"objective": "multi:softprob", "task": "multiclass"}
FAST: dict[str, dict[str, Any]] = {
    "negative targets": REGRESSION,
    "huge targets": REGRESSION | {"scale": 1e9},
    "tiny targets": REGRESSION | {"scale": 1e-9},
    "gamma": {"objective": "reg:gamma", "positive": True},
    "tweedie": {"objective": "reg:tweedie", "positive": True, "tweedie_variance_power": 1.2},
    "poisson": {"objective": "count:poisson", "positive": True},
    "quantile": {"objective": "reg:quantileerror", "quantile_alpha": 0.2},
    "absolute": {"objective": "reg:absoluteerror"},
    "raw logit": BINARY | {"objective": "binary:logitraw"},
    "4 classes": SOFTPROB | {"classes": 4, "num_class": 4},
    "2 classes of many": SOFTPROB | {"classes": 2, "num_class": 2},
    "base score": REGRESSION | {"base_score": 123.5},
    "base score of each class": SOFTPROB | {"classes": 3, "num_class": 3, "base_score": [0.2, 0.3, 0.5]},
    "depth 1": REGRESSION | {"max_depth": 1},
    "depth 12": REGRESSION | {"max_depth": 12, "rows": 3000, "rounds": 20},
    "leaves": BINARY | {"max_depth": 0, "max_leaves": 17, "grow_policy": "lossguide"},
    "3000 trees": BINARY | {"rounds": 3000, "max_depth": 3},
    "500 columns": BINARY | {"width": 500},
    "1 column": BINARY | {"width": 1},
    "categories": BINARY | {"categorical": True, "max_cat_to_onehot": 2},
    "categories, one by one": REGRESSION | {"categorical": True, "max_cat_to_onehot": 99},
    "much missing": BINARY | {"missing": 0.9},
    "exact": REGRESSION | {"tree_method": "exact"},
    "approximate": REGRESSION | {"tree_method": "approx"},
    "stopped early": REGRESSION | {"early": True, "rounds": 60},
    "classes, stopped early": SOFTPROB | {"classes": 3, "num_class": 3, "early": True, "rounds": 60},
}
OWN: dict[str, dict[str, Any]] = {
    "cox": {"objective": "survival:cox", "positive": True},
    "aft": {"objective": "survival:aft"},
    "pairs": {"objective": "rank:pairwise", "classes": 3},
    "ndcg": {"objective": "rank:ndcg", "classes": 3},
    "hinge": BINARY | {"objective": "binary:hinge"},
    "dart": BINARY | {"booster": "dart", "rate_drop": 0.3},
    "dart, stopped early": REGRESSION | {"booster": "dart", "rate_drop": 0.3, "early": True, "rounds": 40},
    "forest": BINARY | {"num_parallel_tree": 5, "subsample": 0.7},
}


@pytest.mark.parametrize("name", FAST)
def test_kinds_of_the_fast_predictor(tmp_path: Path, name: str) -> None:
    assert check(tmp_path, FAST[name]) == {"lignum", "xgboost"}


@pytest.mark.parametrize("name", OWN)
def test_kinds_of_xgboosts_own(tmp_path: Path, name: str) -> None:
    assert check(tmp_path, OWN[name]) == {"xgboost"}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (SOFTPROB | {"objective": "multi:softmax", "classes": 3, "num_class": 3}, "want a list"),
        (
            REGRESSION | {"objective": "reg:quantileerror", "quantile_alpha": [0.2, 0.8]},
            "want a finite number",
        ),
    ],
)
def test_kinds_that_are_refused(tmp_path: Path, kind: dict[str, Any], reason: str) -> None:
    with pytest.raises(BundleError, match=f"golden.json: predictions.*{reason}"):
        check(tmp_path, kind)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from([*FAST.values(), OWN["dart"], OWN["forest"]]).filter(
        lambda kind: "rows" not in kind
    ),
    changes=st.fixed_dictionaries(
        {"seed": st.integers(0, 1000)},
        optional={
            "max_depth": st.integers(1, 9),
            "missing": st.sampled_from([0.0, 0.3, 0.8]),
            "categorical": st.booleans(),
            "early": st.booleans(),
            "subsample": st.sampled_from([0.5, 1.0]),
            "eta": st.sampled_from([0.01, 1.0]),
            "lambda": st.sampled_from([0.0, 10.0]),
        },
    ),
)
def test_random_kinds(tmp_path: Path, kind: dict[str, Any], changes: dict[str, Any]) -> None:
    if kind.get("tree_method") == "exact" and changes.get("categorical"):
        changes = {**changes, "categorical": False}  # which that method does not know
    check(tmp_path, {**kind, **changes, "rounds": min(kind.get("rounds", 12), 15)})
