"""Rolling updates, readiness, rollback, and a pod's end, with real processes."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import pytest

from tests.local.cluster_rig import (
    STRATEGIC,
    Cluster,
    Registry,
    fetch,
    running_cluster,
    running_registry,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), registry) as running:
        yield running


class Load:
    """Clients that keep their connections and never stop asking."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=10)
        while not self._stop.is_set():
            try:
                connection.request("POST", "/invocations", b"x" * 100)
                response = connection.getresponse()
                text = response.read()
                if response.status == 200:
                    self.answers.append(text.decode().split('"')[3])
                else:
                    self.failures.append(f"{response.status} {text!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            time.sleep(0.005)
        connection.close()


def test_a_rolling_update_fails_no_request(cluster: Cluster, registry: Registry) -> None:
    app = cluster.namespace()
    app.deploy(registry.model("1"))
    url = app.serve()
    app.wait()
    with Load(url) as load:
        wait_until("requests flow", lambda: len(load.answers) > 50)
        app.set_image(registry.model("2"))
        app.wait()
        wait_until("all old pods are gone", lambda: len(app.pods()) == 2)
        seen = len(load.answers)
        wait_until("requests flow after the update", lambda: len(load.answers) > seen + 50)
    assert load.failures == []
    assert set(load.answers[:50]) == {"1"}
    assert set(load.answers[-50:]) == {"2"}


def test_a_kept_connection_moves_to_a_new_pod_before_the_old_one_ends(
    cluster: Cluster, registry: Registry
) -> None:
    app = cluster.namespace()
    pause = {"lifecycle": {"preStop": {"sleep": {"seconds": 4}}}}
    app.deploy(registry.model("1"), replicas=1, container=pause)
    url = app.serve()
    app.wait()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)

    def version() -> str:
        connection.request("POST", "/", b"x" * 100)
        return json.loads(connection.getresponse().read())["version"]

    assert version() == "1"
    local_port = connection.sock.getsockname()[1]
    app.set_image(registry.model("2"))
    wait_until("the new pod answers", lambda: version() == "2")
    assert connection.sock.getsockname()[1] == local_port
    connection.close()
    assert not any(event["event"] == "gone" for event in app.events())


def test_old_pods_stop_only_when_new_ones_are_ready(cluster: Cluster, registry: Registry) -> None:
    app = cluster.namespace()
    app.deploy(registry.model("1"))
    app.wait()
    app.set_image(registry.model("2"))
    app.wait()
    wait_until("all old pods are gone", lambda: len(app.pods()) == 2)
    ready: set[str] = set()
    least = []
    for event in app.events():
        if event["event"] == "ready":
            ready.add(event["pod"])
        elif event["event"] in {"unready", "terminating"}:
            ready.discard(event["pod"])
            least.append(len(ready))
    assert least
    assert min(least) >= 2


def test_a_model_that_never_gets_ready_leaves_the_old_one_in_service(
    cluster: Cluster, registry: Registry
) -> None:
    app = cluster.namespace()
    good = registry.model("1")
    app.deploy(good, progressDeadlineSeconds=2)
    url = app.serve()
    app.wait()
    app.set_image(registry.model("bad", ready="no"))

    def stuck() -> dict[str, str]:
        condition = app.condition("Progressing")
        return condition if condition["status"] == "False" else {}

    failed = wait_until("the deadline is exceeded", stuck)
    assert failed["reason"] == "ProgressDeadlineExceeded"
    assert app.condition("Available")["status"] == "True"
    assert {fetch(url)[1]["version"] for _ in range(8)} == {"1"}
    unready = next(pod for pod in app.pods() if "503" in str(pod["status"]["conditions"]))
    assert unready["status"]["phase"] == "Running"

    app.set_image(good)
    app.wait()
    assert app.condition("Progressing")["reason"] == "NewReplicaSetAvailable"
    assert app.get()["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert {fetch(url)[1]["version"] for _ in range(8)} == {"1"}


def test_pods_that_were_never_ready_make_way(cluster: Cluster, registry: Registry) -> None:
    app = cluster.namespace()
    app.deploy(registry.model("none", ready="no"))
    url = app.serve()
    wait_until("two pods run", lambda: [p["status"]["phase"] for p in app.pods()] == ["Running"] * 2)
    assert fetch(url) == (503, {"error": "no ready pod of Service app"})
    app.set_image(registry.model("1"))
    app.wait()
    assert fetch(url)[1]["version"] == "1"


def test_an_image_that_cannot_be_pulled_is_told_and_awaited(cluster: Cluster, registry: Registry) -> None:
    app = cluster.namespace()
    app.deploy(f"{registry.address}/late:v-late", replicas=1)
    waiting = app.waiting("ImagePullBackOff")["state"]["waiting"]
    assert "not found" in waiting["message"]
    registry.model("late", repository="late")
    app.wait()


def test_a_crashing_container_backs_off_and_tells_why(cluster: Cluster, registry: Registry) -> None:
    app = cluster.namespace()
    app.deploy(
        registry.model("crash", crash=""),
        replicas=1,
        container={"terminationMessagePolicy": "FallbackToLogsOnError"},
    )

    status = app.waiting("CrashLoopBackOff")
    assert status["restartCount"] >= 1
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert "no such model" in status["lastState"]["terminated"]["message"]

    def exits() -> list[float]:
        return [event["time"] for event in app.events() if event["event"] == "exited"]

    wait_until("four exits", lambda: len(exits()) >= 4)
    gaps = [after - before for before, after in itertools.pairwise(exits())]
    assert gaps[2] > gaps[0]


def test_a_pod_that_dies_is_restarted_while_the_other_serves(cluster: Cluster, registry: Registry) -> None:
    app = cluster.namespace()
    app.deploy(registry.model("1"))
    url = app.serve()
    app.wait()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        fetch(url, "/die")
    assert fetch(url)[0] == 200
    wait_until(
        "the pod was restarted",
        lambda: sum(p["status"]["containerStatuses"][0]["restartCount"] for p in app.pods()) == 1,
    )
    app.wait()


def test_the_end_of_a_pod_is_pre_stop_then_term_then_kill(cluster: Cluster, registry: Registry) -> None:
    app = cluster.namespace()
    hook = {"lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "sleep 0.5"]}}}}
    app.deploy(
        registry.model("stubborn", stubborn=""),
        replicas=1,
        container=hook,
        pod={"terminationGracePeriodSeconds": 1},
    )
    app.wait()
    pod = app.pods()[0]["metadata"]["name"]
    cluster.ok("DELETE", f"/api/v1/namespaces/{app.namespace}/pods/{pod}")
    wait_until("the pod is gone", lambda: ("gone", pod) in {(e["event"], e.get("pod")) for e in app.events()})
    times = {event["event"]: event["time"] for event in app.events() if event.get("pod") == pod}
    log = (cluster.run_dir / "pods" / f"{pod}.log").read_text().split()
    term = float(log[log.index("term") + 1])
    assert 0.4 < term - times["terminating"] < 1.5
    # After preStop there are two seconds at least, as a kubelet gives them.
    assert 1.5 < times["killed"] - term < 3
    app.wait()


def test_variables_and_files_of_a_pod(
    cluster: Cluster, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = cluster.namespace()
    env = [
        {"name": "PLAIN", "value": "1"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
    ]
    app.deploy(registry.model("1"), replicas=1, container={"env": env})
    url = app.serve()
    app.wait()
    variables = fetch(url, "/environment")[1]
    pod = app.pods()[0]["metadata"]["name"]
    assert (variables["PLAIN"], variables["POD"]) == ("1", pod)
    assert "SECRET" not in variables
    assert variables["SERVING_MODEL_DIR"].startswith(str(cluster.run_dir))
    assert variables["HOME"].endswith(pod)
    assert any(event["event"] == "note" and "SECRET" in event["message"] for event in app.events())


def test_what_is_deleted_stops(cluster: Cluster, registry: Registry) -> None:
    app = cluster.namespace()
    app.deploy(registry.model("1"), replicas=1)
    url = app.serve()
    app.wait()
    cluster.ok("DELETE", app.path)
    wait_until("the pod is gone", lambda: not app.pods())
    assert fetch(url) == (503, {"error": "no ready pod of Service app"})
    app.deploy(registry.model("2"), replicas=1)
    app.wait()
    assert fetch(url)[1]["version"] == "2"
    cluster.ok("DELETE", f"/api/v1/namespaces/{app.namespace}")
    wait_until("the new pod is gone", lambda: not app.pods())
    assert f"{app.namespace}/app" not in cluster.state()["services"]


def test_replicas_follow_the_spec(cluster: Cluster, registry: Registry) -> None:
    app = cluster.namespace()
    app.deploy(registry.model("1"), replicas=1)
    app.wait()
    first = app.pods()[0]["metadata"]["name"]
    for replicas in (3, 1):
        cluster.ok("PATCH", app.path, {"spec": {"replicas": replicas}}, kind=STRATEGIC)
        app.wait()
        wait_until("surplus pods are gone", lambda count=replicas: len(app.pods()) == count)
    assert [pod["metadata"]["name"] for pod in app.pods()] == [first]
