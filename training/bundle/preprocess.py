"""Pre-processing: from raw values to the model's matrix, the same code in training and in serving."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bundle import values
from bundle.format import Column, Feature, Manifest
from bundle.steps import OPERATIONS, Action, Frame, Schema, StepError, parse_step

Raw = Sequence[Any] | NDArray[Any]
Matrix = NDArray[np.float32]

__all__ = ["OPERATIONS", "PreprocessError", "Preprocessor", "StepError", "features_of"]


class PreprocessError(ValueError):
    """A value that must be refused. `row` counts from 0 (None: not one row's fault); the message from 1."""

    def __init__(self, column: str | None, row: int | None, reason: str) -> None:
        place = [] if row is None else [f"row {row + 1}"]
        place += [] if column is None else [f"column {column!r}"]
        super().__init__(f"{', '.join(place)}: {reason}")
        self.column = column
        self.row = row
        self.reason = reason


class Preprocessor:
    """Turns raw columns into the model's input.

    Args:
        columns: what a request holds.
        steps: declarations, run in order; each may use and replace what came before.
        features: what the model takes, in its order; None: all that is there after the steps.

    Raises:
        StepError: a step or a feature that does not suit the columns.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        steps: Sequence[Mapping[str, Any]] = (),
        features: Sequence[Feature] | None = None,
    ) -> None:
        schema, self._actions = _compile(columns, steps)
        self.columns: Final = tuple(columns)
        self.features: Final = _features(schema) if features is None else tuple(features)
        for feature in self.features:
            _check_feature(feature, schema)
        self._names = tuple(column.name for column in columns)
        self._readers = tuple(_reader(column) for column in columns)

    @classmethod
    def of(cls, manifest: Manifest) -> "Preprocessor":
        """Return the pre-processing that a bundle declares."""
        return cls(manifest.columns, manifest.steps, manifest.features)

    @property
    def is_identity(self) -> bool:
        """Whether the model's input is a plain copy of the request: numbers only, same order, no steps."""
        numeric = all(column.type == "numeric" for column in self.columns)
        return (
            numeric and not self._actions and self._names == tuple(feature.name for feature in self.features)
        )

    def transform(self, raw: Mapping[str, Raw]) -> Matrix:
        """Return (rows, features) of raw columns of equal length; other columns than ours are ignored.

        Raises `PreprocessError` at the first value that must be refused.
        """
        frame: Frame = {}
        for name, read in zip(self._names, self._readers, strict=True):
            if name not in raw:
                raise PreprocessError(name, None, "missing")
            frame[name] = read(raw[name])
        return self._finish(frame, len(frame[self._names[0]]))

    def transform_rows(self, rows: Sequence[Sequence[Any]]) -> Matrix:
        """Return (rows, features) of rows whose values stand in the order of `columns`."""
        width = len(self._names)
        for number, row in enumerate(rows):
            if len(row) != width:
                raise PreprocessError(None, number, f"want {width} values, got {len(row)}")
        columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * width
        parts = zip(self._names, self._readers, columns, strict=True)
        return self._finish({name: read(column) for name, read, column in parts}, len(rows))

    def _finish(self, frame: Frame, rows: int) -> Matrix:
        for action in self._actions:
            action(frame)
        matrix = np.empty((rows, len(self.features)), dtype=np.float32)
        # A step's result may leave the range of 32-bit floats; the clip keeps infinities out of the model.
        for index, feature in enumerate(self.features):
            matrix[:, index] = np.clip(frame[feature.name], -_LARGEST, _LARGEST)
        return matrix


def features_of(columns: Sequence[Column], steps: Sequence[Mapping[str, Any]]) -> tuple[Feature, ...]:
    """Return all that a model can take after the steps: everything but timestamps."""
    return _features(_compile(columns, steps)[0])


_LARGEST: Final = float(np.finfo(np.float32).max)


def _compile(
    columns: Sequence[Column], steps: Sequence[Mapping[str, Any]]
) -> tuple[Schema, tuple[Action, ...]]:
    schema: Schema = {column.name: column for column in columns}
    actions: list[Action] = []
    for index, step in enumerate(steps):
        where = f"steps[{index}]"
        parsed = parse_step(step, where)
        try:
            actions.append(parsed.compile(schema))
        except StepError as error:
            raise StepError(f"{where}: {step['op']}: {error}") from error
    return schema, tuple(actions)


def _features(schema: Schema) -> tuple[Feature, ...]:
    return tuple(
        Feature(name=name, type=item.type, categories=item.categories)
        for name, item in schema.items()
        if item.type != "timestamp"
    )


def _check_feature(feature: Feature, schema: Schema) -> None:
    made = schema.get(feature.name)
    if made is None:
        raise StepError(
            f"features: {feature.name}: neither a column nor made by a step; there are {', '.join(schema)}"
        )
    if (made.type, made.categories) != (feature.type, feature.categories):
        raise StepError(f"features: {feature.name}: its type or categories are not those that the steps make")


def _reader(column: Column) -> Callable[[Raw], NDArray[Any]]:
    if column.type == "numeric":
        return lambda raw: _numbers(column.name, raw)
    if column.type == "timestamp":
        return lambda raw: _moments(column.name, raw)
    codes = {text: float(code) for code, text in enumerate(column.categories)}
    return lambda raw: _codes(column, codes, raw)


def _numbers(name: str, raw: Raw) -> NDArray[np.float64]:
    if isinstance(raw, np.ndarray) and raw.dtype.kind in "fiub":
        numbers = raw.astype(np.float64)
        if (bad := np.flatnonzero(np.abs(numbers) > _LARGEST)).size:
            raise PreprocessError(name, int(bad[0]), "not a number that the model can hold")
        return numbers
    return np.array(_each(name, raw, values.number), dtype=np.float64)


def _moments(name: str, raw: Raw) -> NDArray[np.datetime64]:
    if isinstance(raw, np.ndarray) and raw.dtype.kind == "M":
        return raw.astype("datetime64[us]")
    nothing = np.iinfo(np.int64).min
    found = [nothing if moment is None else moment for moment in _each(name, raw, values.timestamp)]
    return np.array(found, dtype=np.int64).view("datetime64[us]")


def _codes(column: Column, codes: Mapping[str, float], raw: Raw) -> NDArray[np.float64]:
    def code(value: object) -> float:
        # Nearly every value stands in the table as it is.
        found = codes.get(value) if isinstance(value, str) else None
        if found is None:
            text = values.category(value)
            found = math.nan if text is None else codes.get(text)
            if found is None:
                if column.unknown == "refuse":
                    raise ValueError(f"{value!r:.80} is not a known category")
                found = math.nan
        return found

    return np.array(
        _each(column.name, raw.tolist() if isinstance(raw, np.ndarray) else raw, code), dtype=np.float64
    )


def _each(name: str, raw: Raw, read: Callable[[object], Any]) -> list[Any]:
    found: list[Any] = []
    append = found.append
    try:
        for value in raw:
            append(read(value))
    except ValueError as error:
        raise PreprocessError(name, len(found), str(error)) from error
    return found
