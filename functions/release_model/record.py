"""A release's record: who may write it, what was done, and the model's lease."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from common import names
from common.errors import Busy, Conflict, LeaseLost
from common.services import Services
from common.settings import ModelConfig
from common.state import Item, lease_holder

# Longer than any step with all its retries.
LEASE_S = 900


@dataclass(frozen=True)
class Handle:
    """What the state machine passes from step to step.

    `job` is a training job's name, or `build-<tag>` for a server build; `owner` is one execution.
    """

    model: str
    job: str
    kind: str
    owner: str

    @staticmethod
    def parse(document: Mapping[str, Any]) -> "Handle":
        """Read what `plan` wrote."""
        return Handle(document["model"], document["job"], document["kind"], document["owner"])


@dataclass(frozen=True)
class Done:
    """A step's result: where to go, what to record, and other records to write in the same transaction."""

    next: str
    changes: Mapping[str, Any] | None = None
    also: tuple[Item, ...] = ()


class Record:
    """A release under way, of which this execution holds the lease."""

    def __init__(self, services: Services, handle: Handle, item: Item) -> None:
        self.services = services
        self.handle = handle
        self._item = item

    @property
    def data(self) -> Mapping[str, Any]:
        """What has been recorded so far."""
        return self._item.data

    @property
    def model(self) -> str:
        """The model's name."""
        return self.handle.model

    @property
    def number(self) -> int:
        """The release's number: 1, 2, 3 and so on."""
        return int(self.data["number"])

    @cached_property
    def config(self) -> ModelConfig:
        """The model's configuration."""
        return self.services.documents.config(self.model)

    def load(self, record: str) -> Item:
        """Return another record of the model."""
        return self.services.state.load(self.model, record)

    def following(self, step: str) -> str | None:
        """Return where a step that is done led."""
        done = self.data["steps"].get(step)
        return done["next"] if done else None

    def note(self, **changes: object) -> None:
        """Record what the rest of the step relies on."""
        (self._item,) = self.services.state.write(self.model, self._item.change(**changes))

    def complete(self, step: str, done: Done) -> None:
        """Record that a step is done, together with what belongs to it."""
        entry = {"at": timestamp(self.services.now()), "next": done.next}
        changes = {**(done.changes or {}), "steps": {**self.data["steps"], step: entry}, "state": step}
        self._item = self.services.state.write(self.model, self._item.change(**changes), *done.also)[0]


def open_record(services: Services, handle: Handle) -> Record:
    """Return the release that a handle means; raises LeaseLost where this execution may not go on."""
    claimed = services.state.load(handle.model, names.job(handle.job)).data
    if claimed.get("owner") != handle.owner or "release" not in claimed:
        raise LeaseLost(f"{handle.job} belongs to {claimed.get('owner', 'nobody')}")
    try:
        hold_lease(services, handle)
    except (Busy, Conflict) as error:
        raise LeaseLost(str(error)) from error
    item = services.state.load(handle.model, names.release(int(claimed["release"])))
    return Record(services, handle, item)


def hold_lease(services: Services, handle: Handle) -> None:
    """Take or renew the model's lease; raises Busy while another execution holds it."""
    now = services.now()
    lease = services.state.load(handle.model, names.LEASE)
    holder = lease_holder(lease, now)
    if holder not in {None, handle.owner}:
        raise Busy(f"{lease.data['job']} is being released until {timestamp(lease.data['expires'])} at most")
    try:
        services.state.write(
            handle.model, lease.change(owner=handle.owner, job=handle.job, expires=now + LEASE_S)
        )
    except Conflict as error:
        raise Busy("another release took the lease at the same moment") from error


def release_lease(services: Services, handle: Handle) -> None:
    """Let go of the model's lease, if this execution has it."""
    lease = services.state.get(handle.model, names.LEASE)
    if lease is not None and lease.data["owner"] == handle.owner:
        services.state.delete(handle.model, lease)


def timestamp(seconds: float) -> str:
    """Return a point in time as text, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
