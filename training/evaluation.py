"""Predictions and metrics: challenger and champion judged by the same rows, each as its bundle says."""

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from bundle import format as bundle_format
from bundle.format import BundleError, Manifest, Task
from bundle.preprocess import PreprocessError, Preprocessor
from configuration import METRICS, Hyperparameters
from dataset import Data
from errors import TrainingError

Floats = NDArray[np.float64]
_TINY: Final = 1e-15


@dataclass(frozen=True)
class Model:
    """A bundle that can predict; `preprocessor` takes unknown categories as missing, whatever it declares."""

    manifest: Manifest
    digest: str
    booster: xgb.Booster
    preprocessor: Preprocessor

    def predict(self, raw: Mapping[str, Any]) -> Floats:
        """Return predictions of raw columns, (rows,) or of a multiclass model (rows, classes)."""
        return predict(self.booster, self.preprocessor.transform(raw))


def predict(booster: xgb.Booster, matrix: NDArray[np.float32]) -> Floats:
    """Return a model's predictions exactly as a server makes them."""
    return np.asarray(booster.inplace_predict(matrix), dtype=np.float64)


def lenient(manifest: Manifest) -> Preprocessor:
    """Return a bundle's pre-processing for judging: rows that a server would refuse are judged, too."""
    columns = [replace(column, unknown="missing") for column in manifest.columns]
    return Preprocessor(columns, manifest.steps, manifest.features)


def load_champion(channel: Path) -> Model:
    """Return the model in service, from a `model.tar.gz` or an unpacked bundle; raises `TrainingError`."""
    archives = sorted(channel.rglob("model.tar.gz"))
    found = sorted(path.parent for path in channel.rglob(bundle_format.MANIFEST))
    try:
        if archives:
            with tempfile.TemporaryDirectory() as unpacked:
                bundle_format.unpack(archives[0], Path(unpacked))
                return load(Path(unpacked))
        if found:
            return load(found[0])
    except (BundleError, xgb.core.XGBoostError) as error:
        raise TrainingError(f"the champion cannot be read: {error}") from error
    raise TrainingError(
        f"the champion cannot be read: neither model.tar.gz nor {bundle_format.MANIFEST} in {channel}"
    )


def load(directory: Path) -> Model:
    """Return the model of a verified bundle."""
    manifest = bundle_format.verify(directory)
    bundle_format.check_xgboost(manifest, xgb.__version__)
    booster = xgb.Booster({"nthread": 1}, model_file=str(directory / bundle_format.MODEL))
    return Model(manifest, bundle_format.digest(directory), booster, lenient(manifest))


def check_champion(champion: Manifest, asked: Hyperparameters) -> None:
    """Raise `TrainingError` if champion and challenger do not predict the same thing."""
    for what, old, new in (("target", champion.target, asked.target), ("task", champion.task, asked.task)):
        if old != new:
            raise TrainingError(
                f"the champion's {what} is {old!r}, this model's {new!r}: they cannot be compared"
            )


def judge(model: Model, rows: Data, what: str) -> dict[str, float]:
    """Return the model's metrics on the rows."""
    try:
        predictions = model.predict(rows.raw)
    except PreprocessError as error:
        raise TrainingError(f"the {what} cannot read the held-out rows: {error}") from error
    return evaluate(model.manifest.task, rows.target, predictions)


def evaluate(task: Task, target: Floats, predictions: Floats) -> dict[str, float]:
    """Return all metrics of a task; raises `TrainingError` if the rows do not define one."""
    if task == "binary" and len(np.unique(target)) < 2:
        raise TrainingError("the rows to judge by hold one class only: more rows are needed")
    found = {name: _METRICS[name](target, predictions) for name in METRICS[task]}
    for name, value in found.items():
        if not math.isfinite(value):
            raise TrainingError(f"{name} is {value} on the rows to judge by")
    return found


def auc(target: Floats, scores: Floats) -> float:
    """Return the area under the ROC curve; equal scores count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = float(target.sum())
    negative = len(target) - positive
    return float((ranks[target == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _logloss(target: Floats, scores: Floats) -> float:
    likely = np.clip(np.where(target == 1, scores, 1 - scores), _TINY, 1)
    return float(-np.log(likely).mean())


def _mlogloss(target: Floats, scores: Floats) -> float:
    likely = scores[np.arange(len(target)), target.astype(np.intp)]
    return float(-np.log(np.clip(likely, _TINY, 1)).mean())


def _accuracy(target: Floats, scores: Floats) -> float:
    chosen = scores.argmax(axis=1) if scores.ndim == 2 else scores >= 0.5
    return float((chosen == target).mean())


def _r2(target: Floats, values: Floats) -> float:
    spread = float(((target - target.mean()) ** 2).sum())
    # Of rows that are all the same nothing can be explained.
    return 1 - float(((target - values) ** 2).sum()) / spread if spread else 0.0


_METRICS: Final[Mapping[str, Callable[[Floats, Floats], float]]] = {
    "auc": auc,
    "logloss": _logloss,
    "mlogloss": _mlogloss,
    "accuracy": _accuracy,
    "brier": lambda target, scores: float(((target - scores) ** 2).mean()),
    "rmse": lambda target, values: math.sqrt(float(((target - values) ** 2).mean())),
    "mae": lambda target, values: float(np.abs(target - values).mean()),
    "r2": _r2,
}
