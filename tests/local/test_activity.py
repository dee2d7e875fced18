"""What `up` tells of jobs and releases, and the request that it prints."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from local import activity
from local.looks import Looks, Serving

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from local.session import LocalSession


@dataclass
class Systems:
    """What a session's systems would say."""

    models: dict[str, dict[str, str]] = field(default_factory=lambda: {"houses": {}})
    jobs: dict[str, str] = field(default_factory=dict[str, str])
    releases: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    serving: Serving = field(default_factory=lambda: Serving(status=503, version="", digest=""))
    packed: bytes = b""

    class program:  # noqa: N801
        outputs: dict[str, Any] = {}  # noqa: RUF012

    def client(self, _service: str) -> Any:
        return self

    def get_object(self, **_where: str) -> dict[str, Any]:
        return {"Body": io.BytesIO(self.packed)}

    def session(self, patch: pytest.MonkeyPatch) -> LocalSession:
        said: dict[str, Callable[..., object]] = {
            "jobs": lambda *_: self.jobs,
            "releases": lambda *_: self.releases,
            "ping": lambda *_: self.serving,
            "job": lambda *_: {
                "FailureReason": "no rows",
                "ModelArtifacts": {"S3ModelArtifacts": "s3://b/k/model.tar.gz"},
            },
        }
        for name, answer in said.items():
            patch.setattr(Looks, name, answer)
        return cast("LocalSession", self)


def test_each_job_and_release_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    systems = Systems()
    happening = activity.Activity(systems.session(monkeypatch))
    assert happening.new() == []
    systems.jobs = {"j-1": "InProgress"}
    systems.releases = [{"job": "j-1"}]
    assert happening.new() == ["houses: training job j-1 began"]
    systems.jobs = {"j-1": "Completed", "j-2": "Failed"}
    systems.releases = [{"job": "j-1", "outcome": "released", "reason": "rmse 1"}]
    assert happening.new() == [
        "houses: training job j-2 began",
        "houses: training job j-2 Failed: no rows",
        "houses: j-1 released: rmse 1",
    ]
    assert happening.new() == []


def test_the_example_is_the_fullest_golden_row(monkeypatch: pytest.MonkeyPatch) -> None:
    systems = Systems()
    session = systems.session(monkeypatch)
    assert activity.example(session, "houses") is None
    golden = json.dumps({"columns": ["area", "town"], "rows": [[None, "N"], [7.5, "ü'"]]}).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("golden.json")
        member.size = len(golden)
        archive.addfile(member, io.BytesIO(golden))
    systems.packed = packed.getvalue()
    systems.serving = Serving(status=200, version="j-1", digest="")
    assert activity.example(session, "houses") == {"area": 7.5, "town": "ü'"}
