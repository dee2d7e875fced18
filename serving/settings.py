"""The server's settings, from environment variables; read once, at start."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

PREFIX = "SERVING_"
LOG_LEVELS = ("debug", "info", "warning", "error")

_Number = TypeVar("_Number", int, float)


class SettingsError(Exception):
    """A setting that cannot be used; the message names the variable and what it accepts."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an operator decides. Each field is the variable `SERVING_<FIELD>`; sizes in bytes."""

    host: str = "0.0.0.0"  # noqa: S104  a pod's port is reached from outside the pod
    port: int = 8080
    model_dir: Path = Path("/opt/ml/model")
    max_body_bytes: int = 6 * 1024 * 1024  # what SageMaker allows a real-time request
    max_header_bytes: int = 16 * 1024
    max_rows: int = 10_000
    request_seconds: float = 30.0  # for a request to arrive whole, and for an answer to be taken
    keepalive_seconds: float = 75.0  # above the 60 s of a load balancer, which must close first
    drain_seconds: float = 20.0  # below the 30 s that Kubernetes waits
    settle_seconds: float = 1.0  # a drain ends early after this long without any connection
    log_level: str = "info"

    def __post_init__(self) -> None:
        if self.log_level not in LOG_LEVELS:
            raise SettingsError(
                f"{PREFIX}LOG_LEVEL: want one of {', '.join(LOG_LEVELS)}, got {self.log_level!r}"
            )
        if self.settle_seconds > self.drain_seconds:
            raise SettingsError(f"{PREFIX}SETTLE_SECONDS: want at most {PREFIX}DRAIN_SECONDS")


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings; raises `SettingsError` naming the first variable that cannot be used."""
    values: dict[str, object] = {}
    for field in fields(Settings):
        variable = PREFIX + field.name.upper()
        text = environment.get(variable)
        if text is not None:
            values[field.name] = _READERS[field.name](variable, text.strip())
    return Settings(**values)  # pyright: ignore[reportArgumentType]  each reader returns its field's type


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the variables with the server's prefix that are no settings of it, most often misspelt."""
    known = {PREFIX + field.name.upper() for field in fields(Settings)}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def _number(
    variable: str, text: str, convert: Callable[[str], _Number], lowest: _Number, highest: _Number
) -> _Number:
    try:
        value = convert(text)
    except ValueError:
        value = None
    if value is None or not math.isfinite(value) or not lowest <= value <= highest:
        raise SettingsError(f"{variable}: want a number from {lowest} to {highest}, got {text!r}")
    return value


def _integer(lowest: int, highest: int) -> Callable[[str, str], int]:
    return lambda variable, text: _number(variable, text, int, lowest, highest)


def _seconds(lowest: float, highest: float) -> Callable[[str, str], float]:
    return lambda variable, text: _number(variable, text, float, lowest, highest)


def _text(variable: str, text: str) -> str:
    if not text:
        raise SettingsError(f"{variable}: is empty")
    return text


_READERS: Mapping[str, Callable[[str, str], object]] = {
    "host": _text,
    "port": _integer(0, 65535),
    "model_dir": lambda variable, text: Path(_text(variable, text)),
    "max_body_bytes": _integer(1024, 1 << 30),
    "max_header_bytes": _integer(1024, 1 << 20),
    "max_rows": _integer(1, 1_000_000),
    "request_seconds": _seconds(0.1, 3600.0),
    "keepalive_seconds": _seconds(0.1, 3600.0),
    "drain_seconds": _seconds(0.0, 3600.0),
    "settle_seconds": _seconds(0.0, 60.0),
    "log_level": lambda variable, text: _text(variable, text).lower(),
}
