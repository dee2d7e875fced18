"""Who is measured and how each is started: ours, the floors, and other servers as they document it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from bench import formats
from bench.environments import PEERS, ROOT
from bench.processes import Launch, free_port
from bench.sample import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.formats import Format
    from bench.sample import Sample

Kind = Literal["ours", "floor", "peer"]

XGBOOST: Final = "trainserve, XGBoost's predictor"
FAST: Final = "trainserve, fast predictor"
FLOOR: Final = "empty answer, uvloop + httptools"
GRPC: Final = "trainserve, gRPC"
GRPC_FLOOR: Final = "empty answer, gRPC"
NGINX: Final = "empty answer, nginx"
MLSERVER: Final = "MLServer, default"

_SETTINGS: Final = (
    "import dataclasses, json; from serving.settings import Settings; "
    "print(json.dumps([field.name for field in dataclasses.fields(Settings)]))"
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where things are: a scratch directory, the lean environment, the peers' environments, the model."""

    work: Path
    serving_python: Path
    environments: Mapping[str, Path]
    sample: Sample


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A server to measure. `environment` names the throw-away environment that it needs, if any."""

    name: str
    kind: Kind
    formats: Sequence[Format]
    launch: Callable[[Place], Launch]
    environment: str = ""
    note: str = ""


@dataclass(frozen=True)
class Answers:
    """What the floor answers: recorded answers of ours, whole, by target."""

    by_target: dict[str, bytes] = field(default_factory=dict[str, bytes])


def server_settings(python: Path) -> frozenset[str]:
    """Return the names of the server's settings, to know what it can do."""
    environment = {"PYTHONPATH": _import_path()}
    ended = subprocess.run(
        [str(python), "-c", _SETTINGS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return frozenset(json.loads(ended.stdout)) if ended.returncode == 0 else frozenset()


def ours(name: str = XGBOOST, variables: Mapping[str, str] | None = None, /, **settings: object) -> Candidate:
    """Return this project's server with these settings, and variables of others' besides."""

    def launch(place: Place) -> Launch:
        port = free_port()
        model = {} if "models_dir" in settings else {"model_dir": place.sample.bundle}
        chosen = {"host": "127.0.0.1", "port": port, "settle_seconds": 0.1, **model, **settings}
        environment = {f"SERVING_{key.upper()}": str(value) for key, value in chosen.items()}
        return Launch(
            argv=[str(place.serving_python), "-m", "serving"],
            cwd=place.work,
            port=port,
            ready="/ping",
            environment={"PYTHONPATH": _import_path(), **environment, **(variables or {})},
            patience_s=30.0,
        )

    return Candidate(name=name, kind="ours", formats=formats.OURS, launch=launch)


def all_ours(settings: frozenset[str]) -> list[Candidate]:
    """Return our server with each predictor that it has."""
    if "predictor" not in settings:
        return [ours(XGBOOST)]
    return [ours(XGBOOST, predictor="xgboost"), ours(FAST, predictor="fast")]


def floor(answers: Answers) -> Candidate:
    """Return the empty answer by the transport that our server uses."""

    def launch(place: Place) -> Launch:
        port, path = free_port(), place.work / "answers.json"
        ready = {"/ping": "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}
        recorded = {target: answer.decode("latin-1") for target, answer in answers.by_target.items()}
        path.write_text(json.dumps(ready | recorded), encoding="utf-8")
        argv = [str(place.serving_python), str(ROOT / "bench" / "floor.py"), str(path), str(port)]
        return Launch(argv=argv, cwd=place.work, port=port, ready="/ping")

    return Candidate(name=FLOOR, kind="floor", formats=(), launch=launch)


def grpc_floor(answer: bytes) -> Candidate:
    """Return the empty answer by the gRPC library that our server uses."""

    def launch(place: Place) -> Launch:
        port, path = free_port(), place.work / "answer.bin"
        path.write_bytes(answer)
        argv = [str(place.serving_python), str(ROOT / "bench" / "grpc_floor.py"), str(path), str(port)]
        return Launch(argv=argv, cwd=place.work, port=port, ready="")

    return Candidate(name=GRPC_FLOOR, kind="floor", formats=(), launch=launch)


_NGINX_CONF: Final = """\
worker_processes 1;
daemon off;
master_process off;
pid {work}/nginx.pid;
error_log {work}/nginx.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {work}/nginx-body;
  proxy_temp_path {work}/nginx-proxy;
  fastcgi_temp_path {work}/nginx-fastcgi;
  uwsgi_temp_path {work}/nginx-uwsgi;
  scgi_temp_path {work}/nginx-scgi;
  server {{
    listen 127.0.0.1:{port};
    default_type text/csv;
    location / {{ return 200 "{body}"; }}
  }}
}}
"""


def nginx(answers: Answers) -> Candidate | None:
    """Return the empty answer by nginx; None where there is none."""
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if binary is None:
        return None

    def launch(place: Place) -> Launch:
        port, path = free_port(), place.work / "nginx.conf"
        whole = next(iter(answers.by_target.values()))
        text = _NGINX_CONF.format(work=place.work, port=port, body="x" * len(whole.partition(b"\r\n\r\n")[2]))
        path.write_text(text, encoding="utf-8")
        argv = [binary, "-c", str(path), "-p", str(place.work), "-e", str(place.work / "nginx.log")]
        return Launch(argv=argv, cwd=place.work, port=port, ready="/ping")

    return Candidate(name=NGINX, kind="floor", formats=(formats.CSV,), launch=launch)


def peers() -> list[Candidate]:
    """Return the other servers."""
    return [
        _mlserver(MLSERVER, {}),
        _mlserver("MLServer, parallel_workers=0", {"parallel_workers": 0}),
        _peer(
            "BentoML", "bentoml", formats.BENTOML, "/readyz",
            lambda bin_, port: [
                f"{bin_}/bentoml", "serve", "service:Bench", "--host", "127.0.0.1", "--port", str(port)
            ],
        ),
        _peer(
            "LitServe", "litserve", formats.PREDICT, "/health",
            lambda bin_, port: [f"{bin_}/python", "server.py", str(port)],
        ),
        _peer(
            "FastAPI + uvicorn, tuned", "fastapi", formats.PREDICT, "/ping",
            lambda bin_, port: [
                f"{bin_}/uvicorn", "tuned:app", "--host", "127.0.0.1", "--port", str(port),
                "--loop", "uvloop", "--http", "httptools", "--no-access-log",
            ],
        ),
        _peer(
            "FastAPI + uvicorn, as in tutorials", "fastapi", formats.PREDICT, "/ping",
            lambda bin_, port: [
                f"{bin_}/uvicorn", "tutorial:app", "--host", "127.0.0.1", "--port", str(port)
            ],
        ),
        _peer(
            "Flask + gunicorn, SageMaker style", "flask", formats.CSV, "/ping",
            lambda bin_, port: [
                f"{bin_}/gunicorn", "-k", "gevent", "-w", "1", "-b", f"127.0.0.1:{port}", "predictor:app"
            ],
        ),
    ]  # fmt: skip


def _peer(
    name: str, directory: str, spoken: Format, ready: str, command: Callable[[Path, int], Sequence[str]]
) -> Candidate:
    def launch(place: Place) -> Launch:
        port = free_port()
        return Launch(
            argv=command(place.environments[directory], port),
            cwd=PEERS / directory,
            port=port,
            ready=ready,
            environment=_peer_environment(place),
        )

    return Candidate(name=name, kind="peer", formats=(spoken,), launch=launch, environment=directory)


def _mlserver(name: str, more: Mapping[str, object]) -> Candidate:
    def launch(place: Place) -> Launch:
        port, home = free_port(), place.work / f"mlserver-{len(more)}"
        home.mkdir(exist_ok=True)
        shutil.copy(PEERS / "mlserver" / "model-settings.json", home)
        shutil.copy(place.sample.model, home / "model.ubj")
        ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        settings = {"host": "127.0.0.1", **ports, **more}
        (home / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        return Launch(
            argv=[str(place.environments["mlserver"] / "mlserver"), "start", "."],
            cwd=home,
            port=port,
            ready=f"/v2/models/{NAME}/ready",
            environment=_peer_environment(place),
        )

    return Candidate(name=name, kind="peer", formats=(formats.V2,), launch=launch, environment="mlserver")


def _peer_environment(place: Place) -> dict[str, str]:
    return {
        "HOME": str(place.work),
        "TMPDIR": str(place.work),
        "BENCH_MODEL": str(place.sample.model),
        "BENTOML_HOME": str(place.work / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
    }


def _import_path() -> str:
    return f"{ROOT}:{ROOT / 'training'}"
