"""What all settings share: the rules of a section, and the kinds of text that occur in several."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

NAME_PATTERN: Final = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
"""Stacks, models, namespaces. `--` cannot occur, so it can separate them in a training job's name."""


class Section(BaseModel):
    """Nothing unknown, nothing converted, nothing changed later; camelCase in the file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        allow_inf_nan=False,
    )


def text(pattern: str, accepts: str, max_length: int) -> Any:  # noqa: ANN401  # as Field itself
    """A text of one form, and that form in words for whoever wrote another."""
    return Field(pattern=pattern, max_length=max_length, json_schema_extra={"accepts": accepts})


ColumnName = Annotated[
    str, text(r"^[^\s,\"][^,\"\r\n]*$", "a column's name, at most 100 characters without comma or quote", 100)
]
Cidr = Annotated[str, text(r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$", "an IPv4 network like 10.0.0.0/16", 18)]
