from pathlib import Path

import pytest

from bench import paced, wrk

SAID = """Running 1s test @ http://127.0.0.1:1
  1 threads and 64 connections
Requests/sec:  1000.00
BENCH {"requests":1010,"duration_us":1000000,"p50_us":500.0,"p95_us":1250.0,"p99_us":2000.0,\
"connect":1,"read":2,"write":0,"status":6,"timeout":1}
"""


def test_what_wrk_says_is_understood() -> None:
    load = wrk.parse(SAID)
    assert (load.p50_ms, load.p95_ms, load.p99_ms) == (0.5, 1.25, 2.0)
    assert load.errors == 10
    assert load.rps == 1000.0


@pytest.mark.parametrize("said", ["", "BENCH {", "BENCH []", 'BENCH {"requests":1}'])
def test_wrk_that_fails_is_quoted(said: str) -> None:
    with pytest.raises(wrk.WrkError, match="unable to connect"):
        wrk.parse(said, "unable to connect to 127.0.0.1")


def test_requests_survive_the_file(tmp_path: Path) -> None:
    requests = [b"POST / HTTP/1.1\r\n\r\n1,2\n3,4", b"x" * 5000]
    wrk.write_requests(tmp_path / "requests", requests)
    assert paced.read_requests(tmp_path / "requests") == requests
