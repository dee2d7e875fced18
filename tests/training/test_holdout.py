from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import reading
from cells import Cells
from holdout import held_out, row_hashes, stopping


def hashes(path: Path) -> NDArray[np.uint64]:
    return row_hashes(reading.read(path, path.name).columns)


def test_the_hash_is_what_it_was_when_models_in_service_were_trained(tmp_path: Path) -> None:
    """These numbers may never change: a changed hash judges champions by rows that they were trained on."""
    (tmp_path / "a.csv").write_text("x,c,t\n1.5,café,2024-01-02T03:04:05Z\n,,\ntrue,-0,1\n")
    assert hashes(tmp_path / "a.csv").tolist() == [
        16887455663203236123,
        16294208416658607535,
        1550811679230603694,
    ]


def test_the_same_row_has_the_same_hash_in_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,c,t,b\n0.1,a,2024-01-02T03:04:05Z,true\n")
    (tmp_path / "b.csv").write_text('more,b,t,c,x\n, TRUE,2024-01-02 05:04:05+02:00,"a ",1e-1\nNA,1,,,7\n')
    moment = datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001 - naive on purpose
    for number, columns in enumerate(
        [
            {"x": [0.1], "c": ["a"], "t": [moment], "b": [True]},
            {
                "c": pa.array(["a"]).dictionary_encode(),
                "t": pa.array([moment], pa.timestamp("ns", "UTC")),
                "b": [1],
            }
            | {"x": pa.array([0.1], pa.float32())},
            {"x": [Decimal("0.10")], "c": ["a"], "t": pa.array([moment], pa.timestamp("s")), "b": ["true"]},
        ]
    ):
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
    found = {int(hashes(path)[0]) for path in tmp_path.iterdir()}
    assert len(found) == 1


@given(st.lists(st.lists(st.text(max_size=8), min_size=3, max_size=3), min_size=1, max_size=20))
def test_neither_the_order_of_rows_nor_of_columns_matters(rows: list[list[str]]) -> None:
    def of(some: list[list[str]], order: list[int]) -> dict[str, Cells]:
        codes = np.arange(len(some))
        return {str(index): Cells.of_texts(codes, [row[index] for row in some]) for index in order}

    forward, backward = row_hashes(of(rows, [0, 1, 2])), row_hashes(of(rows[::-1], [2, 0, 1]))
    np.testing.assert_array_equal(forward, backward[::-1])


def test_the_held_out_share_is_the_asked_one_and_grows_with_it() -> None:
    columns: dict[str, Any] = {
        "x": Cells.of_numbers(np.arange(50_000.0)),
        "z": Cells.of_numbers(np.zeros(50_000)),
    }
    found = row_hashes(columns)
    small, large = held_out(found, 0.2), held_out(found, 0.3)
    assert abs(small.mean() - 0.2) < 0.01
    assert not (small & ~large).any()
    watched = stopping(found[~small], 0.1)
    assert abs(watched.mean() - 0.1) < 0.01
