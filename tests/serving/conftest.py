import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from serving.server import Server
from serving.settings import Settings
from tests.serving.serving_support import MIXED, MIXED_STEPS, Client, Made, Served, make_bundle, resident
from tests.serving.wires import start

MOST_MEMORY = 180 << 20
"""Bytes, of a server with one model, after whatever the tests have asked it."""


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model whose input is the request's numbers."""
    return make_bundle(tmp_path_factory.mktemp("plain") / "bundle")


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model with categories, a timestamp and steps."""
    return make_bundle(tmp_path_factory.mktemp("mixed") / "bundle", columns=MIXED, steps=MIXED_STEPS)


@pytest.fixture(scope="session")
def server(plain: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A ready server that all tests share; none may disturb it."""
    served = Served(
        plain.directory,
        tmp_path_factory.mktemp("server") / "log",
        max_body_bytes=100_000,
        max_rows=500,
        max_queue_seconds=60,
    )
    served.wait_for("ready")
    yield served
    memory = resident(served.process.pid)
    served.kill()
    assert not [event for event in served.events() if event["level"] == "error"]
    assert memory < MOST_MEMORY


@pytest.fixture(scope="session")
def mixed_server(mixed: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A ready server for the model with pre-processing."""
    served = Served(mixed.directory, tmp_path_factory.mktemp("mixed-server") / "log", max_queue_seconds=60)
    served.wait_for("ready")
    yield served
    memory = resident(served.process.pid)
    served.kill()
    assert not [event for event in served.events() if event["level"] == "error"]
    assert memory < MOST_MEMORY


@pytest.fixture(scope="module")
def inside(plain: Made) -> Iterator[tuple[asyncio.Runner, Server]]:
    """A server without a socket."""
    with asyncio.Runner() as runner:
        yield runner, runner.run(start(Settings(model_dir=plain.directory)))


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    with Client(server.port) as connection:
        yield connection


@pytest.fixture
def mixed_client(mixed_server: Served) -> Iterator[Client]:
    with Client(mixed_server.port) as connection:
        yield connection


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start servers of the test's own."""
    started: list[Served] = []

    def start(model_dir: Path, environment: Mapping[str, str] | None = None, **settings: object) -> Served:
        log = tmp_path / f"server{len(started)}.log"
        started.append(Served(model_dir, log, environment, **settings))
        return started[-1]

    yield start
    for served in started:
        served.kill()
