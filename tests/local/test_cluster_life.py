"""How the cluster begins and ends: busy ports, SIGTERM, SIGKILL, and its Services' fronts."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil
import pytest

from tests.local.cluster_rig import Registry, fetch, running_cluster, running_registry, start, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_a_busy_port_ends_it_with_the_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = start(tmp_path, "127.0.0.1:9", "http://127.0.0.1:9", "--port", port)
        assert process.wait(timeout=10) == 3
    assert f"port {port} cannot be used" in (tmp_path / "cluster.log").read_text()
    assert not (tmp_path / "cluster.json").exists()


def test_sigterm_leaves_no_process_no_port_and_no_file_but_logs(tmp_path: Path, registry: Registry) -> None:
    with running_cluster(tmp_path, registry) as cluster:
        app = cluster.namespace()
        app.deploy(registry.model("stubborn", stubborn=""), pod={"terminationGracePeriodSeconds": 30})
        app.wait()
        pods = cluster.descendants()
        assert len(pods) == 2
        began = time.monotonic()
        assert cluster.stop() == 0
        assert time.monotonic() - began < 3
        assert not any(pod.is_running() for pod in pods)
        port = urlsplit(cluster.facts["service"]).port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port or 0), timeout=1)
    left = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"cluster.log", "pods"}
    assert {path.suffix for path in (tmp_path / "pods").iterdir()} == {".log"}


def test_sigkill_leaves_no_process(tmp_path: Path, registry: Registry) -> None:
    with running_cluster(tmp_path, registry) as cluster:
        app = cluster.namespace()
        app.deploy(registry.model("1"))
        app.wait()
        pods = cluster.descendants()
        os.kill(cluster.process.pid, signal.SIGKILL)
        gone, alive = psutil.wait_procs(pods, timeout=5)
        assert len(gone) == 2
        assert alive == []


def test_an_unavailable_registry_is_told_and_the_end_is_clean(tmp_path: Path) -> None:
    with running_cluster(tmp_path, Registry("127.0.0.1:9")) as cluster:
        app = cluster.namespace()
        app.deploy("127.0.0.1:9/serving:v1")
        wait_until(
            "the reason is told", lambda: "Connection refused" in str([p["status"] for p in app.pods()])
        )
        assert cluster.stop() == 0


def test_services_have_fronts_of_their_own(tmp_path: Path, registry: Registry) -> None:
    with running_cluster(tmp_path, registry) as cluster:
        assert fetch(cluster.facts["service"], body=b"x" * 100_000) == (503, {"error": "no Service yet"})
        first, second = cluster.namespace(), cluster.namespace()
        first.deploy(registry.model("1"), replicas=1)
        second.deploy(registry.model("2"), replicas=1)
        urls = [first.serve(), second.serve()]
        assert urls[0] == cluster.facts["service"]
        first.wait()
        second.wait()
        assert [fetch(url)[1]["version"] for url in urls] == ["1", "2"]
        _half_close(urls[0])
        _large(urls[0])
        assert _rate(urls[0]) > 1000


def test_the_known_port_is_the_first_services_by_name(tmp_path: Path, registry: Registry) -> None:
    with running_cluster(tmp_path, registry) as cluster:
        first, second = cluster.namespace(), cluster.namespace()
        assert first.namespace < second.namespace
        assert second.serve() == cluster.facts["service"]
        assert first.serve() == cluster.facts["service"]
        urls = cluster.state()["services"]
        assert urls["test-1/app"] == cluster.facts["service"] != urls["test-2/app"]


def _half_close(url: str) -> None:
    """A client may end its side before it reads the answer."""
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while data := client.recv(4096):
            answer += data
    assert b'"version": "1"' in answer


def _large(url: str) -> None:
    assert fetch(url, body=b"x" * 5_000_000)[1]["received"] == 5_000_000


def _rate(url: str, clients: int = 4, each: int = 500) -> float:
    """Requests a second; most of the time is that of these clients and of the server."""

    def ask() -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        for _ in range(each):
            connection.request("POST", "/", b"x" * 100)
            connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clients * each / (time.monotonic() - began)
