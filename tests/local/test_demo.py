"""The demo itself, from the command line: the whole story, and Ctrl-C in the middle of it."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.local.background import ROOT, Background

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.loop, pytest.mark.timeout(300)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The program in a folder of its own, so that a session of the developer is not in the way."""
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml", "__main__.py", "components", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("functions", "serving", "training"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


class Demo(Background):
    """`python -m local demo` of a project."""

    patience_s = 200.0
    end_s = 240.0

    def __init__(self, project: Path) -> None:
        self.project = project
        super().__init__("demo", "--port", "0", "--project", str(project))

    def left_behind(self) -> list[Any]:
        processes = [
            info
            for process in psutil.process_iter(["pid", "cmdline"])
            if str(self.project) in " ".join((info := process.info)["cmdline"] or [])
        ]
        return processes + list((self.project / ".local").glob("run-*"))


def test_the_whole_story(project: Path) -> None:
    demo = Demo(project)
    assert demo.end() == 0, demo.text
    assert demo.left_behind() == []
    report = json.loads((project / "reports" / "demo" / "report.json").read_text())
    assert report["ok"] is True
    assert [step["outcome"] for step in report["steps"]] == ["done"] * 7
    assert report["requests"]["failed"] == 0
    assert report["requests"]["total"] >= 200 * 10
    assert report["resources"]["declared"] > report["resources"]["local"] > 50
    first, april, may = report["releases"]
    assert [release["outcome"] for release in report["releases"]] == ["released"] * 3
    assert len({release["digest"] for release in report["releases"]}) == 3
    assert first["metrics"]["champion"] is None
    # A challenger is judged by the rows that its champion is judged by, and no champion has seen them.
    assert april["metrics"]["champion"]["auc"] < april["metrics"]["challenger"]["auc"] + 0.005
    assert may["rows"] > april["rows"] > first["rows"]
    assert "dep_delay" in report["refusals"][0]["reason"]
    assert 0 < report["training_s"] < report["upload_to_serving_s"]
    assert {"before", "during", "after"} <= set(report["latency_ms"])
    assert (project / "reports" / "demo" / "report.html").stat().st_size > 50_000


@pytest.mark.parametrize("step", ["1. Bring", "4. New data"])
def test_ctrl_c_leaves_nothing_behind(project: Path, step: str) -> None:
    demo = Demo(project)
    demo.wait_for(step)
    time.sleep(1)
    demo.process.send_signal(signal.SIGINT)
    assert demo.end(40) == 130, demo.text
    assert demo.left_behind() == []
    assert "Traceback" not in demo.text


def test_an_emulator_that_dies_is_named(project: Path) -> None:
    demo = Demo(project)
    demo.wait_for("4. New data")
    (victim,) = (
        child
        for child in psutil.Process(demo.process.pid).children(recursive=True)
        if "local.aws" in child.cmdline()
    )
    victim.kill()
    assert demo.end(60) == 1, demo.text
    assert "local.aws ended unexpectedly" in demo.text
    assert demo.left_behind() == []
    report = json.loads((project / "reports" / "demo" / "report.json").read_text())
    assert [step["outcome"] for step in report["steps"]][:4] == ["done", "done", "done", "failed"]
