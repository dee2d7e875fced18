"""Fitting the trees round by round, with early stopping, checkpoints, and a clean stop between rounds."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from configuration import GREATER_IS_BETTER, Hyperparameters
from errors import Stopped

Matrix = NDArray[np.float32]
_CHECKPOINT: Final = "checkpoint.ubj"
_SECONDS_BETWEEN: Final = 20.0
_ROUNDS_BETWEEN_LINES: Final = 10
# What early stopping calls our metrics; brier's square root is rmse, which has the same order.
_XGBOOST_METRICS: Final = {"accuracy": "merror", "brier": "rmse", "r2": "rmse"}


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A model's input and the target."""

    matrix: Matrix
    target: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that decides what is fitted; `types` are XGBoost's, "q" or "c" a feature."""

    train: Rows
    stopping: Rows | None
    types: tuple[str, ...]
    parameters: Mapping[str, Any]
    metric: str
    rounds: int
    patience: int | None

    def fingerprint(self) -> str:
        """Return what a checkpoint must have been made from to be taken up again."""
        hasher = hashlib.sha256(
            json.dumps([self.types, sorted(self.parameters.items()), self.patience]).encode()
        )
        for rows in (self.train, self.stopping):
            if rows is not None:
                hasher.update(rows.matrix.tobytes() + rows.target.tobytes())
        return hasher.hexdigest()


@dataclass(frozen=True)
class Progress:
    """How far a run has come; `best` is the round after which the stopping rows were predicted best."""

    rounds: int = 0
    best: int = 0
    score: float | None = None


def parameters(asked: Hyperparameters, classes: int) -> dict[str, Any]:
    """Return XGBoost's parameters: the asked ones on top of what keeps a model reproducible."""
    usual: dict[str, Any] = {"tree_method": "hist", "seed": 0}
    fixed: dict[str, Any] = {"objective": asked.objective, "verbosity": 1}
    if asked.task == "multiclass":
        fixed["num_class"] = classes
    return {**usual, **asked.xgboost, **fixed}


def fit(job: Job, threads: int, checkpoints: Path | None, stop: Callable[[], bool]) -> xgb.Booster:
    """Return the fitted trees, cut after the best round where rows to stop by are given.

    A run that is stopped (spot capacity reclaimed) saves a checkpoint and raises `Stopped`; the next run on
    the same data goes on from there. It makes the same model as an undisturbed one, unless rows or columns
    are sampled (subsample, colsample_*): XGBoost does not keep its random state.
    """
    fingerprint = job.fingerprint() if checkpoints else ""
    train = _matrix(job.train, job.types, threads)
    watched = None if job.stopping is None else _matrix(job.stopping, job.types, threads)
    options = {**job.parameters, "nthread": threads, "eval_metric": _metric(job)}
    booster, done = _resume(checkpoints, fingerprint, options)
    booster = booster or xgb.Booster(options, cache=[train])
    saved = time.monotonic()
    while done.rounds < job.rounds and not _is_over(done, job.patience):
        if stop():
            _save(checkpoints, fingerprint, booster, done)
            raise Stopped(f"stopped after {done.rounds} of {job.rounds} rounds")
        booster.update(train, done.rounds)
        done = _advance(done, None if watched is None else _score(booster, watched, done.rounds), job.metric)
        if done.rounds % _ROUNDS_BETWEEN_LINES == 0 or done.rounds == job.rounds:
            print(f"round {done.rounds} of {job.rounds}", flush=True)
        if checkpoints and time.monotonic() - saved > _SECONDS_BETWEEN:
            _save(checkpoints, fingerprint, booster, done)
            saved = time.monotonic()
    booster.set_attr(progress=None, fingerprint=None)
    return booster[: done.best] if watched is not None else booster


def _matrix(rows: Rows, types: tuple[str, ...], threads: int) -> xgb.DMatrix:
    return xgb.DMatrix(
        rows.matrix, rows.target, feature_types=list(types), enable_categorical=True, nthread=threads
    )


def _metric(job: Job) -> str:
    if job.metric == "accuracy" and job.parameters["objective"] == "binary:logistic":
        return "error"
    return _XGBOOST_METRICS.get(job.metric, job.metric)


def _score(booster: xgb.Booster, watched: xgb.DMatrix, number: int) -> float:
    return float(booster.eval_set([(watched, "stopping")], number).rsplit(":", 1)[1])


def _advance(done: Progress, score: float | None, metric: str) -> Progress:
    if score is None:
        return Progress(done.rounds + 1, done.rounds + 1)
    # Of accuracy and r2 XGBoost reports the error.
    greater = metric in GREATER_IS_BETTER and metric not in _XGBOOST_METRICS
    if done.score is None or (score > done.score if greater else score < done.score):
        return Progress(done.rounds + 1, done.rounds + 1, score)
    return Progress(done.rounds + 1, done.best, done.score)


def _is_over(done: Progress, patience: int | None) -> bool:
    return patience is not None and done.rounds - done.best >= patience


def _save(checkpoints: Path | None, fingerprint: str, booster: xgb.Booster, done: Progress) -> None:
    """Write one file, atomically: SageMaker copies the directory away at any moment."""
    if checkpoints is None:
        return
    checkpoints.mkdir(parents=True, exist_ok=True)
    booster.set_attr(progress=json.dumps(vars(done)), fingerprint=fingerprint)
    partial = checkpoints / f"{_CHECKPOINT}.partial"
    partial.write_bytes(booster.save_raw("ubj"))
    partial.replace(checkpoints / _CHECKPOINT)
    print(f"checkpoint after {done.rounds} rounds", flush=True)


def _resume(
    checkpoints: Path | None, fingerprint: str, options: Mapping[str, Any]
) -> tuple[xgb.Booster | None, Progress]:
    if checkpoints is None or not (checkpoints / _CHECKPOINT).is_file():
        return None, Progress()
    try:
        booster = xgb.Booster(dict(options), model_file=str(checkpoints / _CHECKPOINT))
        progress = Progress(**json.loads(booster.attr("progress") or "null"))
    except (xgb.core.XGBoostError, TypeError, ValueError) as error:
        print(f"checkpoint ignored: {type(error).__name__}", flush=True)
        return None, Progress()
    if booster.attr("fingerprint") != fingerprint:
        print("checkpoint ignored: made from other data or settings", flush=True)
        return None, Progress()
    print(f"resumed after {progress.rounds} rounds", flush=True)
    return booster, progress
