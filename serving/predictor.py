"""Which predictor serves a model: XGBoost's own, or a faster one that has proved to give the same bits.

docs/decisions/0002-predictor.md says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from bundle.format import BundleError
from serving import booster as boosters
from serving import probes

if TYPE_CHECKING:
    from pathlib import Path

    from serving.booster import Booster
    from serving.settings import Choice

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Predictions, (rows,) or (rows, classes), of a C-contiguous matrix in which NaN is missing."""

# Kinds of models that the fast predictor is known to compute as XGBoost does. `binary:hinge` and the booster
# `dart` are not, and it does not say so.
OBJECTIVES: Final = frozenset(
    (
        "binary:logistic",
        "binary:logitraw",
        "count:poisson",
        "multi:softprob",
        "reg:absoluteerror",
        "reg:gamma",
        "reg:logistic",
        "reg:pseudohubererror",
        "reg:quantileerror",
        "reg:squarederror",
        "reg:squaredlogerror",
        "reg:tweedie",
    )
)
# It takes other paths through the trees for one row, for few and for many.
_SIZES: Final = (*[1] * 32, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)


class Predictor(NamedTuple):
    """A predictor: what it is called in logs and metrics, and why it is not the fast one ("": it is)."""

    name: str
    predict: Predict
    reason: str = ""


class NotProvenError(Exception):
    """The fast predictor must not serve this model; the message says why."""


def choose(path: Path, width: int, choice: Choice = "auto") -> Predictor:
    """Return the predictor of a model of `width` features.

    Raises `BundleError` when the model cannot be loaded, or the fast predictor is wanted and not proven.
    """
    booster = boosters.load(path, width)
    reason = "chosen"
    if choice != "xgboost":
        try:
            return Predictor("lignum", fast(booster, path))
        except NotProvenError as error:
            reason = str(error)
            if choice == "fast":
                raise BundleError(f"{path.name}: the fast predictor cannot serve it: {reason}") from error
    return Predictor("xgboost", booster.predict, reason)


def fast(booster: Booster, path: Path) -> Predict:
    """Return the fast predictor after comparing it with XGBoost bit for bit; raises `NotProvenError`."""
    check_kind(booster)
    predict = _lignum(booster, path)
    rows = probes.probes(booster, path.stat().st_size)
    wanted = booster.predict(rows)
    start = 0
    for size in (*_SIZES, len(rows)):
        part = slice(0, size) if size == len(rows) else slice(start, start + size)
        found = predict(rows[part])
        if found.shape != wanted[part].shape or found.tobytes() != wanted[part].tobytes():
            raise NotProvenError(f"it differs from XGBoost on probe rows from {part.start}")
        start += size
    return predict


def check_kind(booster: Booster) -> None:
    """Raise `NotProvenError` unless the model is of a kind that the fast predictor knows."""
    learner: dict[str, Any] = orjson.loads(booster.config())["learner"]
    trees = learner["gradient_booster"]
    objective = learner["objective"]["name"]
    if trees["name"] != "gbtree":
        raise NotProvenError(f"the booster is {trees['name']}")
    if objective not in OBJECTIVES:
        raise NotProvenError(f"the objective is {objective}")
    if learner["learner_model_param"]["num_target"] != "1":
        raise NotProvenError("there are several targets")
    if learner["learner_train_param"]["multi_strategy"] != "one_output_per_tree":
        raise NotProvenError("its trees have several outputs")
    if trees["gbtree_model_param"]["num_parallel_tree"] != "1":
        raise NotProvenError("it is a random forest")


def _lignum(booster: Booster, path: Path) -> Predict:
    try:
        import lignum  # noqa: PLC0415  an option: the server runs without it
    except ImportError as error:
        raise NotProvenError("lignum is not installed") from error
    try:
        if booster.iterations == booster.rounds:
            # For as many rows as a turn brings, the direct walk through the trees is the faster one.
            model = lignum.load(str(path), format="xgboost", binned=False)
        else:
            model = _load_sliced(lignum, booster)
    except Exception as error:
        raise NotProvenError(f"lignum does not take it: {error}") from error

    def predict(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        # It computes in 32 bits as XGBoost does, and gives and takes 64.
        return model.predict(matrix, n_jobs=1).astype(np.float32)

    return predict


def _load_sliced(lignum: Any, booster: Booster) -> Any:  # noqa: ANN401  an untyped module
    """Load the iterations that count: it knows nothing of the best one, and reads nothing but files."""
    if not hasattr(os, "memfd_create"):
        raise NotProvenError("it stopped early")
    file = os.memfd_create("model")
    try:
        with os.fdopen(file, "wb", closefd=False) as stream:
            stream.write(booster.sliced().save("ubj"))
        return lignum.load(f"/proc/self/fd/{file}", format="xgboost", binned=False)
    finally:
        os.close(file)
