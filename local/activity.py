"""What happens to the models while `up` stays: jobs and releases, each told once; and a request to try."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

from local.looks import ENDED, Looks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.session import LocalSession

_GOLDEN = "golden.json"


class Activity:
    """Tells what is new since the last call."""

    def __init__(self, session: LocalSession) -> None:
        self._looks = [Looks(session, model) for model in session.models]
        self._told: set[tuple[str, str]] = set()

    def new(self) -> list[str]:
        """One line per job that began or failed and per release that ended since the last call."""
        lines: list[str] = []
        for looks in self._looks:
            jobs = looks.jobs()
            for job, status in jobs.items():
                self._tell(lines, (job, "began"), f"{looks.model}: training job {job} began")
                if status in ENDED and status != "Completed":
                    reason = looks.job(job).get("FailureReason") or "no reason given"
                    self._tell(lines, (job, status), f"{looks.model}: training job {job} {status}: {reason}")
            for release in looks.releases() if jobs else ():
                if outcome := release.get("outcome"):
                    job = str(release.get("job"))
                    reason = f": {release['reason']}" if release.get("reason") else ""
                    self._tell(lines, (job, "released"), f"{looks.model}: {job} {outcome}{reason}")
        return lines

    def _tell(self, lines: list[str], what: tuple[str, str], line: str) -> None:
        if what not in self._told:
            self._told.add(what)
            lines.append(line)


def example(session: LocalSession, model: str) -> dict[str, Any] | None:
    """A row that the model in service understands, one of its own golden rows; None if there is no model."""
    looks = Looks(session, model)
    serving = looks.ping()
    if serving.status != 200:
        return None
    bucket, _, key = (
        str(looks.job(serving.version)["ModelArtifacts"]["S3ModelArtifacts"])
        .removeprefix("s3://")
        .partition("/")
    )
    packed: bytes = session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        file = archive.extractfile(_GOLDEN)
        golden: dict[str, Any] = json.loads(file.read()) if file else {}
    rows: Sequence[Sequence[Any]] = golden["rows"]
    fullest = min(rows, key=lambda row: sum(value is None for value in row))
    return dict(zip(golden["columns"], fullest, strict=True))
