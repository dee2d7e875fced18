"""One stack's settings, as the Pulumi CLI reads them: Pulumi.yaml, Pulumi.<stack>.yaml, overrides."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local import stackyaml
from local.errors import ProgramError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Stands where only the CLI could decrypt; a setting of a certain form is refused with these words.
_SECRET_TEXT = "[secret]: only the Pulumi CLI can read it; here it must be plain"  # noqa: S105
_NEARLY = 0.9
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
        head = stackyaml.read(project / "Pulumi.yaml")
        if "name" not in head:
            raise ProgramError(f"{project / 'Pulumi.yaml'}: no project there")
        file = stack_file(project, stack)
        if file is None:
            raise ProgramError(
                f"no stack {stack!r}: Pulumi.{stack}.yaml does not exist; "
                f"there are: {', '.join(stacks(project))}"
            )
        name = str(head["name"])
        values: dict[str, Any] = {}
        for key, declared in _config("Pulumi.yaml", head).items():
            if (value := _default(declared)) is not None:
                values[_qualified(name, key)] = value
        for key, value in _config(file.name, stackyaml.read(file)).items():
            _check_namespace(file.name, name, key)
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


def stacks(project: Path) -> list[str]:
    """The stacks that have a file."""
    files = (path.name for path in project.glob("Pulumi.*.yaml"))
    return sorted(name.removeprefix("Pulumi.").removesuffix(".yaml") for name in files)


def stack_file(project: Path, stack: str) -> Path | None:
    """A stack's file; None if there is none, or cannot be: a name may be too long for any file."""
    path = project / f"Pulumi.{stack}.yaml"
    try:
        return path if path.is_file() else None
    except OSError:
        return None


def _config(file: str, content: Mapping[str, Any]) -> dict[str, Any]:
    config = content.get("config")
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise ProgramError(f"{file}: config: want a mapping from key to value, got {stackyaml.kind(config)}")
    return config


def _check_namespace(file: str, project: str, key: str) -> None:
    """Nobody reads what stands under a misspelt project, and nobody would say so."""
    namespace, _, rest = key.rpartition(":")
    if namespace != project and difflib.get_close_matches(namespace, [project], cutoff=_NEARLY):
        raise ProgramError(f"{file}: {key}: did you mean {project}:{rest}? No program reads {namespace}")


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
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    try:
        node: Any = values.setdefault(key, {})
        if isinstance(node, str):
            node = values[key] = json.loads(node)
        for part in inner[:-1]:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[int(inner[-1]) if isinstance(node, list) else inner[-1]] = value
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ProgramError(
            f"{path}: no such place: want parts of a mapping, or of a list that long"
        ) from error


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
