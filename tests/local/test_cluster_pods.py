"""What is read from a pod template, and what the process gets."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from local.cluster import podspec, probes
from local.cluster.container import Place, command, environment
from local.cluster.images import Image
from local.cluster.patching import merge, strategic_merge

if TYPE_CHECKING:
    from pathlib import Path


def spec(pod: dict[str, Any] | None = None, **container: Any) -> podspec.PodSpec:
    server = {"name": "server", "image": "a/b", **container}
    return podspec.parse({"spec": {"containers": [server], **(pod or {})}})


@pytest.mark.parametrize(
    ("hook", "seconds", "noted"),
    [
        ({"sleep": {"seconds": 5}}, 5, False),
        ({"exec": {"command": ["sleep", "2"]}}, 2, False),
        ({"exec": {"command": ["/bin/sh", "-c", "sleep 1.5"]}}, 1.5, False),
        ({"exec": {"command": ["/bin/sh", "-c", "sleep 1 && rm -r /"]}}, 0, True),
        ({"httpGet": {"path": "/", "port": 1}}, 0, True),
        ({}, 0, False),
    ],
)
def test_pre_stop_hooks_that_sleep_are_honoured(hook: dict[str, Any], seconds: float, noted: bool) -> None:
    parsed = spec(lifecycle={"preStop": hook})
    assert (parsed.pre_stop_s, bool(parsed.notes)) == (seconds, noted)


def test_pods_here_speak_plain_http_and_say_so() -> None:
    parsed = spec(
        env=[
            {"name": "SERVING_TLS_CERT_FILE", "value": "/etc/trainserve/tls/tls.crt"},
            {"name": "SERVING_TLS_SELF_SIGNED", "value": "on"},
            {"name": "SERVING_PORT", "value": "8080"},
        ],
        readinessProbe={"httpGet": {"path": "/ping", "port": 8080, "scheme": "HTTPS"}},
    )
    assert parsed.environment == (("SERVING_PORT", "8080"),)
    assert parsed.notes == ("TLS to the pod is left out: connections stay on this machine",)


def test_a_port_that_a_variable_names_is_the_one_here(tmp_path: Path) -> None:
    parsed = spec(
        ports=[{"containerPort": 8080}, {"name": "grpc", "containerPort": 9000}],
        env=[{"name": "SERVING_GRPC_PORT", "value": "9000"}],
    )
    place = Place(name="a", namespace="b", uid="c", labels={}, scratch=tmp_path, log=tmp_path / "log")
    found = environment(parsed, Image("sha256:0", tmp_path), place, {8080: 20_001, 9000: 20_002})
    assert (found["SERVING_PORT"], found["SERVING_GRPC_PORT"]) == ("20001", "20002")


def test_captures_here_name_no_subject_and_say_so() -> None:
    parsed = spec(
        {"serviceAccountName": "server"},
        env=[
            {"name": "SERVING_SUBJECT_KEY_FILE", "value": "/etc/trainserve/subject-key/subject-key"},
            {"name": "SERVING_CAPTURE_TO", "value": "s3://data/captures/"},
        ],
    )
    assert parsed.environment == (("SERVING_CAPTURE_TO", "s3://data/captures/"),)
    assert len(parsed.notes) == 1
    assert "captures name no subject" in parsed.notes[0]
    assert (parsed.service_account, spec().service_account) == ("server", "default")


def test_what_is_not_done_is_noted() -> None:
    parsed = spec(
        {"initContainers": [{}]},
        envFrom=[{}],
        env=[{"name": "S", "valueFrom": {"secretKeyRef": {}}}],
        readinessProbe={"exec": {"command": ["true"]}},
    )
    assert len(parsed.notes) == 4
    assert parsed.readiness is None


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, ["PY", "-m", "serving"]),
        ({"args": ["-v"]}, ["PY", "-v"]),
        ({"command": ["python3.13", "-c", "1"]}, ["PY", "-c", "1"]),
        ({"command": ["/usr/bin/python", "/app/main.py", "/no"]}, ["PY", "{root}/app/main.py", "/no"]),
        ({"command": ["tool"], "args": ["x"]}, ["tool", "x"]),
    ],
)
def test_python_is_the_serving_environments_and_paths_are_the_images(
    tmp_path: Path, container: dict[str, Any], expected: list[str]
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/main.py").touch()
    image = Image(digest="", root=tmp_path, entrypoint=("python",), command=("-m", "serving"))
    assert command(spec(**container), image, "PY") == [word.format(root=tmp_path) for word in expected]


async def attend(answers: list[int], seconds: float, **checks: Any) -> tuple[list[bool], str]:
    """Probe a server that gives `answers` one by one, the last for ever: what was heard of its readiness."""
    heard: list[bool] = []
    handlers: set[asyncio.Task[None] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # a probe is given up
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {answers.pop(0) if len(answers) > 1 else answers[0]} X\r\n\r\n".encode())
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def on_ready(*, ready: bool, problem: str) -> None:
        if not heard or heard[-1] != ready:
            heard.append(ready)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    quick = {"httpGet": {"path": "/", "port": 1}, "periodSeconds": 0.02}
    parsed = spec(**{name: quick | more for name, more in checks.items()})
    try:
        async with asyncio.timeout(seconds):
            await probes.attend(parsed, lambda _: port, lambda: heard.append(False), on_ready)
    except TimeoutError:
        return heard, ""
    except probes.Unhealthy as unhealthy:
        return heard, str(unhealthy)
    finally:
        server.close()
        await asyncio.gather(*filter(None, handlers))
    return heard, "returned"


async def test_readiness_needs_its_thresholds() -> None:
    answers = [503, 200, 503, 200, 200, 503, 200, 503, 503, 200]
    heard, _ = await attend(answers, 0.6, readinessProbe={"successThreshold": 2, "failureThreshold": 2})
    assert heard == [False, True, False, True]


async def test_liveness_fails_after_its_threshold() -> None:
    heard, why = await attend([200, 500, 200, 500], 1, livenessProbe={"failureThreshold": 2})
    assert heard == [False, True]
    assert why == "Liveness probe failed: HTTP probe failed with statuscode: 500"


async def test_readiness_waits_for_startup() -> None:
    heard, _ = await attend([503, 503, 200], 0.5, startupProbe={"failureThreshold": 5}, readinessProbe={})
    assert heard == [False, True]


async def test_a_startup_that_never_ends_is_given_up() -> None:
    heard, why = await attend([503], 1, startupProbe={"failureThreshold": 2}, readinessProbe={})
    assert heard == []
    assert why.startswith("Startup probe failed")


def test_merge_patches() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "l": [1]}, {"a": {"b": None}, "l": [3]}) == {"a": {"c": 2}, "l": [3]}
    renamed = {"ports": [{"port": 80, "name": "b"}]}
    assert strategic_merge({"ports": [{"port": 80, "name": "a"}]}, renamed) == renamed
    replaced = {"containers": [{"$patch": "replace"}, {"name": "b"}]}
    assert strategic_merge({"containers": [{"name": "a"}]}, replaced) == {"containers": [{"name": "b"}]}
    assert strategic_merge({"x": {"a": 1}}, {"x": {"$patch": "replace", "b": 2}}) == {"x": {"b": 2}}
