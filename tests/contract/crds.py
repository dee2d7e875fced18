"""What an API server checks of a custom resource: its CRD's schema, strictly, and the rules in it (CEL)."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cel
import yaml
from jsonschema import Draft202012Validator

Schema = Mapping[str, Any]


def schemas(*files: Path) -> dict[tuple[str, str], Schema]:
    """(API version, kind) → schema, of all CRDs in these files."""
    found: dict[tuple[str, str], Schema] = {}
    for file in files:
        for crd in yaml.load_all(file.read_text(encoding="utf-8"), yaml.CSafeLoader):
            names, group = crd["spec"]["names"], crd["spec"]["group"]
            for version in crd["spec"]["versions"]:
                found[f"{group}/{version['name']}", names["kind"]] = version["schema"]["openAPIV3Schema"]
    return found


def problems(schema: Schema, document: Mapping[str, Any]) -> list[str]:
    """Everything that an API server would say against this object as a new one."""
    whole = _defaulted(schema, document)
    wrong = [
        f"{error.json_path}: {error.message}"
        for error in Draft202012Validator(_strict(schema)).iter_errors(whole)
    ]
    return wrong or list(_broken_rules(schema, whole, "$"))


def _defaulted(schema: Schema, value: Any) -> Any:
    """A value with the schema's defaults, which the server puts in before it looks."""
    if isinstance(value, Mapping):
        properties: Mapping[str, Schema] = schema.get("properties", {})
        other = schema.get("additionalProperties")
        defaults = {name: of["default"] for name, of in properties.items() if "default" in of}
        return {
            name: _defaulted(properties.get(name) or (other if isinstance(other, dict) else {}), item)
            for name, item in {**defaults, **value}.items()
        }
    if isinstance(value, list):
        return [_defaulted(schema.get("items", {}), item) for item in value]
    return value


def _strict(schema: Schema) -> dict[str, Any]:
    """A structural schema as JSON Schema, in which an unknown field is an error."""
    found = dict(schema)
    if "properties" in schema:
        found["properties"] = {name: _strict(of) for name, of in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            found["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found[key] = _strict(schema[key])
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    elif schema.get("nullable"):
        found["type"] = [schema["type"], "null"]
    return found


def _broken_rules(schema: Schema, value: Any, path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", []):
        # Rules over the old object say nothing of a new one.
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            yield f"{path}: {rule.get('message', rule['rule'])}"
    if isinstance(value, Mapping):
        for name, item in value.items():
            of = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if isinstance(of, dict):
                yield from _broken_rules(of, item, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _broken_rules(schema.get("items", {}), item, f"{path}[{index}]")


def _holds(rule: str, value: Any) -> bool:
    """Raises for a rule with a function that is neither CEL's own nor one of the two below."""
    context = cel.Context({"self": value})
    context.add_function("find", _find)
    context.add_function("split", str.split)
    return cel.evaluate(rule, context) is True


def _find(text: str, pattern: str) -> str:
    """Kubernetes' own: the first match, or nothing."""
    found = re.search(pattern, text)
    return found.group(0) if found else ""
