import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

import fitting
from configuration import Hyperparameters, from_environment
from errors import Stopped, TrainingError
from evaluation import auc, evaluate, predict
from fitting import Job, Rows

RANDOM = np.random.default_rng(3)


def rows(number: int) -> Rows:
    matrix = RANDOM.normal(size=(number, 3)).astype(np.float32)
    matrix[:, 2] = RANDOM.integers(0, 5, number)
    matrix[RANDOM.random((number, 3)) < 0.05] = np.nan
    noise = RANDOM.normal(0, 1, number)
    target = np.nan_to_num(matrix[:, 0]) + (matrix[:, 2] == 3) + noise > 0.5
    return Rows(matrix=matrix, target=target.astype(np.float64))


TRAIN, WATCHED = rows(1500), rows(400)


def job(**changes: Any) -> Job:
    usual: dict[str, Any] = {
        "train": TRAIN,
        "stopping": None,
        "types": ("q", "q", "c"),
        "parameters": {"objective": "binary:logistic", "seed": 0, "max_depth": 4},
        "metric": "auc",
        "rounds": 30,
        "patience": None,
    }
    return Job(**{**usual, **changes})


def never() -> bool:
    return False


def after(calls: int) -> Callable[[], bool]:
    counter = count()
    return lambda: next(counter) >= calls


def test_the_same_job_gives_the_same_bytes_with_any_number_of_threads() -> None:
    models = [bytes(fitting.fit(job(), threads, None, never).save_raw("ubj")) for threads in (1, 1, 2)]
    assert models[0] == models[1] == models[2]


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early = job(stopping=WATCHED, patience=8, rounds=60)
    for this in (job(), early):
        undisturbed = fitting.fit(this, 1, None, never)
        directory = tmp_path / str(this.rounds)
        with pytest.raises(Stopped, match="stopped after 7 of"):
            fitting.fit(this, 1, directory, after(7))
        with pytest.raises(Stopped, match="stopped after 9 of"):
            fitting.fit(this, 1, directory, after(2))
        resumed = fitting.fit(this, 1, directory, never)
        assert bytes(resumed.save_raw("ubj")) == bytes(undisturbed.save_raw("ubj"))
        assert "resumed after 9 rounds" in capsys.readouterr().out
        assert [path.name for path in directory.iterdir()] == ["checkpoint.ubj"]


def test_a_run_that_samples_rows_goes_on_too(tmp_path: Path) -> None:
    sampled = job(parameters={**job().parameters, "subsample": 0.7, "colsample_bytree": 0.7})
    with pytest.raises(Stopped):
        fitting.fit(sampled, 1, tmp_path, after(7))
    assert fitting.fit(sampled, 1, tmp_path, never).num_boosted_rounds() == 30


def test_a_checkpoint_of_other_data_or_a_broken_one_is_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = bytes(fitting.fit(job(), 1, None, never).save_raw("ubj"))
    with pytest.raises(Stopped):
        fitting.fit(job(train=WATCHED), 1, tmp_path, after(5))
    assert bytes(fitting.fit(job(), 1, tmp_path, never).save_raw("ubj")) == undisturbed
    assert "checkpoint ignored: made from other data or settings" in capsys.readouterr().out
    (tmp_path / "checkpoint.ubj").write_bytes(b"half a file")
    assert bytes(fitting.fit(job(), 1, tmp_path, never).save_raw("ubj")) == undisturbed
    assert "checkpoint ignored: XGBoostError" in capsys.readouterr().out


@pytest.mark.parametrize("metric", ["auc", "logloss", "accuracy", "brier"])
def test_early_stopping_cuts_the_model_after_its_best_round(tmp_path: Path, metric: str) -> None:
    noisy = job(stopping=WATCHED, patience=5, rounds=300, metric=metric)
    booster = fitting.fit(noisy, 1, None, never)
    best = booster.num_boosted_rounds()
    assert 0 < best < 295
    booster.save_model(tmp_path / "model.ubj")
    saved = xgb.Booster(model_file=tmp_path / "model.ubj")
    np.testing.assert_array_equal(predict(saved, TRAIN.matrix), predict(booster, TRAIN.matrix))
    scores = {
        cut: evaluate("binary", WATCHED.target, predict(booster[:cut], WATCHED.matrix))[metric]
        for cut in range(1, best + 1)
    }
    pick = max if metric in {"auc", "accuracy"} else min
    assert scores[best] == pytest.approx(pick(scores.values()), abs=1e-6)


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert auc(np.array([0.0, 1]), np.array([0.5, 0.5])) == 0.5
    target, scores = RANDOM.integers(0, 2, 300).astype(float), RANDOM.integers(0, 9, 300).astype(float)
    pairs = [(p > n) + (p == n) / 2 for p in scores[target == 1] for n in scores[target == 0]]
    assert auc(target, scores) == pytest.approx(np.mean(pairs))


def test_the_other_metrics_are_the_usual_ones() -> None:
    binary = evaluate("binary", np.array([0.0, 1, 1]), np.array([0.2, 0.9, 0.4]))
    assert binary["logloss"] == pytest.approx(-(np.log(0.8) + np.log(0.9) + np.log(0.4)) / 3)
    assert binary["accuracy"] == pytest.approx(2 / 3)
    assert binary["brier"] == pytest.approx((0.04 + 0.01 + 0.36) / 3)
    many = evaluate("multiclass", np.array([0.0, 2]), np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]))
    assert many == pytest.approx({"mlogloss": -(np.log(0.5) + np.log(0.3)) / 2, "accuracy": 0.5})
    values = evaluate("regression", np.array([1.0, 2, 3]), np.array([1.0, 2, 5]))
    assert values == pytest.approx({"rmse": (4 / 3) ** 0.5, "mae": 2 / 3, "r2": -1})
    with pytest.raises(TrainingError, match="one class only"):
        evaluate("binary", np.ones(3), np.ones(3))


def settings(hyperparameters: dict[str, Any], channel: Path) -> Hyperparameters:
    environment = {"SM_CHANNEL_TRAIN": str(channel), "SM_HPS": json.dumps(hyperparameters)}
    return from_environment(environment, []).hyperparameters


def test_values_may_be_texts_holding_json_and_sagemakers_own_are_skipped(tmp_path: Path) -> None:
    typed = {
        "target": "y",
        "task": "binary",
        "eta": 0.2,
        "num_round": 7,
        "drop": ["a"],
        "steps": [{"op": "log1p"}],
    }
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in typed.items()}
    assert settings(typed, tmp_path) == settings({**texts, "sagemaker_program": "train.py"}, tmp_path)
    assert settings(typed, tmp_path).xgboost == {"eta": 0.2}


def test_arguments_serve_where_there_is_no_environment(tmp_path: Path) -> None:
    given = ["--target", "y", "--task", "regression", "--num-round", "9", "--job-name", "mine"]
    run = from_environment({"SM_CHANNEL_TRAIN": str(tmp_path)}, given)
    assert (run.hyperparameters.metric, run.hyperparameters.num_round, run.job) == ("rmse", 9, "mine")
    with pytest.raises(TrainingError, match="want --key value pairs"):
        from_environment({"SM_CHANNEL_TRAIN": str(tmp_path)}, ["target"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"target": None}, "target: missing"),
        ({"task": "rank"}, "task: want one of binary, multiclass, regression, got 'rank'"),
        ({"max_dept": 3}, "'max_dept' is unknown; known are"),
        ({"metric": "rmse"}, "metric: want one of auc"),
        ({"objective": "rank:pairwise"}, "objective: want one of binary:logistic"),
        ({"steps": "[{]"}, "steps: not JSON"),
        ({"steps": '{"op":"clip"}'}, "steps: want a JSON list of objects"),
        ({"drop": "[1]"}, "drop: want a JSON list of column names"),
        ({"drop": '["y"]'}, "target: 'y' is also named in drop"),
        ({"eta": "fast"}, "eta: want a number"),
        ({"num_round": 0}, "num_round: want a number from 1"),
        ({"num_round": 1.5}, "num_round: want a whole number"),
        ({"holdout_fraction": 1}, "holdout_fraction: want a number from 0.001 to 0.9"),
        ({"tree_method": "gpu_hist"}, "tree_method: want one of hist, approx"),
        ({"model": "Not a name"}, "model: 'Not a name' does not match"),
        ({"job_name": "a b"}, "job_name: 'a b' does not match"),
    ],
)
def test_wrong_hyperparameters_are_named(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(TrainingError) as caught:
        settings({"target": "y", "task": "binary", **change}, tmp_path)
    assert reason in str(caught.value)
