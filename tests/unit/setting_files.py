"""The stack files' settings, and what is said against a change of them."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.environment import SettingsError, parse

ROOT = Path(__file__).resolve().parents[2]
REMOVED = object()


def values(stack: str) -> dict[str, Any]:
    content = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"]
    return {k.removeprefix("trainserve:"): v for k, v in content.items() if k.startswith("trainserve:")}


def changed(stack: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Dotted key → value put there; REMOVED takes the key away."""
    document = copy.deepcopy(values(stack))
    for path, value in changes.items():
        *parts, last = path.split(".")
        node = document
        for part in parts:
            node = node.setdefault(part, {})
        if value is REMOVED:
            del node[last]
        else:
            node[last] = value
    return document


def refusal(
    changes: dict[str, Any], stack: str = "dev", *, name: str | None = None, region: str = "us-east-1"
) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(changed(stack, changes), stack=name or stack, region=region)
    return str(caught.value)
