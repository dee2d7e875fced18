import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import environments, machine
from bench.candidates import GRPC, server_settings
from bench.environments import serving_python
from bench.sample import largest_difference

ROOT = Path(__file__).parents[2]
WHOLE = (
    shutil.which("wrk") is not None
    and (ROOT / ".venv-serving" / "bin" / "python").exists()
    and len(os.sched_getaffinity(0)) > 1
)
needs_all = pytest.mark.skipif(not WHOLE, reason="needs wrk, the serving environment and two cores")


def bench(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench", "--plan", "tiny", "--out", str(out)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def has_grpc() -> bool:
    return shutil.which("h2load") is not None and "grpc_port" in server_settings(serving_python())


@needs_all
@pytest.mark.timeout(60)
def test_a_tiny_run(tmp_path: Path) -> None:
    with bench(tmp_path) as process:
        said, _ = process.communicate(timeout=55)
    assert process.returncode == 0, said
    document: dict[str, Any] = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    ours = [item for item in document["candidates"] if item["kind"] == "ours"]
    assert {item["format"] for item in ours} == {"csv"} | ({"grpc"} if has_grpc() else set())
    left_out = {item["name"]: item["reason"] for item in document["left_out"]}
    assert has_grpc() or ("h2load" in left_out[GRPC] or "grpc_port" in left_out[GRPC])
    share = next(item for item in document["targets"] if item["name"] == "share of an empty gRPC answer")
    assert (share["found"] is not None) == has_grpc()
    assert all(item["rps"] > 0 and item["errors"] == 0 for item in ours)
    assert document["paced"]
    assert (tmp_path / "report.html").exists()


@needs_all
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with bench(tmp_path) as process:
        time.sleep(2.5)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 130, said
    runs = f"run-{process.pid}-"
    assert not list((ROOT / ".local" / "bench").glob(f"{runs}*"))
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes() + entry.with_name("cwd").readlink().as_posix().encode()
        except OSError:
            continue
        assert runs.encode() not in command


def test_every_peer_has_its_list_and_names_no_index() -> None:
    for directory in (path for path in environments.PEERS.iterdir() if path.is_dir()):
        text = (environments.PEERS / f"{directory.name}.txt").read_text(encoding="utf-8")
        assert "xgboost-cpu==3.2.0" in text
        assert "://" not in text
        assert "\nxgboost==" not in text
        assert machine.pinned(directory.name, ["xgboost-cpu"]) == {"xgboost-cpu": "3.2.0"}


def test_uv_is_found_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Makefile names its own by a path in the project, and peers are installed from elsewhere."""
    tool = tmp_path / ".uv" / "uv"
    tool.parent.mkdir()
    tool.touch(0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UV", ".uv/uv")
    assert environments.uv() == str(tool)


def test_too_few_predictions_are_wrong() -> None:
    assert largest_difference([0.5], [0.5, 0.5]) == float("inf")
    assert largest_difference([0.5], [0.25]) == 0.25
