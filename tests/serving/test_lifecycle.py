"""From start to drain: when the server is ready, why it is not, and how it leaves."""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle import format as bundle_format
from serving import settings
from tests.serving.serving_support import Client, Made, Served, make_bundle, request, write_json

ROW = b"1.5,200,7"


@pytest.fixture
def bundle(plain: Made, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(plain.directory, tmp_path / "bundle"))


def assert_unready(served: Served, reason: str) -> None:
    with Client(served.port) as client:
        for answer in (client.ask("GET", "/ping"), client.ask("POST", "/invocations", ROW, "text/csv")):
            assert answer.status == 503
            assert reason in answer.error
            assert "x-model-name" not in answer.headers
        assert b"trainserve_ready 0\n" in client.ask("GET", "/metrics").body
    assert reason in served.wait_for("not ready")["reason"]
    assert served.terminate() == 0


@pytest.mark.parametrize("there", [True, False])
def test_no_model_yet(serve: Callable[..., Served], tmp_path: Path, *, there: bool) -> None:
    directory = tmp_path / "model"
    if there:
        directory.mkdir()
    served = serve(directory)
    served.wait_for("not ready")
    with Client(served.port) as client:
        assert client.ask("GET", "/ping").json == {"error": "no model released yet"}
    assert_unready(served, "no model released yet")


def change_manifest(bundle: Path, **changes: object) -> None:
    document = json.loads((bundle / "bundle.json").read_bytes())
    write_json(bundle / "bundle.json", {**document, **changes})


def wrong_golden(bundle: Path) -> None:
    golden = json.loads((bundle / "golden.json").read_bytes())
    golden["predictions"][2] += 2e-6
    write_json(bundle / "golden.json", golden)
    bundle_format.write(bundle, bundle_format.read(bundle))


def garbage_model(bundle: Path) -> None:
    (bundle / "model.ubj").write_bytes(b"not a model")
    bundle_format.write(bundle, bundle_format.read(bundle))


def wrong_hash(bundle: Path) -> None:
    (bundle / "model.ubj").write_bytes(b"x" * (bundle / "model.ubj").stat().st_size)


def no_model_file(bundle: Path) -> None:
    (bundle / "model.ubj").unlink()


def no_manifest(bundle: Path) -> None:
    (bundle / "bundle.json").unlink()


def not_json(bundle: Path) -> None:
    (bundle / "bundle.json").write_bytes(b"{")


def another_xgboost(bundle: Path) -> None:
    change_manifest(bundle, libraries={"xgboost": "1.7.6"})


def an_unknown_step(bundle: Path) -> None:
    change_manifest(bundle, steps=[{"op": "magic"}])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (wrong_hash, "model.ubj: sha256"),
        (no_model_file, "model.ubj: missing"),
        (no_manifest, "bundle.json: missing"),
        (not_json, "bundle.json"),
        (another_xgboost, "1.7.6"),
        (an_unknown_step, "magic"),
        (wrong_golden, "golden predictions are not reproduced: row 3"),
        (garbage_model, "model.ubj: cannot be loaded"),
    ],
)
def test_a_bad_bundle_is_not_served(
    serve: Callable[..., Served], bundle: Path, spoil: Callable[[Path], Any], reason: str
) -> None:
    spoil(bundle)
    served = serve(bundle)
    served.wait_for("not ready")
    assert_unready(served, reason)


def test_a_model_of_another_width_is_not_served(
    serve: Callable[..., Served], bundle: Path, tmp_path: Path
) -> None:
    other = make_bundle(tmp_path / "other", columns=[bundle_format.Column(name="only")])
    shutil.copy(other.directory / "model.ubj", bundle / "model.ubj")
    bundle_format.write(bundle, bundle_format.read(bundle))
    served = serve(bundle)
    served.wait_for("not ready")
    assert_unready(served, "has 1 features, but bundle.json has 3")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_drain_loses_no_request(serve: Callable[..., Served], plain: Made, workers: int) -> None:
    served = serve(plain.directory, drain_seconds=10, settle_seconds=0.5, workers=workers)
    served.wait_until_ready()
    outcomes: list[int] = []
    failures: list[BaseException] = []
    draining = threading.Event()

    def load() -> None:
        client: Client | None = None
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                client = client or Client(served.port)
            except ConnectionRefusedError:
                if not draining.is_set():
                    failures.append(AssertionError("refused before the drain"))
                return
            try:
                answer = client.ask("POST", "/invocations", ROW, "text/csv")
                outcomes.append(answer.status)
                if answer.headers.get("connection") == "close":
                    client.socket.close()
                    client = None
                    # A balancer that sees /ping fail goes elsewhere; some of these clients are late.
                    if len(outcomes) % 3:
                        return
            except (OSError, EOFError) as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=load) for _ in range(16)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    draining.set()
    assert served.terminate() == 0
    for thread in threads:
        thread.join(30)
    assert not failures
    assert len(outcomes) > 500
    assert set(outcomes) == {200}
    assert [event["connections_cut"] for event in served.events("drained")] == [0] * workers


def test_an_idle_connection_is_kept_until_it_was_used_once_more(
    serve: Callable[..., Served], plain: Made
) -> None:
    served = serve(plain.directory, drain_seconds=10)
    served.wait_for("ready")
    with Client(served.port) as idle, Client(served.port) as half:
        assert "connection" not in idle.ask("GET", "/ping").headers
        half.send(request("POST", "/invocations", ROW, "text/csv")[:-3])
        served.process.terminate()
        served.wait_for("draining")
        time.sleep(0.4)
        with Client(served.port) as late:
            answer = late.ask("GET", "/ping")
            assert (answer.status, answer.error, answer.headers["connection"]) == (503, "draining", "close")
        # All at once: the last answer closes the connection, none is lost.
        idle.send(request("POST", "/invocations", ROW, "text/csv") * 3)
        answers = [idle.receive() for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        assert [answer.headers.get("connection") for answer in answers] == [None, None, "close"]
        assert idle.ended()
        assert served.process.poll() is None
        half.send(ROW[-3:])
        assert half.receive().status == 200
        assert half.ended()
        assert served.process.wait(5) == 0


def test_a_drain_answers_the_whole_batch_behind_an_answer_given_at_once(
    serve: Callable[..., Served], plain: Made
) -> None:
    served = serve(plain.directory, drain_seconds=10)
    served.wait_for("ready")
    post = request("POST", "/invocations", ROW, "text/csv")
    with Client(served.port) as whole, Client(served.port) as cut:
        assert whole.ask("GET", "/metrics").status == 200
        assert cut.ask("GET", "/metrics").status == 200
        served.process.terminate()
        served.wait_for("draining")
        whole.send(request("GET", "/metrics") + post * 400 + request("GET", "/metrics") * 2)
        answers = [whole.receive() for _ in range(403)]
        assert {answer.status for answer in answers} == {200}
        assert [answer.headers.get("connection") for answer in answers] == [None] * 402 + ["close"]
        assert whole.ended()
        # What has begun to arrive is waited for.
        cut.send(request("GET", "/metrics") + post[:-3])
        assert "connection" not in cut.receive().headers
        cut.send(post[-3:])
        assert cut.receive().headers["connection"] == "close"
        assert cut.ended()
        assert served.process.wait(5) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_drain_breaks_no_pipeline(serve: Callable[..., Served], plain: Made, workers: int) -> None:
    served = serve(plain.directory, drain_seconds=10, settle_seconds=0.3, workers=workers)
    served.wait_until_ready()
    post = request("POST", "/invocations", ROW, "text/csv")
    ends: list[object] = []

    def load() -> None:
        """Send without end, ahead of the answers, and count those up to the one that closes."""
        with Client(served.port) as client:
            answered = 0
            batch = (post * 3 + request("GET", "/ping")) * 5
            try:
                client.send(batch * 2)
                while True:
                    client.send(batch)
                    for _ in range(20):
                        answer = client.receive()
                        assert answer.status == 200 or answer.error == "draining"
                        answered += 1
                        if answer.headers.get("connection") == "close":
                            ends.append(answered)
                            return
            except (OSError, EOFError, AssertionError) as error:
                ends.append(error)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert served.terminate() == 0
    for thread in threads:
        thread.join(30)
    assert len(ends) == 8
    assert all(isinstance(end, int) and end > 20 for end in ends), ends
    assert [event["connections_cut"] for event in served.events("drained")] == [0] * workers


def test_the_drain_period_ends(serve: Callable[..., Served], plain: Made) -> None:
    served = serve(plain.directory, drain_seconds=0.5)
    served.wait_for("ready")
    with Client(served.port) as idle:
        assert idle.ask("GET", "/ping").status == 200
        begun = time.monotonic()
        assert served.terminate() == 0
        assert 0.4 < time.monotonic() - begun < 3
        assert idle.ended()


@pytest.mark.parametrize(
    ("variable", "value", "accepted"),
    [
        ("SERVING_PORT", "http", "0 to 65535"),
        ("SERVING_PORT", "70000", "0 to 65535"),
        ("SERVING_MAX_ROWS", "0", "1 to 1000000"),
        ("SERVING_DRAIN_SECONDS", "nan", "0.0 to 3600.0"),
        ("SERVING_LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("SERVING_MODEL_DIR", "", "is empty"),
    ],
)
def test_bad_settings_are_named(variable: str, value: str, accepted: str) -> None:
    with pytest.raises(settings.SettingsError, match=f"^{variable}: .*{accepted}"):
        settings.from_environment({variable: value})


def test_settings() -> None:
    assert settings.from_environment({}) == settings.Settings()
    chosen = settings.from_environment({"SERVING_LOG_LEVEL": "DEBUG", "SERVING_PORT": " 81 ", "PATH": "x"})
    assert (chosen.log_level, chosen.port) == ("debug", 81)
    assert settings.unknown_variables({"SERVING_PRT": "1", "SERVING_PORT": "1"}) == ["SERVING_PRT"]


def run(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "serving"],
        env={"PYTHONPATH": f"{root}:{root / 'training'}", "SERVING_MODEL_DIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_bad_setting_stops_the_start(tmp_path: Path) -> None:
    ended = run(tmp_path, SERVING_MAX_ROWS="many")
    assert ended.returncode == 2
    assert "SERVING_MAX_ROWS" in json.loads(ended.stderr)["reason"]


def test_a_busy_port_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(tmp_path, SERVING_HOST="127.0.0.1", SERVING_PORT=str(port))
    assert ended.returncode == 1
    line = json.loads(ended.stderr)
    assert (line["event"], line["port"]) == ("cannot listen", port)
