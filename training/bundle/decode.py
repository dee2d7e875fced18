"""Strict reading of JSON into dataclasses, with errors that name the field. Standard library only."""

import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Final, Literal, NoReturn, cast, get_args, get_origin, get_type_hints

_WANTED: Final[Mapping[Any, str]] = {
    str: "a text",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    tuple: "a list",
}


class BundleError(Exception):
    """A bundle that must not be used; the message names the file, the field and the reason."""


def fail(where: str, reason: str) -> NoReturn:
    """Refuse the bundle because of what stands at `where`."""
    raise BundleError(f"{where}: {reason}")


def parse(text: bytes | str, name: str) -> object:
    """Return a file's JSON value; a key twice in an object, NaN and infinities are refused."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("an object has the same key twice")
        return dict(pairs)

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name}: not valid JSON: {error}") from error


def decode(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401, PLR0911 - one return a kind of value
    """Return a JSON value as the annotated type `kind`; anything else is refused by name."""
    origin, options = get_origin(kind), get_args(kind)
    if kind is Any or (value is None and type(None) in options):
        return value
    if type(None) in options:
        return decode(options[0], value, where)
    if is_dataclass(kind) and isinstance(value, dict):
        return _decode_object(cast("type[Any]", kind), cast("dict[str, Any]", value), where)
    if origin is tuple and isinstance(value, list):
        items = cast("list[Any]", value)
        return tuple(decode(options[0], item, f"{where}[{index}]") for index, item in enumerate(items))
    if origin in {dict, Mapping} and isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {key: decode(options[1], item, f"{where}: {key}") for key, item in pairs}
    if kind is float and isinstance(value, int | float) and _is_finite(value):
        return value
    if (origin is Literal and value in options) or (kind in {str, int, bool} and type(value) is kind):
        return value
    wanted = "one of " + ", ".join(map(str, options)) if origin is Literal else _WANTED.get(origin or kind)
    fail(where, f"want {wanted or 'an object'}, got {value!r:.80}")


def _decode_object(kind: type[Any], value: dict[str, Any], where: str) -> Any:  # noqa: ANN401
    hints = get_type_hints(kind)
    for item in fields(kind):
        if item.name not in value and item.default is MISSING and item.default_factory is MISSING:
            fail(where, f"{item.name}: missing")
    for key in value:
        if key not in hints:
            fail(where, f"{key}: unknown field")
    return kind(**{key: decode(hints[key], item, f"{where}: {key}") for key, item in value.items()})


def _is_finite(value: float) -> bool:
    # Not math.isfinite, which raises on whole numbers that no float can hold.
    return not isinstance(value, bool) and abs(value) <= sys.float_info.max
