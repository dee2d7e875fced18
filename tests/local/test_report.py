"""The report: its figures, its JSON, and that its page shows any text as text."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from local import charts, page
from local.report import Report, Resource, Step, render, spans, to_json, write
from local.samples import percentiles

sys.path.insert(0, str(Path(__file__).parent))
from report_fixture import START, releases, report, resources

EMPTY = Report(
    stack="dev",
    model="flights",
    started=START,
    ended=START,
    steps=[Step(number=1, title="Bring up", outcome="failed", found=("port 8080 is taken",))],
    problems=["Bring up: port 8080 is taken"],
)
HOSTILE = "</style><script>alert(1)</script>'\"&<img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Collects elements, their attributes, and text; refuses tags that do not match."""

    VOID = frozenset({"meta"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_json_has_the_facts(tmp_path: Path) -> None:
    data, html = write(report(), tmp_path / "a" / "b")
    found = json.loads(data.read_text())
    assert html.read_text().startswith("<!doctype html>")
    assert found["ok"] is True
    assert (found["resources"]["declared"], found["resources"]["local"]) == (12, 7)
    assert (found["requests"]["total"], found["requests"]["failed"]) == (13_000, 0)
    assert set(found["latency_ms"]) == {"total", "before", "during", "after"}
    assert found["latency_ms"]["during"]["p99"] > 0
    second = found["releases"][1]
    assert {"digest", "package", "job", "metrics", "outcome"} <= set(second)
    assert second["metrics"]["champion"]["auc"] == pytest.approx(0.9102)
    # The headline figures are of the first release that traffic saw, not of the bootstrap.
    assert found["upload_to_serving_s"] == pytest.approx(9.3, abs=0.01)
    assert found["training_s"] == pytest.approx(5.5)
    assert {span["lane"] for span in found["timeline"]} >= {
        "Step",
        "Upload",
        "Training",
        "Rollout",
        "Answering",
    }


def test_nothing_is_unknown_in_a_way_that_json_cannot_say() -> None:
    idle = report()
    assert idle.traffic
    silent = replace(
        idle, traffic=replace(idle.traffic, total=percentiles([]), phases={"during": percentiles([])})
    )
    text = json.dumps(to_json(silent), allow_nan=False)
    assert json.loads(text)["latency_ms"]["during"]["p50"] is None


@pytest.mark.parametrize("made", [report(), EMPTY], ids=["whole", "empty"])
def test_the_page_is_well_formed_and_needs_nothing_else(made: Report) -> None:
    page_ = Page(render(made))
    for tag, attributes in page_.tags:
        assert tag not in {"script", "link", "img", "iframe"}
        assert not {"src", "href"} & set(attributes)
    assert "http" not in re.sub(r"http-equiv|default-src", "", render(made))
    for svg in re.findall(r"<svg.*?</svg>", render(made), re.DOTALL):
        ET.fromstring(svg)  # noqa: S314  # our own


def test_hostile_text_stays_text() -> None:
    hostile = replace(
        report(),
        stack=HOSTILE,
        model=HOSTILE,
        problems=[HOSTILE],
        steps=[replace(step, title=HOSTILE, found=(HOSTILE,)) for step in report().steps],
        releases=[
            replace(
                release, title=HOSTILE, reason=HOSTILE, outcome=HOSTILE, digest=HOSTILE, package=HOSTILE,
                version=f"{HOSTILE}{release.number}", challenger={HOSTILE: 1.0}, primary_metric=HOSTILE,
            )
            for release in releases()
        ],
        refusals=[replace(r, upload=HOSTILE, reason=HOSTILE, job=HOSTILE) for r in report().refusals],
        resources=[replace(resource, name=HOSTILE, type=HOSTILE) for resource in resources()],
        simulated=[(HOSTILE, HOSTILE)],
        facts={HOSTILE: HOSTILE},
    )  # fmt: skip
    page_ = Page(render(hostile))
    assert not {"script", "img"} & {tag for tag, _ in page_.tags}
    assert HOSTILE in page_.text


def test_a_failed_run_says_so() -> None:
    assert not EMPTY.ok
    assert to_json(EMPTY)["ok"] is False
    text = Page(render(EMPTY)).text
    assert "port 8080 is taken" in text
    assert "did not run as it should" in text
    assert to_json(EMPTY)["upload_to_serving_s"] is None


def test_a_skipped_step_is_not_ok() -> None:
    steps = [*report().steps[:-1], replace(report().steps[-1], outcome="skipped", started=None, ended=None)]
    assert not replace(report(), steps=steps).ok


def test_the_tree_keeps_every_resource_and_counts_below() -> None:
    orphan = Resource(urn="u", type="t", name="n", parent="gone", component=False, local=True)
    roots = page.tree([*resources(), orphan])
    assert [root.resource.name for root in roots] == ["trainserve-dev", "n"]
    assert (roots[0].declared, roots[0].local) == (12, 7)


def test_metrics_say_which_way_is_better() -> None:
    release = releases()[1]
    first = page.metrics(release)[0]
    assert (first.name, first.better, first.difference) == ("auc", True, "+0.0049")
    rmse = replace(
        release,
        primary_metric="rmse",
        greater_is_better=False,
        challenger={"rmse": 3.0},
        champion={"rmse": 2.0},
    )
    assert page.metrics(rmse)[0].better is False
    assert page.metrics(replace(release, champion=None))[0].better is None


def test_time_runs_from_left_to_right_within_the_frame() -> None:
    frame = charts.Frame(10.0, 20.0)
    assert frame.x(10) == charts.LEFT
    assert frame.x(20) == charts.WIDTH - charts.RIGHT
    assert frame.x(-5) == charts.LEFT
    assert frame.x(99) == charts.WIDTH - charts.RIGHT


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 0, [0]), (0, 71, [0, 20, 40, 60]), (0, float("nan"), [0])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert charts.steps(low, high) == expected


def test_decades_enclose_the_values() -> None:
    assert charts.decades(0.7, 37) == [0.5, 1, 2, 5, 10, 20, 50]
    assert charts.decades(1, 1) == [1, 2]


def test_a_moment_without_answers_breaks_the_line() -> None:
    nan = float("nan")
    line = charts.Line("p50", "l1", [(0, 1.0), (1, 2.0), (2, nan), (3, 1.0)])
    path = re.search(r' d="([^"]*)"', charts.latency([line], [], charts.Frame(0, 3)))
    assert path
    assert path[1].count("M") == 2


def test_spans_of_a_run_that_never_began() -> None:
    assert spans(EMPTY) == []
