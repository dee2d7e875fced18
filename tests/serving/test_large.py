"""Large requests are read in pieces, with the same outcome, and do not hold up the others."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import large
from tests.serving.serving_support import Answer, Client, Made, Served, csv_body


@pytest.fixture(scope="module")
def roomy(plain: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(plain.directory, tmp_path_factory.mktemp("roomy") / "log", max_rows=40_000)
    served.wait_for("ready")
    yield served
    served.kill()


def many(made: Made, times: int) -> tuple[list[list[Any]], Any]:
    return made.rows * times, np.tile(made.expected, times)


def ask(served: Served, body: bytes, content_type: str) -> Answer:
    assert len(body) >= large.LARGE
    with Client(served.port) as client:
        return client.ask("POST", "/invocations", body, content_type)


def test_csv_in_pieces(roomy: Served, plain: Made) -> None:
    rows, expected = many(plain, 100)
    body = csv_body(rows)
    assert len(large.csv_pieces(body)) > 5
    for sent in (body, body + b"\n", body.replace(b"\n", b"\r\n")):
        answer = ask(roomy, sent, "text/csv")
        assert [float(line) for line in answer.body.split()] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("wrap", ["%s", '{"instances":%s}', ' { "instances" : %s } \n'])
@pytest.mark.parametrize("separators", [(",", ":"), (" , ", ":")])
def test_json_in_pieces(roomy: Served, plain: Made, wrap: str, separators: tuple[str, str]) -> None:
    rows, expected = many(plain, 100)
    body = (wrap % json.dumps(rows, separators=separators)).encode()
    assert len(large.json_pieces(body)) > 5
    answer = ask(roomy, body, "application/json")
    assert answer.json["predictions"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("space", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
@pytest.mark.parametrize("wrap", ["{space}{rows}", "{rows}{space}", '{{{space}"instances"{space}:{rows}}}'])
def test_only_json_has_a_say_in_what_space_is(roomy: Served, plain: Made, space: str, wrap: str) -> None:
    rows, _ = many(plain, 100)
    body = wrap.format(space=space, rows=json.dumps(rows)).encode()
    assert large.json_pieces(body) == [body]
    assert ask(roomy, body, "application/json").status == 400


def test_objects_stay_whole(roomy: Served, plain: Made) -> None:
    rows, expected = many(plain, 20)
    body = json.dumps([dict(zip(("delay", "distance", "hour"), row, strict=True)) for row in rows]).encode()
    assert large.json_pieces(body) == [body]
    answer = ask(roomy, body, "application/json")
    assert answer.json["predictions"] == pytest.approx(expected, abs=1e-6)


def test_with_pre_processing(mixed_server: Served, mixed: Made) -> None:
    rows, expected = many(mixed, 20)
    with Client(mixed_server.port) as client:
        for body, content_type in (
            (csv_body(rows), "text/csv"),
            (json.dumps(rows).encode(), "application/json"),
        ):
            assert len(body) >= large.LARGE
            answer = client.ask("POST", "/invocations", body, content_type, Accept="application/json")
            assert answer.json["predictions"] == pytest.approx(expected, abs=1e-6)


def spoil_csv(rows: list[bytes], at: int, row: bytes) -> bytes:
    return b"\n".join([*rows[:at], row, *rows[at + 1 :]])


@pytest.mark.parametrize("at", [0, 3000, 9000, 14_999])
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"1,2,x", "'x' is not a number"),
        (b"1,2", "want 3 values, got 2"),
        (b"", "want 3 values, got 0"),
        (b"inf,1,1", "inf"),
    ],
)
def test_the_row_that_is_wrong(roomy: Served, plain: Made, at: int, row: bytes, reason: str) -> None:
    rows = csv_body(plain.rows * 50).split(b"\n")
    assert len(rows) == 15_000
    if not row and at == 14_999:
        return  # the end of the last line
    answer = ask(roomy, spoil_csv(rows, at, row), "text/csv")
    assert answer.status == 400
    if row or at:
        assert f"row {at + 1}" in answer.error
        assert reason in answer.error


@pytest.mark.parametrize("at", [0, 9000, 14_999])
@pytest.mark.parametrize("row", ["[1,2]", "[1,2,3,4]", "7", "[[1],2,3]", "[1,2,1e99]", "[1,2,3],", "[1,2,3"])
def test_the_array_that_is_wrong(roomy: Served, plain: Made, at: int, row: str) -> None:
    rows = [json.dumps(line) for line in plain.rows * 50]
    rows[at] = row
    answer = ask(roomy, f"[{','.join(rows)}]".encode(), "application/json")
    assert answer.status == 400
    assert "malformed JSON" in answer.error or f"row {at + 1}" in answer.error


def test_too_many_rows(roomy: Served, plain: Made) -> None:
    rows, _ = many(plain, 150)
    for body, content_type in ((csv_body(rows), "text/csv"), (json.dumps(rows).encode(), "application/json")):
        answer = ask(roomy, body, content_type)
        assert (answer.status, "45000 rows" in answer.error) == (413, True)


def test_others_are_served_meanwhile(roomy: Served, plain: Made) -> None:
    """Between the sending of a large request and its answer, many small ones are answered."""
    body = json.dumps(plain.rows * 130).encode()
    done: list[float] = []

    def send() -> None:
        for _ in range(3):
            assert ask(roomy, body, "application/json").status == 200
        done.append(time.monotonic())

    thread = threading.Thread(target=send)
    thread.start()
    served = 0
    with Client(roomy.port) as client:
        while not done:
            assert client.ask("POST", "/invocations", b"1,2,3", "text/csv").status == 200
            served += 1
    thread.join()
    assert served > 30


def test_only_so_many_wait(serve: Callable[..., Served], plain: Made, tmp_path: Path) -> None:
    assert tmp_path.exists()
    served = serve(plain.directory, max_rows=40_000)
    served.wait_for("ready")
    body = csv_body(plain.rows * 100)
    message = (
        b"POST /invocations HTTP/1.1\r\nHost: t\r\nContent-Type: text/csv\r\nContent-Length: %d\r\n\r\n"
        % len(body)
    )
    clients = [Client(served.port) for _ in range(50)]
    threads = [threading.Thread(target=client.send, args=(message + body,)) for client in clients]
    for thread in threads:
        thread.start()
    statuses = [client.receive().status for client in clients]
    for thread, client in zip(threads, clients, strict=True):
        thread.join()
        client.socket.close()
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 32
