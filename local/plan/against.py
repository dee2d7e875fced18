"""The other side of a comparison: another stack, or the same one at a git revision, in a second process."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from local.errors import LocalError
from local.stackfile import stack_file, stacks

if TYPE_CHECKING:
    from types import TracebackType

from local.plan.snapshot import Snapshot

_ROOT = Path(__file__).resolve().parent.parent.parent
_SHORT = 10


@dataclass(frozen=True)
class Other:
    """What to compare with: a stack of the project, at a revision or as it lies there."""

    stack: str
    revision: str | None
    label: str


def resolve(project: Path, stack: str, against: str) -> Other:
    """What `against` names: one of the project's stacks, else a revision of its repository.

    Raises:
        LocalError: neither.
    """
    if stack_file(project, against) is not None:
        return Other(against, None, f"stack {against}")
    commit = _git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{against}^{{commit}}")
    if commit is None:
        known = ", ".join(stacks(project))
        raise LocalError(f"--against {against!r}: neither a stack (there are: {known}) nor a git revision")
    sha = commit.decode().strip()
    return Other(stack, sha, f"{against} ({sha[:_SHORT]})")


class Running:
    """Takes the other snapshot while this process takes its own; a context manager, leaves nothing behind."""

    def __init__(self, project: Path, other: Other) -> None:
        self._project = project
        self._other = other
        self._folder: Path | None = None
        self._out = tempfile.TemporaryFile()  # noqa: SIM115  # closed in _clean_up
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def label(self) -> str:
        """What it is, in words."""
        return self._other.label

    def __enter__(self) -> Self:
        try:
            where = self._project if self._other.revision is None else self._check_out(self._other.revision)
            command = ["-m", "local.plan.snapshot", "--project", str(where), "--stack", self._other.stack]
            self._process = subprocess.Popen(
                [sys.executable, *command], cwd=_ROOT, env=_environment(), stdin=subprocess.DEVNULL,
                stdout=self._out, stderr=self._errors,
            )  # fmt: skip
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def result(self) -> Snapshot:
        """The other snapshot; waits for it.

        Raises:
            LocalError: what the other program had to say against itself.
        """
        assert self._process is not None  # noqa: S101  # entered
        status = self._process.wait()
        self._out.seek(0)
        self._errors.seek(0)
        if status:
            words = self._errors.read().decode(errors="replace").strip()
            raise LocalError(f"{self._other.label}: {words or f'exit status {status}'}")
        return Snapshot.from_json(json.loads(self._out.read()))

    def _check_out(self, revision: str) -> Path:
        """The files of a revision in a folder of their own; the repository itself is not touched."""
        archive = _git(self._project, "archive", "--format=tar", revision)
        if archive is None:
            raise LocalError(f"--against {self._other.label}: git could not read that revision")
        parent = self._project / ".local"
        parent.mkdir(exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="plan-", dir=parent))
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(self._folder, filter="data")
        return self._folder

    def _clean_up(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._out.close()
        self._errors.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            if sys.pycache_prefix is not None:
                cached = Path(sys.pycache_prefix) / self._folder.relative_to("/")
                shutil.rmtree(cached, ignore_errors=True)


def _environment() -> dict[str, str]:
    """This process's, with its bytecode cache."""
    environment = dict(os.environ)
    if sys.pycache_prefix is not None:
        environment["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def _git(project: Path, *arguments: str) -> bytes | None:
    """What git prints; None if it fails, is not there, or cannot be given such an argument."""
    try:
        done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
