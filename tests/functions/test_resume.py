"""A crash after any write, then the same step again: the result is the same as without the crash."""

from contextlib import suppress
from typing import Any

import botocore.client
import pytest
import urllib3

from common.aws import client
from common.state import Item
from start_training.trainer import Trainer
from tests.functions.world import MODEL, MemoryTable, World

_WRITES = {
    "CopyObject",
    "CreateModelPackage",
    "CreateTrainingJob",
    "PutObject",
    "SendMessage",
    "UpdateModelPackage",
}


class CrashError(Exception):
    """The process dies right after a write."""


class Crasher:
    """Lets `after` writes happen and raises after the last of them, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after: int | None = None
        self.writes: list[str] = []
        call, request = botocore.client.BaseClient._make_api_call, urllib3.PoolManager.request
        write, delete = MemoryTable.write, MemoryTable.delete

        def counted_call(client: Any, operation: str, parameters: Any) -> Any:
            answer = call(client, operation, parameters)
            if operation in _WRITES:
                self.count(operation)
            return answer

        def counted_request(pool: Any, method: str, url: str, **kwargs: Any) -> Any:
            answer = request(pool, method, url, **kwargs)
            if method in {"PATCH", "POST", "PUT"}:
                self.count(f"{method} {url.rsplit('/', 1)[0]}")
            return answer

        def counted_write(table: MemoryTable, model: str, *items: Item) -> Any:
            answer = write(table, model, *items)
            self.count(f"write {', '.join(item.record for item in items)}")
            return answer

        def counted_delete(table: MemoryTable, model: str, item: Item) -> None:
            delete(table, model, item)
            self.count(f"delete {item.record}")

        monkeypatch.setattr(MemoryTable, "write", counted_write)
        monkeypatch.setattr(MemoryTable, "delete", counted_delete)
        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", counted_call)
        monkeypatch.setattr(urllib3.PoolManager, "request", counted_request)

    def arm(self, after: int) -> None:
        self.after, self.writes = after, []

    def count(self, write: str) -> None:
        if self.after is None:
            return
        self.writes.append(write)
        if len(self.writes) == self.after:
            self.after = None
            raise CrashError(write)


@pytest.fixture
def crasher(world: World, monkeypatch: pytest.MonkeyPatch) -> Crasher:
    world.services.__dict__["state"] = MemoryTable()
    return Crasher(monkeypatch)


def test_release_survives_a_crash_after_any_write(world: World, crasher: Crasher) -> None:
    number = 0
    for number in range(1, 100):
        happened = world.train(f"ts-dev--flights-0123abcd-{number}", 0.9 + number / 1000)
        crasher.arm(number)
        (result,) = world.release(happened, f"e{number}")
        assert result["outcome"] == "released", crasher.writes
        assert world.record("counter") == {"releases": number}
        assert world.record("champion")["release"] == number
        assert world.cluster.image == world.record("champion")["image"]
        assert len(world.cluster.patches) == number
        assert world.record("lease") == {}
        if crasher.after is not None:
            break
    assert len(crasher.writes) > 25
    assert len(world.packages()) == number
    assert {package["ModelApprovalStatus"] for package in world.packages()} == {"Approved"}
    assert set(world.registry.tags) == {"1234", *(f"release-flights-{n + 1}" for n in range(number))}


def test_rollback_survives_a_crash_after_any_write(world: World, crasher: Crasher) -> None:
    world.release(world.train("ts-dev--flights-0123abcd-0"), "e0")
    before = world.cluster.image
    world.cluster.behaviour = "crashing"
    # Up to the roll-out, the writes are those of a release that succeeds.
    for number in range(22, 100):
        happened = world.train(f"ts-dev--flights-0123abcd-{number}")
        crasher.arm(number)
        (result,) = world.release(happened, f"e{number}")
        assert result["outcome"] == "rolled_back", crasher.writes
        assert world.cluster.image == before
        assert len(world.cluster.patches) == 1 + 2 * (number - 21)
        if crasher.after is not None:
            break
    assert world.record("champion")["release"] == 1
    assert [package["ModelApprovalStatus"] for package in world.packages()].count("Approved") == 1


def test_training_starts_once_whatever_write_it_crashed_after(world: World, crasher: Crasher) -> None:
    for number in range(1, 20):
        world.upload(f"{number}.csv")
        world.upload(f"{number}.txt")
        crasher.arm(number)
        with suppress(CrashError):
            Trainer(world.services, MODEL).run([])
        Trainer(world.services, MODEL).run([])
        jobs = world.jobs()
        assert len(jobs) == number, crasher.writes
        assert world.record("dataset#" + _hash(world, jobs[-1]))["state"] == "training"
        if crasher.after is not None:
            break
        world.release(world.train(jobs[-1]), f"e{number}")
    assert len(crasher.writes) == 6


def _hash(world: World, job: str) -> str:
    found = client("sagemaker").describe_training_job(TrainingJobName=job)
    return found["HyperParameters"]["dataset_hash"]
