"""What the training tests share: small made-up data, and the real script in a subprocess."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("repeatable")

SCRIPT = Path(__file__).parents[2] / "training" / "train.py"
Table = dict[str, list[Any]]


@dataclass(frozen=True)
class Outcome:
    """A finished run of the script."""

    code: int
    stdout: str
    stderr: str
    model: Path
    failure: str | None

    @property
    def refused(self) -> dict[str, str]:
        """The files that the failure's reason tells of."""
        assert self.failure is not None
        assert self.failure.startswith("DataRefused: REFUSED=")
        return json.loads(self.failure.removeprefix("DataRefused: REFUSED="))


@dataclass
class Workplace:
    """A training job's directories, and the script."""

    root: Path

    @property
    def channel(self) -> Path:
        return self._made("train")

    def environment(self, hyperparameters: Mapping[str, Any], **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "SM_CHANNEL_TRAIN": str(self.channel),
            "SM_MODEL_DIR": str(self.root / "model"),
            "SM_OUTPUT_DIR": str(self.root / "output"),
            "SM_NUM_CPUS": "1",
            "SM_HPS": json.dumps({"model": "test", "num_round": 20, "max_depth": 3, **hyperparameters}),
            "TRAINING_JOB_NAME": "ts-test--test-1",
            **more,
        }

    def train(self, hyperparameters: Mapping[str, Any], **more: str) -> Outcome:
        """Run the script as SageMaker does."""
        environment = self.environment(hyperparameters, **more)
        command = [sys.executable, "-W", "error", str(SCRIPT)]
        done = subprocess.run(
            command, env=environment, cwd=self.root, capture_output=True, text=True, timeout=60, check=False
        )
        failure = self.root / "output" / "failure"
        told = failure.read_text() if failure.exists() else None
        return Outcome(done.returncode, done.stdout, done.stderr, Path(environment["SM_MODEL_DIR"]), told)

    def _made(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture
def make_workplace(tmp_path: Path) -> Callable[[str], Workplace]:
    return lambda name: Workplace(tmp_path / name)


@pytest.fixture
def make_table() -> Callable[..., Table]:
    return table


@pytest.fixture
def write_csv() -> Callable[[Path, Table], None]:
    def write(path: Path, columns: Table) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(
                ["" if v is None else v for v in row] for row in zip(*columns.values(), strict=True)
            )

    return write


@pytest.fixture
def write_parquet() -> Callable[[Path, Table], None]:
    def write(path: Path, columns: Table) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)

    return write


def table(rows: int, *, seed: int = 0, task: str = "binary", shift: float = 0.0) -> Table:
    """Made-up rows: `size` (some missing), `kind` (some missing), `at` and a target `y` that they explain."""
    random = np.random.default_rng(seed)
    size = random.normal(shift, 2, rows).round(4)
    kind = random.integers(0, 4, rows)
    hour = random.integers(0, 24, rows)
    value = size + 2 * (kind == 1) + hour / 6 + random.normal(0, 0.5, rows)
    targets: dict[str, Sequence[Any]] = {
        "binary": (value > 2).astype(int).tolist(),
        "multiclass": np.array(["low", "middle", "top"])[np.digitize(value, [1.0, 3.5])].tolist(),
        "regression": value.round(5).tolist(),
    }
    gone = random.random((2, rows)) < 0.05
    return {
        "size": [None if hidden else float(v) for v, hidden in zip(size, gone[0], strict=True)],
        "kind": [None if hidden else "abcd"[v] for v, hidden in zip(kind, gone[1], strict=True)],
        "at": [f"2024-03-{1 + index % 28:02d}T{value:02d}:30:00Z" for index, value in enumerate(hour)],
        "y": list(targets[task]),
    }
