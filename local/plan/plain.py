"""Inputs as JSON that can be shown and compared: no secrets, references for outputs, hashes for files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from local.emulators import ACCOUNT
from local.wire import UNKNOWN, Archive, Asset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.engine import Resource

SECRET: Final = "[secret]"  # noqa: S105  # stands where a secret would
_SECRET_KEYS: Final = frozenset(
    {"secretString", "secretBinary", "password", "masterPassword", "authToken", "privateKey", "secretKey"}
)
_KUBERNETES_SECRET: Final = "kubernetes:core/v1:Secret"  # noqa: S105  # a type
_MIN_SECRET = 4
_HASH = 16
_GENERATED: Final = re.compile(r"^(arn:|https?://|sg-[0-9a-f]{17}$|sgrule-)|amazonaws\.com")


class Plain:
    """Turns the inputs of one run into JSON values."""

    def __init__(self, resources: Sequence[Resource], project: Path) -> None:
        self._project = project.resolve()
        found = references(resources)
        self._references = found
        self._pattern = _alternatives(found)
        self._secrets = {text for resource in resources for text in _secret_texts(resource)}
        self._hidden = _alternatives(self._secrets)

    def inputs(self, resource: Resource) -> dict[str, Any]:
        """The inputs of `resource`."""
        secret = set(resource.secret_inputs)
        return {
            key: self._value(value, key, key, secret, resource.type) for key, value in resource.inputs.items()
        }

    def text(self, text: str) -> str:
        """A text without secrets, and with references for what was made up."""
        text = self._hidden.sub(SECRET, text) if self._secrets else text
        text = self._pattern.sub(lambda match: self._references[match[0]], text) if self._references else text
        return _ACCOUNT.sub("${account}", text)

    def _value(self, value: Any, key: str, at: str, secret: set[str], kind: str) -> Any:  # noqa: ANN401, PLR0911
        if at in secret or (key in _SECRET_KEYS and value is not UNKNOWN and value is not None):
            return SECRET
        if kind == _KUBERNETES_SECRET and at.startswith(("data.", "stringData.")):
            return SECRET
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                str(name): self._value(item, str(name), f"{at}.{name}", secret, kind)
                for name, item in value.items()
            }
        if isinstance(value, Asset | Archive):
            return self._files(value)
        if isinstance(value, Sequence):
            return [self._value(item, "", f"{at}.{index}", secret, kind) for index, item in enumerate(value)]
        return "<unknown>" if value is UNKNOWN else value

    def _files(self, value: Asset | Archive) -> dict[str, Any]:
        """What is in files, as hashes: code that changed is a change."""
        if isinstance(value, Archive) and value.assets is not None:
            return {"archive": {name: self._files(asset) for name, asset in sorted(value.assets.items())}}
        if isinstance(value, Asset) and value.text is not None:
            return {"text": _digest(value.text.encode())}
        if value.path is None:
            return {"uri": self.text(value.uri or "")}
        path = self._project / value.path
        inside = path.is_relative_to(self._project)
        name = str(path.relative_to(self._project)) if inside else path.name
        return {"file": name, "sha256": _digest_of(path)}


def references(resources: Sequence[Resource]) -> dict[str, str]:
    """What was made up in place of a provider's outputs, and the reference that stands for it."""
    found: dict[str, str] = {}
    for resource in resources:
        if resource.is_component:
            continue
        mark = hashlib.sha256(resource.urn.encode()).hexdigest()[:7]
        given = set(_texts(resource.inputs))
        for name, value in [*_outputs(resource.outputs), ("id", resource.id)]:
            made_up = mark in value.lower() or _GENERATED.search(value)
            if made_up and value not in given:
                found.setdefault(value, f"${{{resource.name}.{name}}}")
    return found


def _outputs(outputs: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    for name, value in outputs.items():
        if isinstance(value, str) and "{" not in value:
            yield f"{at}{name}", value
        elif isinstance(value, Mapping):
            yield from _outputs(value, f"{at}{name}.")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)


def _secret_texts(resource: Resource) -> Iterator[str]:
    """The values that must not show anywhere, not even as a part of another value."""
    found: list[object] = [_at(resource.inputs, path) for path in resource.secret_inputs]
    found += [value for key, value in resource.inputs.items() if key in _SECRET_KEYS]
    if resource.type == _KUBERNETES_SECRET:
        found += [resource.inputs.get(key) for key in ("data", "stringData")]
    for text in _texts(found):
        if len(text) >= _MIN_SECRET and text != SECRET:
            yield text
            if (quoted := json.dumps(text)[1:-1]) != text:
                yield quoted


def _at(value: Any, path: str) -> object:  # noqa: ANN401  # walks anything
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, Sequence) and not isinstance(value, str) and part.isdigit():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def _alternatives(texts: Mapping[str, str] | set[str]) -> re.Pattern[str]:
    """Matches any of the texts, the longest there is."""
    return re.compile("|".join(re.escape(text) for text in sorted(texts, key=lambda t: (-len(t), t))))


_ACCOUNT: Final = re.compile(rf"(?<!\d){re.escape(ACCOUNT)}(?!\d)")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_HASH]


def _digest_of(path: Path) -> str:
    if path.is_file():
        return _digest(path.read_bytes())
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    names = "".join(f"{file.relative_to(path)}:{_digest(file.read_bytes())}\n" for file in files)
    return _digest(names.encode())
