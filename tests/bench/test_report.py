import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench import charts, report, targets
from bench.candidates import FLOOR, XGBOOST
from bench.results import Book
from tests.bench.bench_support import add, add_paced

FIELDS = {
    "name",
    "kind",
    "format",
    "rows",
    "rps",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "cold_s",
    "rss_mib",
    "errors",
}


@pytest.fixture
def document() -> dict[str, Any]:
    book = Book()
    add(book, FLOOR, "csv", [100_000], kind="floor")
    add(book, XGBOOST, "csv", [40_000])
    add(book, XGBOOST, "csv", [8_000], rows=32)
    add(book, "<Peer & Co>", "json", [1_000], kind="peer")
    add_paced(book, XGBOOST, rps=3_500, p95=0.5, core=0.2)
    book.left_out["nginx"] = "not <installed>"
    environment = {
        "date": "2026-11-23", "cpu": "a cpu", "cores": 2, "memory_gib": 24, "system": "Linux",
        "python": "3.11", "commit": "abc", "load_average": [0.1, 0.2, 0.3], "nice": 0,
        "versions": {"numpy": "2"}, "server_core": 1, "load_core": 0, "plan": "full",
    }  # fmt: skip
    return {"environment": environment, "seconds": 60, **book.document(), **targets.document(book)}


class _Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "rect", "circle", "line"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"rect", "circle", "line"}:
            assert self.open.pop() == tag


def test_three_files_say_the_same(document: dict[str, Any], tmp_path: Path) -> None:
    report.write(tmp_path, document)
    again: dict[str, Any] = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert set(again["candidates"][0]) >= FIELDS
    assert {item["outcome"] for item in again["targets"]} == {"reached", "not measured"}
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "40,000" in text
        assert "0.40" in text


def test_the_page_needs_nothing_else_and_escapes(document: dict[str, Any]) -> None:
    page = report.page(document)
    balance = _Balance()
    balance.feed(page)
    assert not balance.open
    assert not re.search(r"(?:src|href)=|https?://|@import", page)
    assert "<Peer" not in page
    assert "&lt;Peer &amp; Co&gt;" in page
    assert "not &lt;installed&gt;" in page


def test_headlines_name_every_target(document: dict[str, Any]) -> None:
    lines = report.headlines(document).splitlines()
    assert len(lines) == len(document["targets"])
    assert any("0.40" in line and "≥ 0.35" in line for line in lines)


def test_a_busy_machine_is_told(document: dict[str, Any]) -> None:
    assert "busy" not in report.page(document)
    document["environment"]["load_average"] = [5.0, 5.0, 5.0]
    assert all("busy" in said(document) for said in (report.page, report.markdown, report.headlines))


def test_charts_stand_without_data() -> None:
    assert not charts.bars([], "nothing")
    assert not charts.spreads([charts.Spread("a", 0.0, 0.0, 0.0, "ours")], "nothing")


@pytest.mark.parametrize(
    ("value", "said"), [(0.123, "0.12"), (1.2345, "1.23"), (61.34, "61.3"), (1490.6, "1,491")]
)
def test_three_digits_that_matter(value: float, said: str) -> None:
    assert charts.short(value) == said
