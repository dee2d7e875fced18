"""The server's settings, from environment variables; read once, at start."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar, get_args

Choice = Literal["auto", "fast", "xgboost"]
"""A predictor: the fast one wherever it is proven, the fast one or none, XGBoost's own."""

RequestLines = Literal["off", "errors", "on"]
"""Which requests are logged: none, those that are refused, all."""

PREFIX = "SERVING_"
SAGEMAKER_MULTI_MODEL = "SAGEMAKER_MULTI_MODEL"  # set by SageMaker for an endpoint of several models
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "log_level": ("debug", "info", "warning", "error"),
    "log_requests": get_args(RequestLines),
    "predictor": get_args(Choice),
}

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,255}")
"""What a model can be called here."""

_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/|$)")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_Number = TypeVar("_Number", int, float)


class SettingsError(Exception):
    """A setting that cannot be used; the message names the variable and what it accepts."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an operator decides. Each field is the variable `SERVING_<FIELD>`; sizes in bytes."""

    host: str = "0.0.0.0"  # noqa: S104  a pod's port is reached from outside the pod
    port: int = 8080
    workers: int | None = None  # processes on that port; None: one for each whole processor
    grpc_port: int | None = None  # None: no gRPC, and nothing of it is imported
    model_dir: Path = Path("/opt/ml/model")  # one bundle
    models_dir: Path | None = None  # instead: each directory in it a bundle, called by the directory's name
    models_api: bool = False  # whoever reaches the port may load and unload models; needs one worker
    preload: bool = True  # load what models_dir holds at start
    max_models: int = 100
    default_model: str = ""  # of requests that name no model; empty: the only one there is
    split: tuple[tuple[str, float], ...] = ()  # instead: models and their shares of such requests
    shadow: str = ""  # a model that predicts what others are asked, without an answer
    shadow_fraction: float = 1.0
    predictor: Choice = "auto"
    max_body_bytes: int = 6 * 1024 * 1024  # what SageMaker allows a real-time request
    max_header_bytes: int = 16 * 1024
    max_rows: int = 10_000
    max_connections: int = 4096
    max_queue_seconds: float = 2.0  # that a request may lie unread before it is turned away
    grpc_max_calls: int = 1000  # at once; further ones are refused
    request_seconds: float = 30.0  # for a request to arrive whole, and for an answer to be taken
    keepalive_seconds: float = 75.0  # above the 60 s of a load balancer, which must close first
    drain_seconds: float = 20.0  # below the 30 s that Kubernetes waits
    settle_seconds: float = 1.0  # a drain ends early after this long without any connection
    tls_cert_file: Path | None = None  # PEM, the chain; with the key's file: TLS instead of plain HTTP
    tls_key_file: Path | None = None
    tls_self_signed: bool = False  # both are made at start, for one who encrypts and does not check
    log_level: str = "info"
    log_requests: RequestLines = "errors"
    capture_to: str = ""  # s3://bucket/prefix, or a directory; empty: nothing is captured
    capture_percentage: float = 100.0  # of the requests, chosen at random
    capture_flush_seconds: float = 60.0  # a record waits no longer in memory
    capture_flush_bytes: int = 4 * 1024 * 1024  # so many are written at once
    capture_memory_bytes: int = 32 * 1024 * 1024  # of records in memory; what does not fit is dropped
    subject_header: str = "x-subject-id"  # names whom a request is about; captured only as a hash
    subject_key_file: Path | None = None  # the hash's secret key

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise SettingsError(
                    f"{PREFIX}{name.upper()}: want one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        if self.models_api and self.workers not in {None, 1}:
            raise SettingsError(
                f"{PREFIX}MODELS_API: needs {PREFIX}WORKERS=1: such a request reaches one worker only"
            )
        if self.port and self.grpc_port == self.port:
            raise SettingsError(f"{PREFIX}GRPC_PORT: {self.port} is the HTTP server's")
        if self.settle_seconds > self.drain_seconds:
            raise SettingsError(f"{PREFIX}SETTLE_SECONDS: want at most {PREFIX}DRAIN_SECONDS")
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            missing = "CERT" if self.tls_cert_file is None else "KEY"
            raise SettingsError(f"{PREFIX}TLS_{missing}_FILE: is missing; certificate and key go together")
        if self.capture_memory_bytes < self.capture_flush_bytes:
            raise SettingsError(f"{PREFIX}CAPTURE_MEMORY_BYTES: want at least {PREFIX}CAPTURE_FLUSH_BYTES")
        self._check_models()

    def _check_models(self) -> None:
        if self.split and self.default_model:
            raise SettingsError(f"{PREFIX}SPLIT: excludes {PREFIX}DEFAULT_MODEL")
        if self.shadow and self.shadow in {self.default_model, *(name for name, _ in self.split)}:
            raise SettingsError(f"{PREFIX}SHADOW: {self.shadow!r} already answers such requests")
        self._check_tls()
        for variable in ("split", "shadow", "default_model", "models_api"):
            if getattr(self, variable) and self.models_dir is None:
                raise SettingsError(f"{PREFIX}{variable.upper()}: needs {PREFIX}MODELS_DIR")

    def _check_tls(self) -> None:
        if self.grpc_port is not None and self.tls_cert_file is not None:
            raise SettingsError(f"{PREFIX}GRPC_PORT: excludes {PREFIX}TLS_CERT_FILE, which covers HTTP only")
        if self.tls_self_signed and self.tls_cert_file is None:
            raise SettingsError(
                f"{PREFIX}TLS_SELF_SIGNED: needs {PREFIX}TLS_CERT_FILE and {PREFIX}TLS_KEY_FILE"
            )
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            missing = "CERT" if self.tls_cert_file is None else "KEY"
            raise SettingsError(f"{PREFIX}TLS_{missing}_FILE: is missing; certificate and key go together")
        for variable in ("split", "shadow", "default_model"):
            if getattr(self, variable) and self.models_dir is None:
                raise SettingsError(f"{PREFIX}{variable.upper()}: needs {PREFIX}MODELS_DIR")

    @property
    def captures(self) -> bool:
        """Whether anything is captured."""
        return bool(self.capture_to) and self.capture_percentage > 0


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings; raises `SettingsError` naming the first variable that cannot be used."""
    values: dict[str, object] = {}
    if environment.get(SAGEMAKER_MULTI_MODEL, "").lower() == "true":
        values.update(models_dir=Path("/opt/ml/models"), models_api=True, preload=False)
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


def _name(variable: str, text: str) -> str:
    if not MODEL_NAME.fullmatch(text):
        raise SettingsError(f"{variable}: want a model's name, got {text!r}")
    return text


def _target(variable: str, text: str) -> str:
    if text and not (_BUCKET.match(text) or text.startswith("/")):
        raise SettingsError(f"{variable}: want s3://bucket/prefix or an absolute path, got {text!r}")
    return text


def _header(variable: str, text: str) -> str:
    if not _HEADER.fullmatch(text):
        raise SettingsError(f"{variable}: want a header's name, got {text!r}")
    return text.lower()


def _flag(variable: str, text: str) -> bool:
    if text.lower() not in {"on", "off"}:
        raise SettingsError(f"{variable}: want on or off, got {text!r}")
    return text.lower() == "on"


def _split(variable: str, text: str) -> tuple[tuple[str, float], ...]:
    """Read `champion=90,challenger=10`: shares, which need not sum to 100."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = (piece.strip() for piece in part.partition("="))
        if _name(variable, name) in shares:
            raise SettingsError(f"{variable}: {name!r} comes twice")
        shares[name] = _number(variable, weight, float, 0.0, 1e9)
    if not sum(shares.values()):
        raise SettingsError(f"{variable}: every share is 0")
    return tuple(shares.items())


_READERS: Mapping[str, Callable[[str, str], object]] = {
    "host": _text,
    "port": _integer(0, 65535),
    "workers": _integer(1, 256),
    "grpc_port": _integer(0, 65535),
    "model_dir": lambda variable, text: Path(_text(variable, text)),
    "models_dir": lambda variable, text: Path(_text(variable, text)),
    "models_api": _flag,
    "preload": _flag,
    "max_models": _integer(1, 10_000),
    "default_model": _name,
    "split": _split,
    "shadow": _name,
    "shadow_fraction": lambda variable, text: _number(variable, text, float, 0.0, 1.0),
    "predictor": lambda variable, text: _text(variable, text).lower(),
    "max_body_bytes": _integer(1024, 1 << 30),
    "max_header_bytes": _integer(1024, 1 << 20),
    "max_rows": _integer(1, 1_000_000),
    "max_connections": _integer(1, 1_000_000),
    "max_queue_seconds": _seconds(0.01, 3600.0),
    "grpc_max_calls": _integer(1, 100_000),
    "request_seconds": _seconds(0.1, 3600.0),
    "keepalive_seconds": _seconds(0.1, 3600.0),
    "drain_seconds": _seconds(0.0, 3600.0),
    "settle_seconds": _seconds(0.0, 60.0),
    "tls_cert_file": lambda variable, text: Path(_text(variable, text)),
    "tls_key_file": lambda variable, text: Path(_text(variable, text)),
    "tls_self_signed": _flag,
    "log_level": lambda variable, text: _text(variable, text).lower(),
    "log_requests": lambda variable, text: _text(variable, text).lower(),
    "capture_to": _target,
    "capture_percentage": lambda variable, text: _number(variable, text, float, 0.0, 100.0),
    "capture_flush_seconds": _seconds(0.1, 3600.0),
    "capture_flush_bytes": _integer(1024, 1 << 30),
    "capture_memory_bytes": _integer(1024, 1 << 34),
    "subject_header": _header,
    "subject_key_file": lambda variable, text: Path(_text(variable, text)),
}
