"""The pre-processing steps that a model's settings may declare: the same seven that a bundle can hold."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from components.section import ColumnName, Section

Number = Annotated[float, Field(json_schema_extra={"accepts": "a number"})]
Value = Annotated[str | int | float, Field(json_schema_extra={"accepts": "text or a number"})]
Part = Literal["year", "month", "day", "dayofyear", "weekday", "hour", "minute", "second"]


class TimestampParts(Section):
    """Makes `<column>_<part>` of a timestamp, in UTC."""

    op: Literal["timestamp_parts"]
    column: ColumnName
    parts: tuple[Part, ...] = Field(min_length=1, max_length=8)


class Log1p(Section):
    """log(1 + column)."""

    op: Literal["log1p"]
    column: ColumnName
    output: ColumnName | None = None


class Clip(Section):
    """The column, not below `min` and not above `max`."""

    op: Literal["clip"]
    column: ColumnName
    min: Number | None = None
    max: Number | None = None
    output: ColumnName | None = None


class Ratio(Section):
    """column / by."""

    op: Literal["ratio"]
    column: ColumnName
    by: ColumnName
    output: ColumnName


class Difference(Section):
    """column - minus."""

    op: Literal["difference"]
    column: ColumnName
    minus: ColumnName
    output: ColumnName


class Map(Section):
    """Categories to numbers, or to other categories."""

    op: Literal["map"]
    column: ColumnName
    values: Mapping[str, Value] = Field(
        min_length=1, json_schema_extra={"accepts": "a map from category to value"}
    )
    default: Value | None = None
    output: ColumnName | None = None


class Default(Section):
    """`value` where the column is missing."""

    op: Literal["default"]
    column: ColumnName
    value: Value
    output: ColumnName | None = None


Step = Annotated[
    TimestampParts | Log1p | Clip | Ratio | Difference | Map | Default, Field(discriminator="op")
]


def declaration(step: Section) -> dict[str, Any]:
    """The step as training and the bundle read it."""
    return step.model_dump(mode="json", by_alias=True, exclude_none=True)
