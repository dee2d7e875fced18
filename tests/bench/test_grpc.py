import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import candidates, grpc_client, grpc_rounds, h2load, sample
from bench.grpc_client import CallError
from bench.h2load import H2loadError
from bench.plan import TINY
from bench.processes import Served
from bench.runner import CheckError, Cores, Runner

SAID = """finished in 2.00s, 2.00 req/s, 666B/s
requests: 4 total, 68 started, 4 done, 4 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 4 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.30MB (1364889) total, 42.30KB (43320) headers (space savings 95.83%), 138B (138) data
"""
LOG = "1795485622463792\t200\t4000\n1\t200\t1000\n2\t200\t2000\n3\t200\t3000\n"
ROWS = [[0.5] * sample.FEATURES, [1.5] * sample.FEATURES]
# Field 6 of an answer: one tensor of two floats.
ANSWER = b"\x32\x08" + bytes.fromhex("0000803e0000003f")
H2LOAD = shutil.which("h2load")


def a_sample(directory: Path, expected: list[float]) -> sample.Sample:
    return sample.Sample(bundle=directory, rows=ROWS * 16, expected=expected * 16)


def a_place(directory: Path) -> candidates.Place:
    return candidates.Place(
        work=directory,
        serving_python=Path(sys.executable),
        environments={},
        sample=a_sample(directory, [0.25, 0.5]),
    )


def floor(directory: Path, answer: bytes) -> Served:
    launch = candidates.grpc_floor(answer).launch(a_place(directory))
    return Served(launch, directory / "floor.log", core=min(os.sched_getaffinity(0)))


def test_good_answers_are_counted_by_their_bytes() -> None:
    load = h2load.parse(SAID, LOG, seconds=2, answer_bytes=46)
    assert (load.requests, load.errors, load.rps) == (4, 1, 1.5)
    assert (load.p50_ms, load.p99_ms) == (3.0, 4.0)


def test_a_call_that_was_cut_off_is_no_answer_more() -> None:
    assert h2load.parse(SAID, LOG, seconds=2, answer_bytes=20).errors == 0


@pytest.mark.parametrize(("said", "log"), [("", LOG), (SAID, ""), ("requests: no", LOG)])
def test_h2load_that_fails_is_quoted(said: str, log: str) -> None:
    with pytest.raises(H2loadError, match="did not report"):
        h2load.parse(said, log, seconds=1, answer_bytes=46)


def test_a_request_has_every_value_and_an_answer_is_read() -> None:
    message = grpc_client.encode(ROWS)
    assert message.startswith(b"\x0a\x05bench")
    assert message.endswith(b"\0\0\0\x3f" * sample.FEATURES + b"\0\0\xc0\x3f" * sample.FEATURES)
    assert grpc_client.decode(ANSWER) == [0.25, 0.5]


@pytest.mark.parametrize("answer", [b"", b"\xff", b"\x32\x03abc"])
def test_what_is_no_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(CallError):
        grpc_client.decode(answer)


def test_answers_that_are_not_xgboosts_are_refused(tmp_path: Path) -> None:
    with floor(tmp_path, ANSWER) as served:
        assert grpc_client.call(served.port, b"") == ANSWER
        with pytest.raises(CheckError, match="inf off"):
            grpc_rounds.check(served.port, a_sample(tmp_path, [0.25, 0.5]))
    with pytest.raises(CallError, match="UNAVAILABLE"):
        grpc_client.call(served.port, b"")


@pytest.mark.skipif(H2LOAD is None, reason="needs h2load")
@pytest.mark.parametrize("method", [grpc_client.METHOD, "/inference.GRPCInferenceService/Other"])
def test_calls_that_fail_are_noticed_though_http_says_200(method: str, tmp_path: Path) -> None:
    body, log = tmp_path / "body", tmp_path / "log"
    body.write_bytes(h2load.frame(grpc_client.encode(ROWS)))
    with floor(tmp_path, ANSWER) as served:
        url = f"http://127.0.0.1:{served.port}{method}"
        argv = h2load.command(H2LOAD or "", url, body, log, 1)
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    size = len(h2load.frame(ANSWER))
    load = h2load.parse(ended.stdout, log.read_text(), seconds=1, answer_bytes=size)
    assert load.requests > 0
    assert load.errors == (0 if method == grpc_client.METHOD else load.requests)


@pytest.mark.parametrize(
    ("settings", "found", "reason"),
    [(frozenset[str](), "/bin/h2load", "grpc_port"), (frozenset({"grpc_port"}), None, "nghttp2-client")],
)
def test_it_says_why_grpc_is_left_out(
    settings: frozenset[str], found: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def which(_name: str) -> str | None:
        return found

    monkeypatch.setattr(shutil, "which", which)
    notes = list[str]()
    cores = Cores(server=0, load=0)
    runner = Runner(
        a_place(tmp_path), TINY, cores, "wrk", settings=settings, note=notes.append, live=notes.append
    )
    grpc_rounds.measure(runner)
    assert reason in runner.book.left_out[candidates.GRPC]
    assert not runner.book.measurements
