import itertools
import os
import socket
import statistics
import threading
import time
from pathlib import Path

from bench import paced, wrk


def test_even_arrivals_are_evenly_spaced() -> None:
    due = paced.schedule(100.0, 0.5, poisson=False)
    assert len(due) == 50
    assert due[1] == 0.01


def test_random_arrivals_have_the_rate_and_the_spread_of_independent_clients() -> None:
    due = paced.schedule(1000.0, 20.0, poisson=True)
    gaps = [after - before for before, after in itertools.pairwise(due)]
    assert abs(len(due) - 20_000) < 500
    assert abs(statistics.stdev(gaps) / statistics.mean(gaps) - 1.0) < 0.05


def test_percentiles() -> None:
    values = [float(value) for value in range(100)]
    assert paced.percentile(values, 0.95) == 95.0
    assert paced.percentile([], 0.5) == 0.0


def serve(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        for number in itertools.count():
            if not connection.recv(65536):
                return
            if number == 40:  # one answer keeps the only connection busy
                time.sleep(0.2)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_waiting_behind_a_slow_answer_counts(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(listener,))
    thread.start()
    path = tmp_path / "requests"
    wrk.write_requests(path, [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"])
    spec = paced.Spec(
        port=listener.getsockname()[1],
        pid=os.getpid(),
        requests=str(path),
        rate=100.0,
        seconds=0.8,
        warm_s=0.1,
        connections=1,
    )
    try:
        seen = paced.measure(spec)
    finally:
        thread.join(5)
        listener.close()
    assert seen.errors == 0
    # Of 80 requests, those due in the 0.2 s were late: one would be 1 %, twenty are a quarter.
    assert seen.p50_ms < 50 < seen.p95_ms
