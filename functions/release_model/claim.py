"""The first steps: which releases an event asks for, and one execution for each of them."""

from collections.abc import Mapping
from typing import Any

from common import names
from common.errors import NotReady
from common.services import Services
from common.state import Item, lease_holder
from release_model.record import LEASE_S, Handle, hold_lease, timestamp

_ENDED = frozenset({"Completed", "Failed", "Stopped"})
_JOB, _BUILD = "job", "build"
# No longer than the reason that SageMaker keeps.
_REASON_BYTES = 1024


def plan(services: Services, event: Mapping[str, Any], owner: str) -> list[dict[str, str]]:
    """Return the releases that an EventBridge event asks for; none for what is not this stack's."""
    detail: Mapping[str, Any] = event.get("detail") or {}
    match event.get("source"), event.get("detail-type"):
        case "aws.sagemaker", "SageMaker Training Job State Change":
            return _of_job(services.environment.stack, detail, owner)
        case "aws.codebuild", "CodeBuild Build State Change":
            return _of_build(services, detail, owner)
        case _:
            return []


def _of_job(stack: str, detail: Mapping[str, Any], owner: str) -> list[dict[str, str]]:
    job = str(detail.get("TrainingJobName", ""))
    name = names.parse_job(job)
    if name is None or name.stack != stack or detail.get("TrainingJobStatus") not in _ENDED:
        return []
    return [{"model": name.model, "job": job, "kind": _JOB, "owner": owner}]


def _of_build(services: Services, detail: Mapping[str, Any], owner: str) -> list[dict[str, str]]:
    """Every model goes onto a new server, if it is the one that the program asks for now."""
    environment = (detail.get("additional-information") or {}).get("environment") or {}
    variables = {v["name"]: v["value"] for v in environment.get("environment-variables") or []}
    tag = variables.get("IMAGE_TAG")
    if detail.get("build-status") != "SUCCEEDED" or not tag:
        return []
    wanted = [model for model in services.documents.models() if names.is_model(model)]
    return [
        {"model": model, "job": f"build-{tag}", "kind": _BUILD, "owner": owner}
        for model in wanted
        if services.documents.config(model).server_tag == tag
    ]


def claim(services: Services, handle: Handle) -> dict[str, str]:
    """Claim the job for this execution, take the model's lease, and open the release's record.

    Raises Busy while another release of the model is under way.
    """
    state, now = services.state, services.now()
    claimed = state.load(handle.model, names.job(handle.job))
    if _belongs_to_other(services, handle, claimed, now):
        return {"next": "done", "outcome": "duplicate"}
    if handle.kind == _BUILD and not state.load(handle.model, names.CHAMPION).data:
        # The Deployment names this image itself; the first release will take it.
        return {"next": "done", "outcome": "ignored"}
    (claimed,) = state.write(handle.model, claimed.change(owner=handle.owner, expires=now + LEASE_S))
    hold_lease(services, handle)
    if "release" not in claimed.data:
        _open(services, handle, claimed)
    number = int(state.load(handle.model, names.job(handle.job)).data["release"])
    ended = state.load(handle.model, names.release(number)).data["source"]["status"]
    return {"next": "verify" if ended == "Completed" else "refuse", "outcome": ""}


def _belongs_to_other(services: Services, handle: Handle, claimed: Item, now: float) -> bool:
    """Say whether this job was or is being dealt with: not where its execution died."""
    if "outcome" in claimed.data:
        return True
    owner = claimed.data.get("owner")
    if owner in {None, handle.owner}:
        return False
    lease = services.state.get(handle.model, names.LEASE)
    return lease_holder(lease, now) == owner or float(claimed.data["expires"]) > now


def _open(services: Services, handle: Handle, claimed: Item) -> None:
    """Give the release its number and record: all three writes, or none."""
    if handle.kind == _BUILD:
        # Read under the lease: until it was ours, another release could change the model in service.
        source = _source_of_build(services.state.load(handle.model, names.CHAMPION).data)
    else:
        source = _source_of_job(services, handle.job)
    counter = services.state.load(handle.model, names.COUNTER)
    number = int(counter.data.get("releases", 0)) + 1
    release = Item(names.release(number)).change(
        number=number,
        model=handle.model,
        job=handle.job,
        kind=handle.kind,
        source=source,
        state="claim",
        steps={"claim": {"at": timestamp(services.now()), "next": "verify"}},
    )
    services.state.write(
        handle.model, counter.change(releases=number), claimed.change(release=number), release
    )


def _source_of_job(services: Services, job: str) -> dict[str, Any]:
    """Return what SageMaker itself says about the job: an event may be late or forged."""
    found = services.sagemaker.describe_training_job(TrainingJobName=job)
    status = found["TrainingJobStatus"]
    if status not in _ENDED:
        raise NotReady(f"{job} is {status}")
    parameters = found.get("HyperParameters") or {}
    return {
        "status": status,
        "uri": (found.get("ModelArtifacts") or {}).get("S3ModelArtifacts"),
        "failure": (_told(services, found) if status == "Failed" else None) or found.get("FailureReason"),
        "secondary": found.get("SecondaryStatus"),
        "dataset_hash": parameters.get("dataset_hash"),
        "manifest_uri": parameters.get("manifest_uri"),
        "version": job,
        "digest": None,
        "training_s": found.get("TrainingTimeInSeconds"),
    }


def _told(services: Services, found: Mapping[str, Any]) -> str | None:
    """Return the reason that the script left beside the job's output.

    The toolkit in SageMaker's own images puts the command that it ran into FailureReason instead.
    """
    path = str((found.get("OutputDataConfig") or {}).get("S3OutputPath", "")).rstrip("/")
    if not path.startswith(f"s3://{services.environment.artifact_bucket}/"):
        return None
    return services.documents.text(f"{path}/{found['TrainingJobName']}/output/failure", _REASON_BYTES)


def _source_of_build(champion: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "status": "Completed",
        "uri": champion["model_data_url"],
        "object_version": champion.get("model_data_version"),
        "dataset_hash": champion.get("dataset_hash"),
        "manifest_uri": None,
        "version": champion["version"],
        "digest": champion["digest"],
    }
