"""The command line, on a small program: every way to end leaves no process, port or file behind."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from local import __main__
from local.errors import ChildError
from local.session import LocalSession
from local.signals import Signals
from local.workspace import RUN_DIR_VARIABLE, Workspace, processes_of
from tests.local.background import ROOT, Background

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = Path(__file__).parent / "programs" / "small"
READY = "The end: Ctrl-C"


class Command(Background):
    """A command that finds no AWS account; `mode` is what the small program does."""

    def __init__(self, *arguments: str, mode: str = "") -> None:
        super().__init__(*arguments, SMALL_MODE=mode, AWS_PROFILE="nobody", PYTHONUNBUFFERED="1")


def local(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local", *arguments],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "project"
    shutil.copytree(SMALL, folder, ignore=shutil.ignore_patterns("__pycache__", ".local"))
    before = set(Path("/tmp").iterdir())
    yield folder
    workspace = folder / ".local"
    with suppress(OSError):
        assert not list(workspace.glob("run-*")), "a run directory is left"
        assert not (workspace / "session.json").exists(), "the session file is left"
    left = [
        process.info
        for process in psutil.process_iter(["pid", "cmdline", "environ"])
        if any(str(folder) in part for part in process.info["cmdline"] or ())
        or str(folder) in str((process.info["environ"] or {}).get(RUN_DIR_VARIABLE, ""))
        or str(folder) in str((process.info["environ"] or {}).get("HOME", ""))
    ]
    assert not left, left
    new = {path for path in Path("/tmp").iterdir() if path not in before}
    assert not [path for path in new if "trainserve" in path.name or "moto" in path.name], new


def up(project: Path, *arguments: str, mode: str = "") -> Command:
    return Command("up", "--project", str(project), "--no-wait", "--port", "0", *arguments, mode=mode)


def test_up_shows_where_things_are_and_down_ends_it(project: Path) -> None:
    command = up(project)
    command.wait_for(READY)
    assert "1. Start the emulators" in command.text
    assert "run on this machine" in command.text
    status = local("status", "--project", str(project))
    assert status.returncode == 0
    assert "stack dev" in status.stdout
    assert "no model released yet" in status.stdout
    taken = status.stdout.partition("http://127.0.0.1:")[2].split()[0]
    for name in ("up", "demo"):  # not "the port is busy", which is true too
        second = local(name, "--project", str(project), "--port", taken)
        assert second.returncode == 1
        assert f"already running (process {command.process.pid})" in second.stderr
        assert "python -m local down" in second.stderr
    assert not (project / "reports").exists()
    notes, rows = project / "notes.txt", project / "rows.csv"
    for file in (notes, rows):
        file.write_text("a,b\n1,2\n")
    sent = local("upload", "--project", str(project), "--model", "model", str(rows))
    assert (sent.returncode, sent.stdout.endswith("/in/rows.csv\n")) == (0, True), sent.stderr
    for file, words in ((notes, "want names that end in"), (project / "absent.csv", "no such file")):
        refused = local("upload", "--project", str(project), "--model", "model", str(file))
        assert (refused.returncode, words in refused.stderr) == (1, True)
    down = local("down", "--project", str(project))
    assert down.returncode == 0, down.stderr
    assert "has ended" in down.stdout
    assert command.end() == 0
    assert "nothing is left behind" in command.text
    again = local("down", "--project", str(project))
    assert (again.returncode, again.stdout) == (0, "no local session is running\n")
    assert local("status", "--project", str(project)).returncode == 3


def test_a_busy_port_is_named_with_who_listens(project: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        answer = local("up", "--project", str(project), "--port", str(port))
    assert answer.returncode == 1
    assert f"port {port} is not free (process {os.getpid()}" in answer.stderr
    assert "--port" in answer.stderr


@pytest.mark.parametrize(
    "words",
    ["", "1. Start", "registry  127", "aws       http", "2. Run the program", READY],
    ids=["at once", "starting", "registry", "aws", "program", "up"],
)
def test_ctrl_c_at_any_moment(project: Path, words: str) -> None:
    command = up(project)
    if words:
        command.wait_for(words)
    else:
        time.sleep(0.15)
    command.process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    with suppress(ProcessLookupError):
        command.process.send_signal(signal.SIGINT)  # an impatient second one must not stop the clean-up
    code = command.end()
    assert code == (0 if words == READY else 130) or (not words and code == -signal.SIGINT), command.text
    assert "Traceback" not in command.text or not words


@pytest.mark.parametrize("name", ["registry", "aws", "cluster"])
def test_an_emulator_that_dies_ends_the_session_with_its_last_words(project: Path, name: str) -> None:
    command = up(project)
    command.wait_for(READY)
    child(project, name).kill()
    assert command.end() == 1
    assert f"local.{name} ended unexpectedly (signal 9)" in command.text
    assert "Traceback" not in command.text
    if name == "aws":
        again = up(project)
        again.wait_for(READY)
        again.process.terminate()
        assert again.end() == 0


@pytest.mark.parametrize("dead", [True, False])
def test_a_death_explains_the_call_that_failed_of_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, *, dead: bool
) -> None:
    """The call may fail before the death is noticed; without a death, a failure is itself."""

    def refused(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    def check(_session: object) -> None:
        if dead:
            raise ChildError("local.aws ended unexpectedly")

    monkeypatch.setattr(LocalSession, "bring_up", refused)
    monkeypatch.setattr(LocalSession, "check", check)
    monkeypatch.setattr(__main__, "_DEATH_NOTICED_S", 0)
    options = argparse.Namespace(project=project, stack="dev", port=0, set=[], no_wait=True)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    try:
        with pytest.raises(ChildError if dead else ConnectionRefusedError):
            __main__.up(options, Signals())
    finally:  # `up` ends its process: it ignores them from then on
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@pytest.mark.parametrize("name", ["registry", "aws"])
def test_an_emulator_that_dies_during_the_start(project: Path, name: str) -> None:
    command = up(project)
    command.wait_for(f"{name} ")
    child(project, name).kill()
    assert command.end() == 1
    assert f"local.{name} ended unexpectedly" in command.text


def test_after_a_kill_nothing_lives_and_the_next_up_cleans(project: Path) -> None:
    command = up(project)
    command.wait_for(READY)
    run_dir = next((project / ".local").glob("run-*"))
    children = psutil.Process(command.process.pid).children(recursive=True)
    assert len(children) >= 3
    command.process.kill()
    command.end()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, alive
    assert run_dir.exists()
    assert local("status", "--project", str(project)).returncode == 3
    again = up(project)
    again.wait_for(READY)
    assert not run_dir.exists()
    again.process.send_signal(signal.SIGHUP)
    assert again.end() == 0


def test_down_after_a_kill_removes_what_was_left(project: Path) -> None:
    command = up(project)
    command.wait_for("registry  127")
    command.process.kill()
    command.end()
    assert local("down", "--project", str(project)).returncode == 0
    assert not list((project / ".local").glob("run-*"))


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("exit", "error: Pulumi.dev.yaml: size: want a number"),
        ("refused", "error: aws:s3/bucketVersioning:BucketVersioning 'broken' could not be made: "),
    ],
)
def test_a_program_that_fails_is_one_message(project: Path, mode: str, words: str) -> None:
    command = up(project, mode=mode)
    assert command.end() == 1
    assert words in command.text
    assert "Traceback" not in command.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["up", "--stack", "nowhere"], "no stack 'nowhere'"),
        (["up", "--port", "70000"], "want a port from 0 to 65535"),
        (["up", "--set", "x"], "want KEY=VALUE"),
        (["data", "--months", "13"], "want months from 1 to 12"),
        (["data", "--upload", "--months", "1"], "no local session is running"),
        (["frobnicate"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_arguments(project: Path, arguments: list[str], words: str) -> None:
    where = ["--project", str(project)] if len(arguments) > 1 else []
    answer = local(*arguments, *where, *(["--port", "0"] if arguments[1:2] == ["--stack"] else []))
    assert answer.returncode in {1, 2}
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_file_that_a_user_looks_at_costs_the_user_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run_dir = workspace.acquire()
    (run_dir / "aws.log").write_text("x\n")
    with subprocess.Popen(["tail", "-f", str(run_dir / "aws.log")], stdout=subprocess.DEVNULL) as looking:
        assert processes_of(run_dir) == []
        workspace.release()
        assert looking.poll() is None
        looking.kill()
    assert not run_dir.exists()


def child(project: Path, name: str) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if f"local.{name}" in command and any(str(project) in part for part in command):
            return process
    raise AssertionError(f"no local.{name} runs")
