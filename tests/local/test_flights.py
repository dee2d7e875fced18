"""The demo's data: what is in the monthly files, and that they are always the same."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import pytest

from local import flights


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return flights.write_months(tmp_path_factory.mktemp("flights"), (3, 4))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_month_holds_its_flights_that_arrived(months: list[Path]) -> None:
    april = rows(months[1])
    assert [path.name for path in months] == ["2013-03.csv", "2013-04.csv"]
    assert tuple(april[0]) == flights.COLUMNS
    assert len(april) == 27_564
    assert {row["time_hour"][:7] for row in april} == {"2013-04"}
    assert {row["late"] for row in april} == {"0", "1"}
    assert sum(row["late"] == "1" for row in april) / len(april) == pytest.approx(0.28, abs=0.005)


def test_the_hour_is_the_scheduled_one_on_the_airports_clock(months: list[Path]) -> None:
    # In UTC the first departures of the day would shift by an hour on 10 March 2013.
    for day in ("2013-03-08", "2013-03-12"):
        assert min(row["time_hour"] for row in rows(months[0]) if row["time_hour"].startswith(day)).endswith(
            "T05:00:00"
        )


def test_the_same_bytes_again(months: list[Path], tmp_path: Path) -> None:
    assert flights.write_months(tmp_path, (4,))[0].read_bytes() == months[1].read_bytes()


def test_what_is_there_is_not_written_again(months: list[Path]) -> None:
    folder, before = months[0].parent, months[0].stat().st_mtime_ns
    flights.write_months(folder, (3,), source=Path("/nowhere"))
    assert months[0].stat().st_mtime_ns == before


def test_a_request_holds_what_is_known_at_departure(months: list[Path], tmp_path: Path) -> None:
    assert flights.write_requests(months[1], tmp_path / "requests.jsonl", limit=3) == 3
    bodies = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert bodies[0] == {
        "instances": [
            {
                "carrier": "US",
                "origin": "EWR",
                "dest": "CLT",
                "time_hour": "2013-04-01T05:00:00",
                "distance": 529.0,
                "dep_delay": -6.0,
            }
        ]
    }


def test_the_malformed_file_lacks_a_column_and_has_text_for_numbers(
    months: list[Path], tmp_path: Path
) -> None:
    broken = rows(flights.write_malformed(months[1], tmp_path / "bad.csv", rows=10))
    assert len(broken) == 10
    assert "dep_delay" not in broken[0]
    assert broken[0]["distance"] == "529 miles"


@pytest.mark.parametrize("content", [None, b"not a zip", "other.csv", "flights.csv"])
def test_another_archive_is_refused(content: bytes | str | None, tmp_path: Path) -> None:
    source = tmp_path / "flights.csv.zip"
    if isinstance(content, bytes):
        source.write_bytes(content)
    elif content:
        with zipfile.ZipFile(source, "w") as packed:
            packed.writestr(content, "a,b\n1,2\n")
    with pytest.raises(flights.FlightsMissingError, match=r"flights\.csv\.zip"):
        flights.write_months(tmp_path, (1,), source=source)
    assert not list(tmp_path.glob("*.csv"))
