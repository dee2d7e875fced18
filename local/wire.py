"""Pulumi's wire format: property structs to plain Python values and back, without an event loop."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import struct_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  # a marker, no secret
_ASSET: Final = "c44067f5952c0a294b673a41bacd8c17"
_ARCHIVE: Final = "0def7320c3a5731c473e5ecbe6d01bc7"
_RESOURCE: Final = "5cf8f73096256a8f31e491e813e4eb8e"
_OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
_UNKNOWN_WIRE: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


EMPTY: Final = struct_pb2.Struct()


class Unknown:
    """A value that only the real provider would know; there is one of it, `UNKNOWN`."""

    def __repr__(self) -> str:
        return "<unknown>"


UNKNOWN: Final = Unknown()


@dataclass(frozen=True, kw_only=True)
class Asset:
    """Bytes: of a file, or a text."""

    path: str | None = None
    text: str | None = None
    uri: str | None = None


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Files by their name in the archive, or a file or folder that is an archive already."""

    assets: Mapping[str, Asset | Archive] | None = None
    path: str | None = None
    uri: str | None = None


def to_plain(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Inputs as plain values: secrets unwrapped, references as ids or URNs, whole numbers as int."""
    return {key: _plain(value) for key, value in struct.fields.items()}


def secret_paths(struct: struct_pb2.Struct, at: str = "") -> Iterator[str]:
    """Where secrets stand in a struct: dotted paths, list indexes included."""
    for key, value in struct.fields.items():
        yield from _secrets(value, f"{at}.{key}" if at else key)


def _secrets(value: struct_pb2.Value, at: str) -> Iterator[str]:
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        for index, item in enumerate(value.list_value.values):
            yield from _secrets(item, f"{at}.{index}")
    elif kind == "struct_value":
        fields = value.struct_value.fields
        signature = fields[_SIGNATURE].string_value if _SIGNATURE in fields else ""
        if signature == _SECRET or (signature == _OUTPUT and fields["secret"].bool_value):
            yield at
        elif signature == _OUTPUT:
            yield from _secrets(fields["value"], at)
        else:
            yield from secret_paths(value.struct_value, at)


def merged(struct: struct_pb2.Struct, values: Mapping[str, Any]) -> struct_pb2.Struct:
    """`struct` with `values` put over it; values may hold nothing but JSON and what `reference` returns."""
    result = struct_pb2.Struct()
    result.CopyFrom(struct)
    for key, value in values.items():
        result.fields[key].CopyFrom(_value(value))
    return result


def reference(urn: str, resource_id: str) -> dict[str, str]:
    """A reference to a registered resource, as a value for `merged`."""
    return {_SIGNATURE: _RESOURCE, "urn": urn, "id": resource_id}


def unknowns(value: object) -> Iterator[Unknown]:
    """Every unknown in a plain value."""
    if isinstance(value, Unknown):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from unknowns(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from unknowns(item)


def _plain(value: struct_pb2.Value) -> Any:  # noqa: ANN401  # JSON and more
    match value.WhichOneof("kind"):
        case "string_value":
            return UNKNOWN if value.string_value == _UNKNOWN_WIRE else value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "struct_value":
            return _special(value.struct_value)
        case _:
            return None


def _special(struct: struct_pb2.Struct) -> Any:  # noqa: ANN401  # JSON and more
    if _SIGNATURE not in struct.fields:
        return to_plain(struct)
    fields = {key: _plain(value) for key, value in struct.fields.items() if key != _SIGNATURE}
    match struct.fields[_SIGNATURE].string_value:
        case str(kind) if kind == _ASSET:
            return Asset(path=fields.get("path"), text=fields.get("text"), uri=fields.get("uri"))
        case str(kind) if kind == _ARCHIVE:
            return Archive(assets=fields.get("assets"), path=fields.get("path"), uri=fields.get("uri"))
        case str(kind) if kind == _RESOURCE:
            return fields.get("id") or fields["urn"]
        case _:  # secrets and output values
            return fields.get("value", UNKNOWN)


def _value(value: object) -> struct_pb2.Value:
    result = struct_pb2.Value()
    if value is None:
        result.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, Unknown):
        result.string_value = _UNKNOWN_WIRE
    elif isinstance(value, bool):
        result.bool_value = value
    elif isinstance(value, int | float):
        result.number_value = value
    elif isinstance(value, str):
        result.string_value = value
    elif isinstance(value, Mapping):
        result.struct_value.SetInParent()
        for key, item in value.items():
            result.struct_value.fields[str(key)].CopyFrom(_value(item))
    elif isinstance(value, Sequence):
        result.list_value.SetInParent()
        for item in value:
            result.list_value.values.append(_value(item))
    else:
        raise TypeError(f"{type(value).__name__} cannot be an output")
    return result


def dumps(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"))
