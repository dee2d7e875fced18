"""What a function is told: its environment, and one configuration object per model."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from common.errors import Permanent


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The function's environment variables."""

    stack: str
    state_table: str
    artifact_bucket: str
    config_prefix: str = "config/"

    @staticmethod
    def read(environ: Mapping[str, str] | None = None) -> "Environment":
        """Read the environment; raises Permanent naming what is missing."""
        values = os.environ if environ is None else environ
        missing = [name for name in ("STACK", "STATE_TABLE", "ARTIFACT_BUCKET") if not values.get(name)]
        if missing:
            raise Permanent(f"environment: {', '.join(missing)} not set")
        return Environment(
            stack=values["STACK"],
            state_table=values["STATE_TABLE"],
            artifact_bucket=values["ARTIFACT_BUCKET"],
            config_prefix=values.get("CONFIG_PREFIX") or "config/",
        )


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Where a model is served."""

    cluster: str
    namespace: str
    deployment: str
    container: str = "server"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model's configuration, which the infrastructure program writes."""

    model: str
    training_job: Mapping[str, Any]
    content_type: str | None
    data_bucket: str
    artifact_bucket: str
    margin: float
    package_group: str
    repository_uri: str
    server_tag: str
    architecture: str
    workload: Workload
    rollout_timeout_s: float
    queue_url: str
    max_attempts: int

    @staticmethod
    def parse(document: object, where: str) -> "ModelConfig":
        """Read the object; raises Permanent naming the key that is wrong."""
        reader = _Reader(document, where)
        workload = _Reader(reader.value("workload", dict), f"{where}: workload")
        gate = _Reader(reader.value("gate", dict, {}), f"{where}: gate")
        rollout = _Reader(reader.value("rollout", dict, {}), f"{where}: rollout")
        channels = _Reader(reader.value("channels", dict, {}), f"{where}: channels")
        config = ModelConfig(
            model=reader.text("model"),
            training_job=reader.value("training_job", dict),
            content_type=channels.value("content_type", (str, type(None)), None),
            data_bucket=reader.text("data_bucket"),
            artifact_bucket=reader.text("artifact_bucket"),
            margin=float(gate.value("margin", (int, float), 0.0)),
            package_group=reader.text("package_group"),
            repository_uri=reader.text("repository_uri"),
            server_tag=reader.text("server_tag"),
            architecture=reader.value("architecture", str, "amd64"),
            workload=Workload(
                cluster=workload.text("cluster"),
                namespace=workload.text("namespace"),
                deployment=workload.text("deployment"),
                container=workload.value("container", str, "server"),
            ),
            rollout_timeout_s=float(rollout.value("timeout_s", (int, float), 600)),
            queue_url=reader.text("queue_url"),
            max_attempts=int(reader.value("max_attempts", int, 3)),
        )
        if not config.margin >= 0:
            raise Permanent(f"{where}: gate.margin: want 0 or more, got {config.margin}")
        return config


_REQUIRED = object()
# Checked at run time against the type that the caller names.
_Checked: TypeAlias = Any


class _Reader:
    """Typed look-ups in a JSON object that say what was wrong, and where."""

    def __init__(self, document: object, where: str) -> None:
        if not isinstance(document, dict):
            raise Permanent(f"{where}: want a JSON object")
        self._document = cast("dict[str, Any]", document)
        self._where = where

    def value(self, key: str, kind: type | tuple[type, ...], default: object = _REQUIRED) -> _Checked:
        value = self._document.get(key, default)
        if value is _REQUIRED:
            raise Permanent(f"{self._where}: {key}: missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise Permanent(f"{self._where}: {key}: {value!r:.80} has the wrong type")
        return value

    def text(self, key: str) -> str:
        value: str = self.value(key, str)
        if not value:
            raise Permanent(f"{self._where}: {key}: empty")
        return value
