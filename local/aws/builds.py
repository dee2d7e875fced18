"""CodeBuild: makes the serving image that the build's sources describe, as far as that needs no base system.

The image holds what the Dockerfile copies into /app and has the configuration of its last stage; its labels
say that there is no system in it. Whoever runs it brings the Python environment.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import platform
import re
import tarfile
import threading
import uuid
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local.aws.hooks import Hook
from local.aws.images import RegistryClient

if TYPE_CHECKING:
    from local.aws.emulator import Emulator
    from local.aws.events import Events

log = logging.getLogger(__name__)

START = Hook("moto.codebuild.responses:CodeBuildResponse.start_build", "self")
GET = Hook("moto.codebuild.models:CodeBuildBackend.batch_get_builds", "self ids")
HOOKS = (START, GET)

_OCI = "application/vnd.oci.image"
_LABELS = {
    "org.opencontainers.image.title": "trainserve server",
    "trainserve.built": "locally, from the source archive, without a base system",
}


class BuildError(Exception):
    """The build failed; the text says why."""


class Builds:
    """All builds of the server."""

    def __init__(self, emulator: Emulator, events: Events) -> None:
        self._emulator = emulator
        self._events = events
        self._registry = RegistryClient(emulator.registry)
        self._by_token: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def install(self) -> None:
        """Replace moto's builds, which succeed as soon as somebody asks."""
        builds = self

        def start_build(self: Any) -> Any:
            from moto.core.responses import ActionResult

            token = (self._get_param("projectName"), self._get_param("idempotencyToken") or str(uuid.uuid4()))
            with builds._lock:
                known = builds._by_token.get(token)
                if known is not None:
                    return ActionResult({"build": known})
                result = original(self)
                backend = self.codebuild_backend
                build = builds._by_token[token] = backend.build_metadata[token[0]].build_metadata
                project = backend.codebuild_projects[token[0]].project_metadata
                _describe(build, project, self._get_param)
            builds._emulator.run(builds._run, build)
            return result

        def batch_get_builds(self: Any, ids: list[str]) -> list[dict[str, Any]]:
            everything = [build for builds in self.build_metadata_history.values() for build in builds]
            return [build for build in everything if build["id"] in ids or build["arn"] in ids]

        original = START.install(start_build)
        GET.install(batch_get_builds)

    def _run(self, build: dict[str, Any]) -> None:
        build["currentPhase"] = "BUILD"
        self._publish(build)
        try:
            digest = self._build(build)
        except Exception as error:
            if not isinstance(error, BuildError):
                log.exception("build %s", build["id"])
            self._end(build, "FAILED", str(error))
        else:
            self._end(build, "SUCCEEDED", digest)

    def _build(self, build: dict[str, Any]) -> str:
        variables = {each["name"]: each["value"] for each in build["environment"]["environmentVariables"]}
        tag = variables.get("IMAGE_TAG")
        uri = variables.get("REPOSITORY_URI", "")
        if not tag or "/" not in uri:
            raise BuildError("the project's environment lacks REPOSITORY_URI or IMAGE_TAG")
        name = uri.partition("/")[2]
        present = self._registry.manifest(name, tag)
        if present is not None:
            return present[0]
        files = self._source(build["source"])
        return push_server_image(self._registry, name, tag, files)

    def _source(self, source: dict[str, Any]) -> dict[str, bytes]:
        if source["type"] != "S3":
            raise BuildError(f"source type {source['type']!r}: only S3 is there")
        bucket, _, key = source["location"].removeprefix("arn:aws:s3:::").partition("/")
        try:
            s3 = self._emulator.client("s3", "us-east-1")
            archive = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            with zipfile.ZipFile(io.BytesIO(archive)) as contents:
                return {name: contents.read(name) for name in contents.namelist() if not name.endswith("/")}
        except (ClientError, zipfile.BadZipFile) as error:
            raise BuildError(f"source s3://{bucket}/{key}: {error}") from error

    def _end(self, build: dict[str, Any], status: str, text: str) -> None:
        log.info("build %s: %s %s", build["id"], status, text)
        build |= {
            "buildStatus": status,
            "currentPhase": "COMPLETED",
            "buildComplete": True,
            "endTime": _now(),
        }
        phase = {"phaseType": "BUILD", "phaseStatus": status, "startTime": build["startTime"]}
        if status == "FAILED":
            phase["contexts"] = [{"statusCode": "BUILD_ERROR", "message": text}]
        build["phases"].append(phase | {"endTime": build["endTime"], "durationInSeconds": 0})
        self._publish(build)

    def _publish(self, build: dict[str, Any]) -> None:
        region, account = build["arn"].split(":")[3:5]
        detail = {
            "build-status": build["buildStatus"],
            "project-name": build["projectName"],
            "build-id": build["arn"],
            "current-phase": build["currentPhase"],
            "additional-information": {
                "environment": {
                    "environment-variables": build["environment"]["environmentVariables"],
                },
                "build-complete": build["buildComplete"],
                "build-start-time": build["startTime"],
                "source": build["source"],
            },
            "version": "1",
        }
        event = {
            "source": "aws.codebuild",
            "detail-type": "CodeBuild Build State Change",
            "resources": [build["arn"]],
            "detail": detail,
        }
        self._events.publish(account, region, event)


def _describe(build: dict[str, Any], project: dict[str, Any], parameter: Any) -> None:
    """Let the build say what it builds: the project's source and variables, as the request overrides them."""
    source = dict(project["source"])
    source["type"] = parameter("sourceTypeOverride") or source["type"]
    source["location"] = parameter("sourceLocationOverride") or source.get("location", "")
    variables = {each["name"]: each for each in project["environment"].get("environmentVariables") or []}
    variables |= {each["name"]: each for each in parameter("environmentVariablesOverride") or []}
    build["source"] = source
    build["environment"] = {**project["environment"], "environmentVariables": list(variables.values())}
    build["startTime"] = _now()


def _now() -> str:
    return datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def push_server_image(registry: RegistryClient, name: str, tag: str, files: dict[str, bytes]) -> str:
    """Push an image of the sources; the digest. The same sources make the same image."""
    if "Dockerfile" not in files:
        raise BuildError("the source archive holds no Dockerfile")
    tar, layer = source_layer(files)
    config = {
        "architecture": "arm64" if platform.machine() in {"arm64", "aarch64"} else "amd64",
        "os": "linux",
        "config": {**docker_config(files["Dockerfile"].decode()), "Labels": _LABELS},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
        "history": [{"created_by": "local source layer"}],
    }
    body = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": {
            "mediaType": f"{_OCI}.config.v1+json",
            "digest": registry.push_blob(name, body),
            "size": len(body),
        },
        "layers": [
            {
                "mediaType": f"{_OCI}.layer.v1.tar+gzip",
                "digest": registry.push_blob(name, layer),
                "size": len(layer),
            }
        ],
    }
    return registry.push_manifest(name, tag, manifest)


def source_layer(files: dict[str, bytes]) -> tuple[bytes, bytes]:
    """(tar, gzipped tar) with the packages of the archive below app/: sorted, fixed times and owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(name for name in files if "/" in name):
            member = tarfile.TarInfo(f"app/{name}")
            member.size, member.mode = len(files[name]), 0o644
            tar.addfile(member, io.BytesIO(files[name]))
    return buffer.getvalue(), gzip.compress(buffer.getvalue(), mtime=0)


def docker_config(dockerfile: str) -> dict[str, Any]:
    """The image configuration that the last stage of a Dockerfile states.

    Variables that refer to others (PATH) belong to the base system, which is not there.
    """
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n?", "", dockerfile))
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    last = max((number for number, line in enumerate(lines) if line[0].upper() == "FROM"), default=-1)
    config: dict[str, Any] = {"Env": [], "ExposedPorts": {}}
    for word, *rest in lines[last + 1 :]:
        value = rest[0].strip() if rest else ""
        match word.upper():
            case "ENV":
                config["Env"] += [item for item in value.split() if "=" in item and "$" not in item]
            case "WORKDIR":
                config["WorkingDir"] = value
            case "USER":
                config["User"] = value
            case "EXPOSE":
                config["ExposedPorts"][f"{value}/tcp"] = {}
            case "STOPSIGNAL":
                config["StopSignal"] = value
            case "ENTRYPOINT":
                config["Entrypoint"] = json.loads(value)
            case "CMD":
                config["Cmd"] = json.loads(value)
            case _:
                pass
    return config
