"""Several workers on one port: dealt out, counted together, replaced when they die, ended together."""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from serving import cpus, settings
from serving.board import GONE, READY, UNREADY, Board
from serving.exposition import lasting, merged
from serving.supervisor import workers
from tests.serving import serving_support
from tests.serving.serving_support import Client, Made, Served, request

POST = request("POST", "/invocations", b"1.5,200,7", "text/csv")


def sample(text: str, name: str) -> float:
    """The sum of a metric's samples."""
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    assert found, name
    return sum(map(float, found))


def scrape(served: Served) -> str:
    with Client(served.port) as client:
        return client.ask("GET", "/metrics").body.decode()


@pytest.fixture
def pair(serve: Callable[..., Served], plain: Made) -> Served:
    served = serve(plain.directory, workers=2, drain_seconds=10)
    served.wait_until_ready()
    return served


def predict(served: Served, connections: int, each: int) -> None:
    clients = [Client(served.port) for _ in range(connections)]
    for _ in range(each):
        for client in clients:
            client.send(POST)
        assert {client.receive().status for client in clients} == {200}
    for client in clients:
        client.socket.close()


def test_any_worker_answers_for_all(pair: Served) -> None:
    predict(pair, connections=30, each=3)
    children = psutil.Process(pair.process.pid).children()
    assert len(children) == 2
    # Whichever worker is asked, the sum is that of this moment.
    for _ in range(10):
        text = scrape(pair)
        assert sample(text, "trainserve_rows_total") == 90
        assert sample(text, "trainserve_request_seconds_count") == 90
        assert (
            sample(
                text, 'trainserve_request_seconds_bucket{model="flights",protocol="sagemaker",le="\\+Inf"}'
            )
            == 90
        )
        assert sample(text, "trainserve_workers") == 2
        assert sample(text, "trainserve_ready") == 1
        assert sample(text, "trainserve_requests_in_flight") == 0
        assert text.count("# TYPE trainserve_rows_total counter") == 1
    with Client(pair.port) as client:
        answer = client.ask("POST", "/models", b'{"model_name": "x", "url": "/x"}', "application/json")
        assert (answer.status, "SERVING_WORKERS=1" in answer.error) == (403, True)
    assert pair.terminate() == 0
    assert [event["worker"] in {0, 1} for event in pair.events("drained")] == [True, True]
    assert not psutil.wait_procs(children, timeout=5)[1]


def test_a_worker_that_dies_is_replaced_and_what_it_counted_stays(pair: Served) -> None:
    predict(pair, connections=30, each=3)
    before = scrape(pair)
    children = psutil.Process(pair.process.pid).children()
    os.kill(children[0].pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while len(pair.events("ready")) < 3:
        assert time.monotonic() < end
        # The other one serves, and is ready; a connection on its way to the one that died is cut.
        known = pair.events("worker died")
        with Client(pair.port) as client:
            try:
                assert client.ask("GET", "/ping").status == 200
            except ConnectionError:
                assert known == []
        time.sleep(0.02)
    died = pair.wait_for("worker died")
    assert (died["status"], died["level"]) == (-9, "error")
    predict(pair, connections=30, each=1)
    after = scrape(pair)
    assert sample(after, "trainserve_rows_total") == 120
    assert sample(after, "trainserve_workers") == 2
    assert sample(after, "trainserve_worker_restarts_total") == 1
    assert sample(after, "process_cpu_seconds_total") >= sample(before, "process_cpu_seconds_total")
    assert len(psutil.Process(pair.process.pid).children()) == 2
    assert pair.terminate() == 0


def test_a_worker_that_hangs_is_replaced(
    serve: Callable[..., Served], plain: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server as it is, but for a supervisor that looks more often.
    program = (
        "import serving.supervisor as s, serving.team as t; s._LOOK_SECONDS = 0.7; t._PUBLISH_SECONDS = 0.1;"
        "import runpy; runpy.run_module('serving', run_name='__main__')"
    )
    monkeypatch.setattr(serving_support, "COMMAND", [sys.executable, "-c", program])
    served = serve(plain.directory, workers=2)
    served.wait_until_ready()
    hanging = psutil.Process(served.process.pid).children()[0]
    hanging.suspend()
    assert served.wait_for("worker hangs")["worker"] in {0, 1}
    served.wait_for("worker died")
    end = time.monotonic() + 20
    while len(served.events("ready")) < 3:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not psutil.wait_procs([hanging], timeout=5)[1]
    predict(served, connections=20, each=1)
    # More than one where the machine stood still for two seconds.
    assert sample(scrape(served), "trainserve_worker_restarts_total") >= 1
    assert served.terminate() == 0


def test_workers_that_have_hardly_begun_are_ended(serve: Callable[..., Served], plain: Made) -> None:
    served = serve(plain.directory, workers=4)
    assert served.terminate() == 0


def test_workers_end_with_their_supervisor(pair: Served) -> None:
    children = psutil.Process(pair.process.pid).children()
    pair.process.kill()
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_workers_without_a_model_say_so(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve(tmp_path / "none", workers=2)
    for _ in range(8):
        with Client(served.port) as client:
            answer = client.ask("GET", "/ping")
            assert answer.status == 503
    assert sample(scrape(served), "trainserve_ready") == 0
    assert served.terminate() == 0


def test_a_taken_port_stops_the_start(serve: Callable[..., Served], pair: Served, plain: Made) -> None:
    with pytest.raises(AssertionError, match="cannot listen"):
        serve(plain.directory, workers=2, port=pair.port)
    with pytest.raises(AssertionError, match="cannot listen"):
        serve(plain.directory, workers=1, port=pair.port)


def test_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "whole", lambda: 3)

    def chosen(**variables: str) -> int:
        environment = {f"SERVING_{name.upper()}": value for name, value in variables.items()}
        return workers(settings.from_environment(environment))

    assert chosen() == 3
    assert chosen(workers="1") == 1
    assert chosen(workers="5") == 5
    # Models that come and go by request are one worker's.
    assert chosen(models_dir="/models", models_api="on") == 1
    assert chosen(models_dir="/models", workers="2") == 2
    assert chosen(models_dir="/models") == 3
    with pytest.raises(settings.SettingsError, match=r"^SERVING_MODELS_API: needs SERVING_WORKERS=1"):
        chosen(models_dir="/models", models_api="on", workers="2")
    with pytest.raises(settings.SettingsError, match=r"^SERVING_WORKERS: .*1 to 256"):
        chosen(workers="0")


@pytest.mark.parametrize(
    ("own", "files", "found"),
    [
        ("0::/\n", {}, float("inf")),
        ("0::/\n", {"cpu.max": "max 100000\n"}, float("inf")),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/pod/box\n", {"pod/box/cpu.max": "350000 100000", "pod/cpu.max": "max 100000"}, 3.5),
        ("0::/pod/box\n", {"pod/box/cpu.max": "max 100000", "pod/cpu.max": "200000 100000"}, 2.0),
        ("0::/../other\n", {"cpu.max": "150000 100000"}, 1.5),
        (
            "4:cpu,cpuacct:/box\n0::/\n",
            {"cpu/box/cpu.cfs_quota_us": "200000", "cpu/box/cpu.cfs_period_us": "100000"},
            2,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, float("inf")),
        ("0::/\n", {"cpu.max": "garbage\n"}, float("inf")),
    ],
)
def test_quota(tmp_path: Path, own: str, files: dict[str, str], found: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpus.quota(own, tmp_path) == found


@pytest.mark.parametrize(("allowed", "found"), [(0.5, 1), (1.9, 1), (2.0, 2), (float("inf"), 4), (9.0, 4)])
def test_whole_processors(monkeypatch: pytest.MonkeyPatch, allowed: float, found: int) -> None:
    def quota(_own: str, _root: Path) -> float:
        return allowed

    def runnable(_pid: int) -> set[int]:
        return {0, 1, 2, 3}

    monkeypatch.setattr(os, "sched_getaffinity", runnable)
    monkeypatch.setattr(cpus, "quota", quota)
    assert cpus.whole() == found


ONE = """\
# HELP a_total Things.
# TYPE a_total counter
a_total{x="a b",y="1"} 3
# HELP h Seconds.
# TYPE h histogram
h_bucket{le="0.5"} 1
h_bucket{le="+Inf"} 2
h_sum 1.5
h_count 2
# HELP trainserve_ready Ready.
# TYPE trainserve_ready gauge
trainserve_ready 1
# HELP trainserve_model_info Models.
# TYPE trainserve_model_info gauge
trainserve_model_info{name="m"} 1
# HELP b Bytes.
# TYPE b gauge
b 10
"""
OTHER = ONE.replace('y="1"} 3', 'y="2"} 4').replace("trainserve_ready 1", "trainserve_ready 0")


def test_the_texts_of_workers_become_one() -> None:
    whole = merged((ONE, OTHER, ""))
    assert whole.replace('a_total{x="a b",y="2"} 4\n', "") == (
        ONE.replace("} 1\nh_bucket", "} 2\nh_bucket")
        .replace('"+Inf"} 2', '"+Inf"} 4')
        .replace("h_sum 1.5\nh_count 2", "h_sum 3.0\nh_count 4")
        .replace("trainserve_ready 1", "trainserve_ready 0")
        .replace("b 10", "b 20")
    )
    assert merged((ONE,)) == ONE
    assert lasting(ONE) == ONE[: ONE.index("# HELP trainserve_ready")]
    assert merged((lasting(ONE), lasting(ONE), ONE)).count("a_total{") == 1


def test_a_board_keeps_the_last_whole_text() -> None:
    board = Board(2, 100)
    assert board.read(0) == b""
    assert [board.state(slot) for slot in (0, 1)] == [UNREADY, UNREADY]
    for text in (b"one", b"two, longer", b"3", b""):
        assert board.write(1, text)
        assert board.read(1) == text
    assert board.write(1, b"x" * 100)
    assert not board.write(1, b"x" * 101)
    assert board.read(1) == b"x" * 100
    assert board.read(0) == b""
    board.set_state(1, READY)
    board.set_state(0, GONE)
    assert [board.state(slot) for slot in (0, 1)] == [GONE, READY]


def test_a_text_that_was_not_finished_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(1, 100)
    board.write(0, b"first")
    board.write(0, b"second")

    def interrupted(_text: Sequence[int]) -> int:
        raise KeyboardInterrupt

    # Ended between text and header, as by a signal.
    with monkeypatch.context() as patched:
        patched.setattr("serving.board.zlib.crc32", interrupted)
        with pytest.raises(KeyboardInterrupt):
            board.write(0, b"third")
    assert board.read(0) == b"second"
    assert board.write(0, b"fourth")
    assert board.read(0) == b"fourth"


def test_connections_are_dealt_out(pair: Served) -> None:
    clients = [socket.create_connection(("127.0.0.1", pair.port)) for _ in range(64)]
    time.sleep(0.3)
    counts = [
        sum(1 for one in child.net_connections() if one.status == psutil.CONN_ESTABLISHED)
        for child in psutil.Process(pair.process.pid).children()
    ]
    for client in clients:
        client.close()
    assert sum(counts) == 64
    # By their addresses: binomial. Fewer than 8 of 64 would happen once in 10^10 times.
    assert min(counts) >= 8
