"""Both predictors give XGBoost's predictions, and the fast one serves nothing that it does not."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.format import BundleError
from serving import booster, predictor, probes

WIDTH = 5


def train(path: Path, rows: int = 200, rounds: int = 8, seed: int = 0, **chosen: Any) -> xgboost.Booster:
    """Train and save a model; `early` stops it, `categorical` makes the first two features categories."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, WIDTH)).round(2).astype(np.float32)
    categorical, early = chosen.pop("categorical", False), chosen.pop("early", False)
    if categorical:
        matrix[:, 0], matrix[:, 1] = rng.integers(0, 3, rows), rng.integers(0, 40, rows)
    matrix[rng.random(matrix.shape) < chosen.pop("missing", 0.1)] = np.nan
    objective = chosen.setdefault("objective", "reg:squarederror")
    score = np.nan_to_num(matrix).sum(axis=1) + rng.normal(size=rows)
    if objective.startswith("multi"):
        labels = np.digitize(score, np.quantile(score, np.linspace(0, 1, chosen["num_class"] + 1)[1:-1]))
    elif objective.startswith("binary") or objective == "reg:logistic":
        labels = score > np.median(score)  # with one class only, lignum refuses the base score
    else:
        labels = np.abs(score) + 0.1
    types = ["c" if categorical and index < 2 else "float" for index in range(WIDTH)]
    data = xgboost.DMatrix(matrix, labels, feature_types=types, enable_categorical=True)
    parameters = {"max_depth": 4, "nthread": 1, "seed": seed, **chosen}
    if not early:
        model = xgboost.train(parameters, data, rounds)
    else:
        # Labels that mean nothing: the best iteration comes soon.
        other = xgboost.DMatrix(matrix, rng.permutation(labels), feature_types=types, enable_categorical=True)
        model = xgboost.train(
            parameters, data, rounds, evals=[(other, "o")], early_stopping_rounds=5, verbose_eval=False
        )
    model.save_model(path)
    return model


def rows_for(model: xgboost.Booster, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(300, WIDTH)).round(2).astype(np.float32)
    for feature, kind in enumerate(model.feature_types or []):
        if kind == "c":
            matrix[:, feature] = rng.integers(0, (3, 40)[feature], len(matrix))
    matrix[rng.random(matrix.shape) < 0.2] = np.nan
    return matrix


def xgboosts(model: xgboost.Booster, rows: Any) -> Any:
    best = model.attr("best_iteration")
    return model.inplace_predict(rows, iteration_range=(0, 0 if best is None else int(best) + 1))


KINDS: list[dict[str, Any]] = [{"objective": objective} for objective in sorted(predictor.OBJECTIVES)]
for kind in KINDS:
    if kind["objective"] == "multi:softprob":
        kind["num_class"] = 3
    if kind["objective"] == "reg:quantileerror":
        kind["quantile_alpha"] = 0.3


@pytest.mark.parametrize("categorical", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["objective"])
def test_every_kind_on_the_list_is_proven(tmp_path: Path, kind: dict[str, Any], *, categorical: bool) -> None:
    path = tmp_path / "model.ubj"
    model = train(path, categorical=categorical, **kind)
    chosen = predictor.choose(path, WIDTH)
    assert (chosen.name, chosen.reason) == ("lignum", "")
    rows = rows_for(model)
    assert chosen.predict(rows).tobytes() == xgboosts(model, rows).tobytes()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    depth=st.integers(0, 9),
    rounds=st.integers(1, 20),
    seed=st.integers(0, 1000),
    missing=st.sampled_from([0.0, 0.1, 0.9]),
    base=st.sampled_from([None, 0.01, 0.5, 0.99]),
    classes=st.sampled_from([0, 0, 2, 3, 7]),
    binary=st.booleans(),
    categorical=st.booleans(),
    early=st.booleans(),
    grow=st.sampled_from(["depthwise", "lossguide"]),
)
def test_random_models(
    tmp_path: Path, depth: int, base: float | None, classes: int, binary: bool, grow: str, **rest: Any
) -> None:
    path = tmp_path / "model.ubj"
    kind: dict[str, Any] = {"objective": "binary:logistic" if binary else "reg:squarederror"}
    if classes:
        kind = {"objective": "multi:softprob", "num_class": classes}
    if base is not None:
        kind["base_score"] = base
    if depth == 0:
        kind.update(max_leaves=6)
    model = train(path, max_depth=depth, grow_policy=grow, tree_method="hist", **kind, **rest)
    rows = rows_for(model)
    wanted = xgboosts(model, rows)
    for choice, name in (("xgboost", "xgboost"), ("auto", "lignum")):
        chosen = predictor.choose(path, WIDTH, choice)  # pyright: ignore[reportArgumentType]
        assert chosen.name == name, chosen.reason
        for part in (slice(0, 1), slice(1, 10), slice(None)):
            found = chosen.predict(rows[part])
            assert found.dtype == np.float32
            assert found.tobytes() == wanted[part].tobytes()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ({"booster": "dart"}, "the booster is dart"),
        ({"objective": "binary:hinge"}, "the objective is binary:hinge"),
        ({"num_parallel_tree": 3}, "random forest"),
    ],
)
def test_other_kinds_are_xgboosts(tmp_path: Path, kind: dict[str, Any], reason: str) -> None:
    path = tmp_path / "model.ubj"
    model = train(path, **kind)
    chosen = predictor.choose(path, WIDTH)
    assert chosen.name == "xgboost"
    assert reason in chosen.reason
    rows = rows_for(model)
    assert np.array_equal(chosen.predict(rows), model.inplace_predict(rows))
    with pytest.raises(BundleError, match=reason):
        predictor.choose(path, WIDTH, "fast")


def test_a_linear_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ubj"
    rng = np.random.default_rng(0)
    data = xgboost.DMatrix(rng.normal(size=(50, WIDTH)), rng.normal(size=50))
    xgboost.train({"booster": "gblinear", "nthread": 1}, data, 3).save_model(path)
    with pytest.raises(BundleError, match="the booster is gblinear; want gbtree or dart"):
        predictor.choose(path, WIDTH)


def test_a_difference_of_one_bit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.ubj"
    train(path)
    proven = predictor.fast(booster.load(path, WIDTH), path)

    def take(*_: object) -> Any:
        return off

    def off(matrix: Any) -> Any:
        found = proven(matrix)
        if len(matrix) == 9:
            found[4] = np.nextafter(found[4], np.float32(math.inf))
        return found

    monkeypatch.setattr(predictor, "_lignum", take)
    chosen = predictor.choose(path, WIDTH)
    assert chosen.name == "xgboost"
    assert "differs from XGBoost" in chosen.reason


def test_without_the_fast_predictor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.ubj"
    train(path)
    monkeypatch.setitem(__import__("sys").modules, "lignum", None)
    assert predictor.choose(path, WIDTH).reason == "lignum is not installed"


def test_probes_stand_at_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "model.ubj"
    model = train(path, categorical=True)
    rows = probes.probes(booster.load(path, WIDTH), path.stat().st_size)
    splits: Any = model.trees_to_dataframe()
    for feature in range(2, WIDTH):
        thresholds: Any = splits[splits["Feature"] == f"f{feature}"]["Split"].astype(np.float32).unique()
        here = rows[:, feature]
        for value in thresholds:
            assert {float(value)} < set(here.astype(float))
        below = np.nextafter(thresholds, np.float32(-math.inf))
        assert np.isin(below, here).mean() > 0.8
        assert np.isinf(here).any()
    assert np.isnan(rows[0]).all()
    assert not np.isnan(rows[1:]).any(axis=1).all()
