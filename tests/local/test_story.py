"""The demo when something goes wrong: it says what, writes its report, and ends with 1."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from local import demo
from local.errors import ChildError, Interrupted, LocalError
from local.session import LocalSession, SessionOptions
from local.story import TITLES

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Broken:
    """A session that cannot be brought up."""

    options: SessionOptions
    error: BaseException
    death: ChildError | None = None
    run_dir: Path = field(default=Path("/nonexistent"))

    def bring_up(self, progress: object) -> None:
        raise self.error

    def check(self) -> None:
        if self.death:
            raise self.death

    @property
    def program(self) -> Any:
        raise LocalError("the local session is not up")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def run(project: Path, error: BaseException, death: ChildError | None = None) -> tuple[int, dict[str, Any]]:
    session = Broken(SessionOptions(project=project), error, death)
    (project / "run").mkdir()
    session.run_dir = project / "run"
    (session.run_dir / "aws.log").write_text("last words")
    code = demo.run(cast("LocalSession", session), demo.DemoOptions())
    return code, json.loads((project / "reports" / "demo" / "report.json").read_text())


def test_a_step_that_fails_is_told_and_the_others_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = run(tmp_path, LocalError("port 8080 is not free"))
    assert code == 1
    assert found["ok"] is False
    assert [step["outcome"] for step in found["steps"]] == ["failed", *["skipped"] * (len(TITLES) - 1)]
    assert found["steps"][0]["found"] == ["port 8080 is not free"]
    assert found["problems"] == [f"{TITLES[0]}: port 8080 is not free"]
    assert (found["requests"]["total"], found["resources"]["declared"], found["releases"]) == (0, 0, [])
    out = capsys.readouterr().out
    assert "port 8080 is not free" in out
    assert "reports/demo/report.html" in out
    assert (tmp_path / "reports" / "demo" / "report.html").exists()
    assert (tmp_path / "reports" / "demo" / "logs" / "aws.log").read_text() == "last words"


def test_a_dead_emulator_explains_what_came_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_DEATH_NOTICED_S", 0.0)
    code, found = run(tmp_path, ConnectionError("refused"), ChildError("local.aws ended unexpectedly"))
    assert code == 1
    assert found["problems"] == [f"{TITLES[0]}: local.aws ended unexpectedly"]


def test_an_error_of_our_own_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_DEATH_NOTICED_S", 0.0)
    code, found = run(tmp_path, KeyError("models"))
    assert code == 1
    assert found["problems"] == [f"{TITLES[0]}: KeyError: 'models'"]


def test_an_interruption_ends_it_without_a_report(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, Interrupted(signal.SIGINT))
    assert not (tmp_path / "reports").exists()
