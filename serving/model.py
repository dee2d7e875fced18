"""A bundle directory becomes a model that has proved itself, or a reason why not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle import format as bundle_format
from bundle.format import BundleError, Manifest
from bundle.preprocess import PreprocessError, Preprocessor
from serving import booster, formats, predictor
from serving.settings import Choice

_FILES = ("bundle.json", "model.ubj", "baseline.json", "golden.json")


class NoModelError(Exception):
    """There is no bundle yet."""


class Model:
    """A model in memory: rows in the order of the bundle's columns → matrix → predictions."""

    def __init__(self, directory: Path, manifest: Manifest, max_rows: int, choice: Choice) -> None:
        self.name = manifest.name
        self.version = manifest.version
        self.columns = manifest.columns
        self.digest = bundle_format.digest(directory)
        self.width = len(manifest.features)
        self.predictor, self.predict, self.predictor_reason = predictor.choose(
            directory / bundle_format.MODEL, self.width, choice
        )
        self._preprocessor = Preprocessor.of(manifest)
        self.plain = self._preprocessor.is_identity
        self.reader = formats.Reader(manifest.columns, max_rows, quick=self.plain)
        self.classes = len(manifest.classes or ()) if manifest.task == "multiclass" else 0

    def prepare(self, rows: Sequence[formats.Row]) -> NDArray[np.float32]:
        """Return the model's input for the rows of a request; raises `PreprocessError`."""
        return self._preprocessor.transform_rows(rows)

    def reproduce(self, golden: bundle_format.Golden) -> None:
        """Check that the golden rows give the golden predictions; raises `BundleError`."""
        try:
            found = self.predict(self.prepare(golden.rows))
        except PreprocessError as error:
            raise BundleError(f"golden.json: a golden row is refused: {error}") from error
        shape = (len(golden.rows), self.classes) if self.classes else (len(golden.rows),)
        if found.shape != shape:
            raise BundleError(f"model.ubj: gives predictions of shape {found.shape}, want {shape}")
        wanted = np.array(golden.predictions, dtype=np.float64)
        # Not `difference > tolerance`: that would let NaN through.
        wrong = ~(np.abs(found - wanted) <= bundle_format.GOLDEN_TOLERANCE)
        if wrong.any():
            row = int(np.argwhere(wrong)[0][0])
            gives, wants = found[row].tolist(), wanted[row].tolist()
            reason = f"golden predictions are not reproduced: row {row + 1} gives {gives}, want {wants}"
            raise BundleError(f"golden.json: {reason} within {bundle_format.GOLDEN_TOLERANCE:g}")


def load(directory: Path, max_rows: int, choice: Choice = "auto") -> Model:
    """Load, verify and prove the bundle in `directory`.

    Raises `NoModelError` when there is none, `BundleError` when there is one that must not serve.
    """
    if not any((directory / name).exists() for name in _FILES):
        raise NoModelError("no model released yet")
    manifest = bundle_format.verify(directory)
    bundle_format.check_xgboost(manifest, booster.version())
    model = Model(directory, manifest, max_rows, choice)
    model.reproduce(bundle_format.read_golden(directory, manifest))
    return model
