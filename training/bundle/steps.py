"""The steps of pre-processing: each is declared by a JSON object and compiled into one NumPy operation.

Compiling checks a step against the columns that are there when its turn comes, and declares what it makes:
so a wrong step is refused when a bundle is made or loaded, never when a row arrives.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bundle.decode import BundleError, decode
from bundle.format import Column, Feature

Schema = dict[str, Column | Feature]
"""What each column is, in order; steps change it as they are compiled."""
Frame = dict[str, NDArray[Any]]
"""One array a column: numbers and category codes as float64 with NaN, timestamps as datetime64[us]."""
Action = Callable[[Frame], None]
Array = NDArray[np.float64]


class StepError(BundleError):
    """A step that cannot be run: unknown operation, unknown column, wrong parameter."""


class Step(Protocol):
    """One operation; `compile` declares its output in the schema and returns what computes it."""

    def compile(self, schema: Schema) -> Action:
        """Raise `StepError` if the step does not suit the schema."""
        ...


@dataclass(frozen=True, kw_only=True)
class TimestampParts:
    """Make `<column>_<part>` of a timestamp, in UTC; Monday is weekday 0."""

    column: str
    parts: tuple[Literal["year", "month", "day", "dayofyear", "weekday", "hour", "minute", "second"], ...]

    def compile(self, schema: Schema) -> Action:
        """Declare one numeric column a part."""
        column, parts = _known(schema, self.column, "timestamp"), self.parts
        if not parts or len(set(parts)) != len(parts):
            raise StepError(f"parts: want some, each once, got {list(parts)}")
        for part in parts:
            _declare(schema, f"{column}_{part}", Feature(name=f"{column}_{part}"))

        def run(frame: Frame) -> None:
            moments = frame[column]
            missing = np.isnat(moments)
            moments = np.where(missing, np.datetime64(0, "us"), moments)
            for part in parts:
                frame[f"{column}_{part}"] = np.where(missing, np.nan, _PARTS[part](moments))

        return run


@dataclass(frozen=True, kw_only=True)
class Log1p:
    """log(1 + column); missing where the column is not above -1."""

    column: str
    output: str | None = None

    def compile(self, schema: Schema) -> Action:
        """Declare a numeric column."""

        def log1p(values: Array) -> Array:
            return np.log1p(np.where(values > -1, values, np.nan))

        return _one(schema, self.column, self.output, log1p)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The column, not below `min` and not above `max`."""

    column: str
    min: float | None = None
    max: float | None = None
    output: str | None = None

    def compile(self, schema: Schema) -> Action:
        """Declare a numeric column."""
        low = -math.inf if self.min is None else self.min
        high = math.inf if self.max is None else self.max
        if (self.min is None and self.max is None) or low > high:
            raise StepError(f"want min, max or both, min not above max, got {self.min} and {self.max}")
        return _one(schema, self.column, self.output, lambda values: np.clip(values, low, high))


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """column / by; missing where `by` is 0."""

    column: str
    by: str
    output: str

    def compile(self, schema: Schema) -> Action:
        """Declare a numeric column."""

        def ratio(values: Array, by: Array) -> Array:
            return values / np.where(by == 0, np.nan, by)

        return _two(schema, (self.column, self.by), self.output, ratio)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """column - minus."""

    column: str
    minus: str
    output: str

    def compile(self, schema: Schema) -> Action:
        """Declare a numeric column."""
        return _two(schema, (self.column, self.minus), self.output, np.subtract)


@dataclass(frozen=True, kw_only=True)
class Map:
    """Categories to numbers, or to other categories; `default` (else missing) for those not in `values`.

    A missing value stays missing.
    """

    column: str
    values: Mapping[str, Any]
    default: Any = None
    output: str | None = None

    def compile(self, schema: Schema) -> Action:
        """Declare a numeric or a categorical column, by what the values are."""
        column, output = _known(schema, self.column, "categorical"), self.output or self.column
        results = [*self.values.values(), *([] if self.default is None else [self.default])]
        texts = [result for result in results if isinstance(result, str)]
        if (
            not self.values
            or (texts and len(texts) != len(results))
            or not (texts or all(map(_is_number, results)))
        ):
            raise StepError("values, default: want numbers only, or texts only")
        mapped = [self.values.get(text, self.default) for text in schema[column].categories]
        made = tuple(sorted(set(texts)))
        if made:
            mapped = [None if text is None else made.index(text) for text in mapped]
        table = np.array(
            [*(math.nan if value is None else value for value in mapped), math.nan], dtype=np.float64
        )
        _declare(
            schema, output, Feature(name=output, type="categorical" if made else "numeric", categories=made)
        )

        def run(frame: Frame) -> None:
            codes = frame[column]
            frame[output] = table[np.where(np.isnan(codes), len(table) - 1, codes).astype(np.intp)]

        return run


@dataclass(frozen=True, kw_only=True)
class Default:
    """`value` where the column is missing: a number, or a category."""

    column: str
    value: Any
    output: str | None = None

    def compile(self, schema: Schema) -> Action:
        """Declare a column of the same type."""
        column, output = _known(schema, self.column, "numeric", "categorical"), self.output or self.column
        kind, categories = schema[column].type, schema[column].categories
        if kind == "categorical" and isinstance(self.value, str) and self.value:
            categories = categories if self.value in categories else (*categories, self.value)
            fill = float(categories.index(self.value))
            _declare(schema, output, Feature(name=output, type="categorical", categories=categories))
        elif kind == "numeric" and _is_number(self.value):
            fill = float(self.value)
            _declare(schema, output, Feature(name=output))
        else:
            raise StepError(f"value: {self.value!r:.80} is not a value of the {kind} column {column!r}")

        def run(frame: Frame) -> None:
            frame[output] = np.where(np.isnan(frame[column]), fill, frame[column])

        return run


OPERATIONS: Final[Mapping[str, type[Step]]] = {
    "timestamp_parts": TimestampParts,
    "log1p": Log1p,
    "ratio": Ratio,
    "difference": Difference,
    "clip": Clip,
    "map": Map,
    "default": Default,
}
"""Every operation by its name in a declaration."""


def parse_step(step: Mapping[str, Any], where: str) -> Step:
    """Return the step that a JSON object declares; raises `StepError`, naming `where`."""
    op = step.get("op")
    kind = OPERATIONS.get(op) if isinstance(op, str) else None
    if kind is None:
        raise StepError(f"{where}: op: want one of {', '.join(OPERATIONS)}, got {op!r:.80}")
    try:
        return decode(kind, {key: value for key, value in step.items() if key != "op"}, where)
    except BundleError as error:
        raise StepError(str(error)) from error


def _known(schema: Schema, column: str, *types: str) -> str:
    found = schema.get(column)
    if found is None:
        raise StepError(f"unknown column {column!r}; there are {', '.join(schema)}")
    if found.type not in types:
        raise StepError(f"column {column!r} is {found.type}, want {' or '.join(types)}")
    return column


def _declare(schema: Schema, name: str, made: Feature) -> None:
    if not name:
        raise StepError("output: empty")
    schema[name] = made


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _finite(values: Array) -> Array:
    """What has left the range of numbers is missing: the model takes no infinities."""
    return np.where(np.isfinite(values), values, np.nan)


def _one(schema: Schema, column: str, output: str | None, compute: Callable[[Array], Array]) -> Action:
    _known(schema, column, "numeric")
    made = output if output is not None else column
    _declare(schema, made, Feature(name=made))

    def run(frame: Frame) -> None:
        frame[made] = compute(frame[column])

    return run


def _two(
    schema: Schema, columns: tuple[str, str], made: str, compute: Callable[[Array, Array], Array]
) -> Action:
    first, second = (_known(schema, column, "numeric") for column in columns)
    _declare(schema, made, Feature(name=made))

    def run(frame: Frame) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            frame[made] = _finite(compute(frame[first], frame[second]))

    return run


def _since(moments: NDArray[Any], unit: str, step: str) -> NDArray[np.int64]:
    """How many whole `step`s have passed since the moment's `unit` began."""
    begun = moments.astype(f"datetime64[{unit}]").astype("datetime64[us]")
    return (moments - begun) // np.timedelta64(1, step)


_PARTS: Final[Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]]] = {
    "year": lambda moments: moments.astype("datetime64[Y]").astype(np.int64) + 1970,
    "month": lambda moments: moments.astype("datetime64[M]").astype(np.int64) % 12 + 1,
    "day": lambda moments: _since(moments, "M", "D") + 1,
    "dayofyear": lambda moments: _since(moments, "Y", "D") + 1,
    # 1970-01-01 was a Thursday.
    "weekday": lambda moments: (moments.astype("datetime64[D]").astype(np.int64) + 3) % 7,
    "hour": lambda moments: _since(moments, "D", "h"),
    "minute": lambda moments: _since(moments, "h", "m"),
    "second": lambda moments: _since(moments, "m", "s"),
}
