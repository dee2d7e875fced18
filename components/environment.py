"""Reads the stack's settings once, before any resource, and stops with everything that is wrong."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env
from pydantic import ValidationError

from components.archives import ROOT
from components.checks import problems
from components.complaints import complaints
from components.settings import NAMESPACE, Settings


class SettingsError(pulumi.RunError):
    """Settings that cannot be used; the message is for the person who wrote the stack file."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One environment: which stack, where, and its settings."""

    name: str
    region: str
    settings: Settings


def raw_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values under this program's namespace, decoded; a section that is no JSON stays text."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        namespace, _, name = key.partition(":")
        if namespace != NAMESPACE or not name:
            continue
        try:
            values[name] = json.loads(value) if isinstance(value, str) else value
        except json.JSONDecodeError:
            values[name] = value
    return values


def parse(values: Mapping[str, Any], *, stack: str, region: str, root: Path = ROOT) -> Settings:
    """Validates settings; SettingsError lists every problem, each with its key and the accepted values."""
    found: list[str] = []
    settings: Settings | None = None
    if not region:
        found.append("aws:region is missing: want the region of this stack, like us-east-1")
    elif region.startswith(("cn-", "us-gov-", "us-iso")):
        found.append(f"aws:region: want a commercial region, got {region}")
    elif not re.fullmatch(r"[a-z]{2}-[a-z]+-\d", region):
        found.append(f"aws:region: want a region like us-east-1, got {region}")
    try:
        settings = Settings.model_validate_json(json.dumps(values))
    except ValidationError as error:
        found += complaints(error, Settings, NAMESPACE)
    else:
        found += problems(settings, stack, region, root)
    if found or settings is None:
        lines = "\n".join(f"  - {line}" for line in found)
        raise SettingsError(f"Pulumi.{stack}.yaml: {len(found)} setting(s) cannot be used:\n{lines}")
    return settings


def load() -> Stack:
    """The settings of the stack that is being run."""
    config = {**get_config_env(), **CONFIG.get()}
    name = pulumi.get_stack()
    region = pulumi.Config("aws").get("region") or ""
    return Stack(name=name, region=region, settings=parse(raw_settings(config), stack=name, region=region))
