"""Turns what is wrong with settings into sentences for the person who wrote the stack file.

Every sentence names the key as it stands in the file and what is accepted there; the accepted values come
from the model's own JSON schema, so they cannot go out of date.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Schema = Mapping[str, Any]
Location = Sequence[int | str]

_LONGEST_QUOTE: Final = 80


def key(namespace: str, location: Location) -> str:
    """The place of a value as the stack file has it: `trainserve:models.flights.steps[0]`."""
    if not location:
        return namespace
    text = f"{namespace}:{location[0]}"
    for part in location[1:]:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text


def accepted(schema: Schema, root: Schema) -> str:
    """What a schema accepts, in words."""
    schema = _resolve(schema, root)
    if "accepts" in schema:
        return str(schema["accepts"])
    if "discriminator" in schema:
        tags = ", ".join(schema["discriminator"]["mapping"])
        return f"a section with {schema['discriminator']['propertyName']}, one of {tags}"
    if "enum" in schema or "const" in schema:
        values = [str(value) for value in schema.get("enum", [schema.get("const")])]
        return values[0] if len(values) == 1 else "one of " + ", ".join(values)
    if "anyOf" in schema:
        options = [accepted(option, root) for option in schema["anyOf"] if option.get("type") != "null"]
        return " or ".join(options)
    return _by_type(schema, root)


def complaints(error: ValidationError, model: type[BaseModel], namespace: str) -> list[str]:
    """One sentence for each thing that is wrong."""
    root = model.model_json_schema(by_alias=True)
    sentences: dict[str, None] = {}
    details = error.errors(include_url=False, include_context=True)
    for detail in details:
        if detail["type"] == "too_short" and any(_inside(other, detail) for other in details):
            continue  # only because the wrong items were not counted
        location, schema = _walk(detail["loc"], root)
        sentences[_sentence(detail, location, schema, root, namespace)] = None
    return list(sentences)


def _inside(detail: ErrorDetails, outer: ErrorDetails) -> bool:
    depth = len(outer["loc"])
    return len(detail["loc"]) > depth and detail["loc"][:depth] == outer["loc"]


def _sentence(detail: ErrorDetails, location: Location, schema: Schema, root: Schema, namespace: str) -> str:
    where = key(namespace, location)
    kind = detail["type"]
    if kind == "missing":
        return f"{where} is missing: want {accepted(schema, root)}"
    if kind == "extra_forbidden":
        return _unknown(detail["loc"], root, namespace)
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _untagged(detail, where, schema)
    got = json.dumps(detail["input"], default=str, ensure_ascii=False)
    if len(got) > _LONGEST_QUOTE:
        got = got[: _LONGEST_QUOTE - 1] + "…"
    if kind.startswith("too_"):
        got += f" ({_items(detail)})"
    want = accepted(schema, root)
    if isinstance(detail["input"], int | float) and kind in {"string_type", "literal_error"}:
        got += " (put it in quotes)" if isinstance(detail["input"], bool) else " (a number: put it in quotes)"
    return f"{where}: want {want}, got {got}"


def _items(detail: ErrorDetails) -> str:
    count = detail.get("ctx", {}).get("actual_length")
    return f"{count} of them" if count is not None else "too many"


def _untagged(detail: ErrorDetails, where: str, schema: Schema) -> str:
    known = ", ".join(schema.get("discriminator", {}).get("mapping", {}))
    value = detail["input"]
    got = (
        json.dumps(value.get("op"), default=str)
        if isinstance(value, Mapping)
        else json.dumps(value, default=str)
    )
    return f"{where}.op: want one of {known}, got {got}"


def _unknown(location: Location, root: Schema, namespace: str) -> str:
    path, parent = _walk(location[:-1], root)
    # A section that may be left out is one of two things: itself, or nothing.
    options = [parent, *(_resolve(option, root) for option in parent.get("anyOf", ()))]
    known = sorted({name for option in options for name in option.get("properties", {})})
    name = str(location[-1])
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{key(namespace, [*path, name])} is not a setting: {hint}known here are {', '.join(known)}"


def _walk(location: Location, root: Schema) -> tuple[list[int | str], Schema]:
    """Follows an error's location through the schema; parts that only the validator knows are left out."""
    schema = parent = _resolve(root, root)
    path: list[int | str] = []
    for part in location:
        if part == "[key]":  # the key itself is wrong, and stands in the path already
            schema = {"accepts": parent.get("keys", "another name")}
            continue
        branch = schema.get("discriminator", {}).get("mapping", {}).get(part)
        if branch is not None:
            schema = _resolve({"$ref": branch}, root)
            continue
        found = _child(schema, part, root)
        if found is None and isinstance(part, str) and not _is_object(schema):
            continue  # a branch of a union
        path.append(part)
        parent, schema = schema, found or {}
    return path, schema


def _is_object(schema: Schema) -> bool:
    return bool({"properties", "additionalProperties", "patternProperties"} & schema.keys())


def _child(schema: Schema, part: int | str, root: Schema) -> Schema | None:
    for option in (schema, *schema.get("anyOf", ())):
        candidate = _resolve(option, root)
        if isinstance(part, int):
            found = candidate.get("items")
        else:
            named = {**candidate.get("properties", {})}
            others = [*candidate.get("patternProperties", {}).values(), candidate.get("additionalProperties")]
            found = named.get(part) or others[0]
        if isinstance(found, Mapping):
            return _resolve(cast("Schema", found), root)
    return None


def _resolve(schema: Schema, root: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    name = str(schema["$ref"]).rsplit("/", 1)[-1]
    return {**root["$defs"][name], **{k: v for k, v in schema.items() if k != "$ref"}}


def _by_type(schema: Schema, root: Schema) -> str:
    kind = schema.get("type")
    if kind in {"integer", "number"}:
        return ("a whole number" if kind == "integer" else "a number") + _range(schema)
    if kind == "boolean":
        return "true or false"
    if kind == "array":
        return f"a list{_count(schema)}, each {accepted(schema.get('items', {}), root)}"
    if kind == "object" and "properties" in schema:
        return f"a section with {', '.join(sorted(schema['properties']))}"
    if kind == "object":
        return "a map from name to value"
    return "text" if kind == "string" else "a value"


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if above is not None and below is not None:
        return f" above {above} and below {below}"
    return ""


def _count(schema: Schema) -> str:
    low, high = schema.get("minItems"), schema.get("maxItems")
    return f" of {low} to {high}" if low is not None and high is not None else ""
