"""Bundles made by XGBoost itself, servers as processes, and a client that sends what it is told to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import xgboost

from bundle import format as bundle_format
from bundle.format import Column
from bundle.preprocess import Preprocessor, features_of

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "serving"]
CARRIERS = ("AA", "B6", "UA")
NUMBERS = [Column(name="delay", type="numeric"), Column(name="distance", type="numeric"), Column(name="hour")]
MIXED = [
    Column(name="carrier", type="categorical", categories=CARRIERS, unknown="missing"),
    Column(name="origin", type="categorical", categories=("EWR", "JFK"), unknown="refuse"),
    Column(name="distance", type="numeric"),
    Column(name="when", type="timestamp"),
]
MIXED_STEPS: list[dict[str, Any]] = [
    {"op": "timestamp_parts", "column": "when", "parts": ["month", "hour"]},
    {"op": "log1p", "column": "distance"},
]


def raw_rows(columns: list[Column], count: int) -> list[list[Any]]:
    """Rows as a client would have them, with missing values."""
    rng = np.random.default_rng(7)

    def value(column: Column) -> Any:
        if rng.random() < 0.1:
            return None
        if column.type == "numeric":
            return round(float(rng.gamma(2.0, 50.0)), 3)
        if column.type == "timestamp":
            return f"2013-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}T{rng.integers(0, 24):02d}:00:00"
        return str(rng.choice(column.categories))

    return [[value(column) for column in columns] for _ in range(count)]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A bundle on disk, the model in memory, and rows with what XGBoost says of them."""

    directory: Path
    booster: xgboost.Booster
    rows: list[list[Any]]
    expected: Any


def make_bundle(
    directory: Path,
    task: bundle_format.Task = "binary",
    columns: list[Column] = NUMBERS,
    steps: list[dict[str, Any]] | None = None,
    *,
    version: str = "v1",
) -> Made:
    """Train a small model on random rows and write its bundle."""
    directory.mkdir(parents=True)
    steps = steps or []
    features = features_of(columns, steps)
    rows = raw_rows(columns, 300)
    matrix = Preprocessor(columns, steps, features).transform_rows(rows)
    classes = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": None}[task]
    objective = {
        "binary": "binary:logistic",
        "multiclass": "multi:softprob",
        "regression": "reg:squarederror",
    }
    score = np.nan_to_num(matrix).sum(axis=1)
    if classes is None:
        labels = score
    else:
        labels = np.searchsorted(np.quantile(score, np.linspace(0, 1, len(classes) + 1)[1:-1]), score)
    parameters: dict[str, Any] = {"objective": objective[task], "max_depth": 4, "nthread": 1, "seed": 1}
    if task == "multiclass":
        parameters["num_class"] = 3
    types = ["c" if feature.type == "categorical" else "float" for feature in features]
    data = xgboost.DMatrix(matrix, labels, feature_types=types, enable_categorical=True)
    booster = xgboost.train(parameters, data, num_boost_round=12)
    booster.save_model(directory / bundle_format.MODEL)
    expected = booster.predict(data)
    golden = {"columns": [column.name for column in columns], "rows": rows[:8]}
    write_json(directory / bundle_format.GOLDEN, {**golden, "predictions": expected[:8].tolist()})
    write_json(directory / bundle_format.BASELINE, {})
    manifest = bundle_format.describe("flights", version, task, columns, {"auc": 0.9}, classes=classes)
    manifest = replace(manifest, steps=tuple(steps), features=tuple(features))
    bundle_format.write(directory, manifest)
    return Made(directory=directory, booster=booster, rows=rows, expected=expected)


def write_json(path: Path, document: object) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


def csv_body(rows: list[list[Any]]) -> bytes:
    """Rows as CSV; a missing value is an empty field, and NA where that would leave an empty line."""
    return "\n".join(
        ",".join("" if value is None else str(value) for value in row) or "NA" for row in rows
    ).encode()


class Served:
    """A server process on a free port of the loopback interface."""

    def __init__(
        self, model_dir: Path, log: Path, environment: Mapping[str, str] | None = None, **settings: object
    ) -> None:
        self.log_path = log
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "training"))),
            "SERVING_HOST": "127.0.0.1",
            "SERVING_PORT": "0",
            "SERVING_WORKERS": "1",
            # A machine that runs many tests at once may stand still for seconds.
            "SERVING_MAX_QUEUE_SECONDS": "60",
            "SERVING_MODEL_DIR": str(model_dir),
            "SERVING_SETTLE_SECONDS": "0.1",
            **{f"SERVING_{name.upper()}": str(value) for name, value in settings.items()},
            **(environment or {}),
        }
        with log.open("wb") as stream:
            self.process = subprocess.Popen(COMMAND, env=variables, stderr=stream, cwd=log.parent)
        started = self.wait_for("started")
        self.port: int = started["port"]

    def events(self, *names: str) -> list[dict[str, Any]]:
        """What the server has logged, or what of these names; every line must be JSON."""
        lines = self.log_path.read_text(encoding="utf-8").splitlines(keepends=False)
        return [event for event in map(json.loads, lines) if not names or event["event"] in names]

    def wait_until_ready(self, seconds: float = 30) -> None:
        """Wait until /ping says so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with Client(self.port) as client:
                if client.ask("GET", "/ping").status == 200:
                    return
            time.sleep(0.02)
        raise AssertionError(f"not ready: {self.log_path.read_text(encoding='utf-8')}")

    def wait_for(self, *names: str, seconds: float = 30) -> dict[str, Any]:
        """Wait until one of these events is logged."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            text = self.log_path.read_text(encoding="utf-8")
            for line in text[: text.rfind("\n") + 1].splitlines():
                event = json.loads(line)
                if event["event"] in names:
                    return event
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {names} in: {self.log_path.read_text(encoding='utf-8')}")

    def terminate(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def resident(process: int, which: str = "VmRSS:") -> int:
    """The resident memory of a process in bytes, or its peak (`VmHWM:`)."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.split(which)[1].split()[0]) * 1024


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The reason; every refusal has one."""
        assert self.headers["content-type"] == "application/json"
        return str(self.json["error"])


class Client:
    """One connection, on which the test decides every byte."""

    def __init__(self, port: int, timeout: float = 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Client:
        self.socket.sendall(data)
        return self

    def receive(self, *, head_only: bool = False) -> Answer:
        """Read one answer; raises EOFError when the connection ends before it is whole."""
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        headers = dict[str, str]()
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        length = 0 if head_only or status == 100 else int(headers["content-length"])
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Answer(status=status, headers=headers, body=body)

    def ended(self) -> bool:
        """Whether the server has closed, with nothing more to read."""
        return not self._buffer and self.socket.recv(1) == b""

    def ask(
        self, method: str, path: str, body: bytes = b"", content_type: str = "", **headers: str
    ) -> Answer:
        self.send(request(method, path, body, content_type, **headers))
        return self.receive(head_only=method == "HEAD")

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(mark)
        return head

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(self._buffer)
        self._buffer += data


def request(method: str, path: str, body: bytes = b"", content_type: str = "", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
