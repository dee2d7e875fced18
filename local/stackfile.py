"""One stack's settings, as the Pulumi CLI reads them: Pulumi.yaml, Pulumi.<stack>.yaml, overrides."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from local.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SECRET_TEXT = "[secret]"  # noqa: S105  # stands where only the CLI could decrypt
_SCHEMA_KEYS = {"type", "default", "value", "description", "items", "secret"}


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """One stack's configuration in the form in which programs receive it."""

    project: Path
    project_name: str
    stack: str
    values: Mapping[str, str]
    """"namespace:key" to text; structured values are JSON."""
    secret_keys: frozenset[str]

    @classmethod
    def load(cls, project: Path, stack: str, overrides: Mapping[str, str]) -> StackConfig:
        """Read the files of `project`.

        `overrides` replace keys, "key" or "namespace:key", or what a dotted path within one names:
        "training.bootstrapData". Texts that are JSON are taken as such within structured values.

        Raises:
            ProgramError: no such project or stack, or a file that is not YAML.
        """
        head = _read(project / "Pulumi.yaml")
        if "name" not in head:
            raise ProgramError(f"{project / 'Pulumi.yaml'}: no project there")
        file = project / f"Pulumi.{stack}.yaml"
        if not file.exists():
            known = sorted(path.name.split(".")[1] for path in project.glob("Pulumi.*.yaml"))
            raise ProgramError(
                f"no stack {stack!r}: {file.name} does not exist; there are: {', '.join(known)}"
            )
        name = str(head["name"])
        values: dict[str, Any] = {}
        for key, declared in (head.get("config") or {}).items():
            if (value := _default(declared)) is not None:
                values[_qualified(name, key)] = value
        for key, value in (_read(file).get("config") or {}).items():
            values[_qualified(name, key)] = value
        for key, text in overrides.items():
            _override(values, _qualified(name, key), text)
        plain = {key: _without_secrets(value) for key, value in values.items()}
        return cls(
            project=project,
            project_name=name,
            stack=stack,
            values={key: _text(value) for key, value in plain.items()},
            secret_keys=frozenset(key for key in values if plain[key] != values[key]),
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProgramError(f"{path.name} cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ProgramError(f"{path.name}: want a mapping, got {type(content).__name__}")
    return content


def _qualified(project: str, key: str) -> str:
    return key if ":" in key else f"{project}:{key}"


def _default(declared: object) -> object:
    """What Pulumi.yaml gives a key: a value, or the `default` or `value` of its declaration."""
    if isinstance(declared, dict) and declared.keys() <= _SCHEMA_KEYS:
        return declared.get("value", declared.get("default"))
    return declared


def _override(values: dict[str, Any], path: str, text: str) -> None:
    namespace, _, rest = path.partition(":")
    first, *inner = rest.split(".")
    key = f"{namespace}:{first}"
    if not inner:
        values[key] = text
        return
    node: Any = values.setdefault(key, {})
    if isinstance(node, str):
        node = values[key] = json.loads(node)
    for part in inner[:-1]:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    node[int(inner[-1]) if isinstance(node, list) else inner[-1]] = value


def _without_secrets(value: Any) -> Any:  # noqa: ANN401  # YAML
    if isinstance(value, dict):
        if value.keys() == {"secure"}:
            return _SECRET_TEXT
        return {key: _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
