"""What becomes of a job's data set, and how a release ends."""

from collections.abc import Mapping
from typing import Any

from common import names
from common.datasets import find
from common.messages import Request, send
from common.services import Services
from common.state import Item
from release_model.failure import refusals
from release_model.publish import withdraw
from release_model.record import Done, Handle, Record, open_record, release_lease, timestamp

_REASON_CHARACTERS = 1000
# SageMaker gave up waiting for spot capacity; the job says "Stopped", as if a person had stopped it.
_NO_CAPACITY = "MaxWaitTimeExceeded"


def accept(record: Record) -> tuple[Item, ...]:
    """Return the writes that make the job's data set the accepted one."""
    source = record.data["source"]
    digest, uri = source.get("dataset_hash"), source.get("manifest_uri")
    if not digest or not uri:
        return ()
    accepted = record.load(names.ACCEPTED)
    new = accepted.change(hash=digest, manifest_uri=uri, release=record.number, job=record.handle.job)
    trained = record.load(names.dataset(digest))
    return new, trained.change(state="accepted", failures=0, manifest_uri=uri, job=record.handle.job)


def refuse(record: Record) -> Done:
    """Settle a failed job: the uploads that its reason names are refused, or it may be tried again."""
    source = record.data["source"]
    failure = str(source.get("failure") or _ended(source))
    digest, uri = source.get("dataset_hash"), source.get("manifest_uri")
    if not digest or not uri:
        return Done("finish", {"refused": failure[:_REASON_CHARACTERS]})
    dataset = record.services.documents.dataset(uri)
    named = {find(dataset, path): reason for path, reason in refusals(failure).items()}
    named.pop(None, None)
    if not named and "TrainingError:" in failure:
        # Data that cannot be trained on, and the set before it could: a single newcomer is the cause.
        known = _accepted_objects(record)
        newcomers = [item for item in dataset.objects if (item.key, item.version) not in known]
        named = {newcomers[0]: failure} if len(newcomers) == 1 else {}
    for item, reason in named.items():
        if item is None:
            continue
        refused = record.load(names.refusal(item.key, item.version))
        if not refused.rev:
            data = {"key": item.key, "version": item.version, "reason": reason, "job": record.handle.job}
            record.services.state.write(record.model, refused.change(**data))
    state = "refused" if named else _after_failure(source, failure)
    reasons = "; ".join(f"{item.key}: {reason}" for item, reason in named.items() if item)
    reason = (reasons or failure)[:_REASON_CHARACTERS]
    return Done("finish", {"refused": reason}, also=(_settled(record, state, reason),))


def finish(services: Services, handle: Handle, error: str | None) -> dict[str, str]:
    """End the release: record its outcome, let go of the lease, and ask for what is pending."""
    claimed = services.state.load(handle.model, names.job(handle.job))
    if claimed.data.get("owner") != handle.owner:
        # This execution never got the job, or lost it to one that goes on with it.
        return {"outcome": "lost", "reason": error or ""}
    if "outcome" not in claimed.data:
        claimed = _end(services, handle, claimed, error)
    release_lease(services, handle)
    outcome, reason = str(claimed.data["outcome"]), str(claimed.data["reason"])
    request = Request(handle.model, outcome, claimed.data.get("retry"))
    # One message for one release, however often this step runs.
    deduplication = f"{services.environment.stack}-{handle.model}-{claimed.data.get('release', handle.job)}"
    send(services.sqs, services.documents.config(handle.model).queue_url, request, deduplication)
    return {"outcome": outcome, "reason": reason}


def _end(services: Services, handle: Handle, claimed: Item, error: str | None) -> Item:
    """Record the outcome on the release and on the job's claim, and settle the data set."""
    if "release" not in claimed.data:
        ended = claimed.change(outcome="refused", reason=error or "never began", retry=None)
        return services.state.write(handle.model, ended)[0]
    record = open_record(services, handle)
    outcome, reason = _outcome(record.data, error)
    if outcome != "released":
        withdraw(record, f"{outcome}: {reason}")
    also = _dataset_after(record, outcome, reason)
    retry = next((item.data.get("hash") for item in also if item.data.get("state") == "retry"), None)
    if outcome == "refused" and record.load(_dataset(record)).data.get("state") == "retry":
        retry = record.data["source"]["dataset_hash"]
    ended = claimed.change(outcome=outcome, reason=reason, retry=retry)
    changes = {"outcome": outcome, "reason": reason, "finished": timestamp(services.now())}
    record.complete("finish", Done("", changes, also=(ended, *also)))
    return services.state.load(handle.model, names.job(handle.job))


def _outcome(data: Mapping[str, Any], error: str | None) -> tuple[str, str]:
    if data.get("promoted"):
        return "released", (data.get("verdict") or {}).get("reason", "the model in service, on a new server")
    if data.get("rolled_back"):
        return "rolled_back", data["rolled_back"]["reason"]
    if data.get("refused"):
        return "refused", data["refused"]
    verdict = data.get("verdict")
    if verdict and not verdict["accepted"]:
        return "rejected", verdict["reason"]
    if "generation" in data.get("rollout", {}):
        return "refused", f"the deployment was changed and could not be changed back: {error}"
    return "refused", error or "ended before it was decided"


def _dataset(record: Record) -> str:
    return names.dataset(str(record.data["source"].get("dataset_hash")))


def _dataset_after(record: Record, outcome: str, reason: str) -> tuple[Item, ...]:
    """Return the writes that keep a data set from being trained on again, or let it be."""
    source = record.data["source"]
    if outcome == "released" or record.handle.kind != "job" or not source.get("manifest_uri"):
        return ()
    if source["status"] != "Completed" and "refuse" in record.data["steps"]:
        return ()
    if outcome == "rolled_back" or (outcome == "rejected" and not record.data["verdict"]["stale"]):
        # The data is good: it was trained on. Training on it alone again would end the same way.
        return accept(record)
    bad_bundle = bool(record.data.get("refused")) and outcome == "refused"
    return (_settled(record, "failed" if bad_bundle else "retry", reason),)


def _settled(record: Record, state: str, reason: str) -> Item:
    source = record.data["source"]
    trained = record.load(_dataset(record))
    failures = int(trained.data.get("failures", 0)) + (state == "retry")
    return trained.change(
        state=state,
        hash=source["dataset_hash"],
        failures=failures,
        reason=reason,
        manifest_uri=source["manifest_uri"],
        job=record.handle.job,
    )


def _ended(source: Mapping[str, Any]) -> str:
    """Say how a job ended that gives no reason: SageMaker's second status knows more than the first."""
    status, secondary = source["status"], source.get("secondary")
    return f"the job was {status.lower()}" + (f": {secondary}" if secondary not in {None, status} else "")


def _after_failure(source: Mapping[str, Any], failure: str) -> str:
    """Return what a data set's record says after a failure that no upload is to blame for."""
    if source.get("secondary") == _NO_CAPACITY:
        return "retry"
    # Someone stopped it, or the same data would fail the same way.
    return "failed" if source["status"] == "Stopped" or "TrainingError:" in failure else "retry"


def _accepted_objects(record: Record) -> set[tuple[str, str]]:
    accepted = record.load(names.ACCEPTED).data.get("manifest_uri")
    objects = record.services.documents.dataset(accepted).objects if accepted else ()
    return {(item.key, item.version) for item in objects}
