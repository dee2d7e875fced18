"""Steps that change the cluster, and look at what became of it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from common import names
from common.aws import client
from common.errors import NotReady, Permanent
from common.kubernetes import Kubernetes, connect
from release_model import settle
from release_model.record import Done, Record, timestamp
from release_model.status import (
    Rollout,
    Status,
    container_image,
    crashing,
    pod_reason,
    returned,
    rollout_status,
)

ANNOTATIONS = ("trainserve/release", "trainserve/version", "trainserve/bundle-digest")


@cache
def cluster_client(cluster: str) -> Kubernetes:
    """Return this process's client of a cluster."""
    return connect(client("eks"), lambda: client("sts"), cluster)


def rollout(record: Record) -> Done:
    """Give the Deployment the new image, having written down the previous one."""
    deployment = _deployment(record)
    image = record.data["image"]["uri"]
    if "rollout" not in record.data:
        # Before the change: a crash after it must not take the new image for the previous one.
        record.note(rollout={"image": image, "previous": _state(record, deployment)})
    values = (str(record.number), record.data["bundle"]["version"], record.data["bundle"]["digest"])
    changed = _apply(record, deployment, image, dict(zip(ANNOTATIONS, values, strict=True)))
    return Done("watch", {"rollout": {**record.data["rollout"], **_asked(record, changed)}})


def watch(record: Record) -> Done:
    """Look at the rollout once."""
    deployment, wanted = _deployment(record), _wanted(record, "rollout")
    status = rollout_status(deployment, wanted, record.services.now())
    if status.state != "healthy":
        status = _with_reason(record, deployment, wanted, status)
    if status.state == "progressing":
        return Done("wait")
    changes = {"watched": {"healthy": status.state == "healthy", "reason": status.reason}}
    return Done("promote" if status.state == "healthy" else "rollback", changes)


def promote(record: Record) -> Done:
    """Make the model the champion and its data set the accepted one, in one transaction."""
    champion = record.load(names.CHAMPION)
    if int(champion.data.get("release", 0)) > record.number:
        raise Permanent(f"release {champion.data['release']} is already in service")
    bundle, image, source = record.data["bundle"], record.data["image"], record.data["source"]
    new = champion.change(
        version=bundle["version"],
        digest=bundle["digest"],
        release=record.number,
        image=image["uri"],
        image_digest=image["digest"],
        server_tag=image["server_tag"],
        model_data_url=source["uri"],
        model_data_version=bundle["object_version"],
        dataset_hash=source.get("dataset_hash"),
        package_arn=record.data["package"]["arn"],
        metrics=bundle["metrics"],
        since=timestamp(record.services.now()),
    )
    return Done("finish", {"promoted": True}, also=(new, *settle.accept(record)))


def rollback(record: Record, error: str | None) -> Done:
    """Give the Deployment the previous image back, if this release changed it and nothing else did since."""
    if record.data.get("promoted") or "rollout" not in record.data:
        return Done("finish", {"refused": error} if error and "rollout" not in record.data else {})
    reason = error or record.data.get("watched", {}).get("reason") or "the rollout did not succeed"
    deployment = _deployment(record)
    previous: Mapping[str, Any] = record.data["rollout"]["previous"]
    current = container_image(deployment, record.config.workload.container)
    ours = current in {record.data["rollout"]["image"], previous["image"]}
    changed = _apply(record, deployment, previous["image"], previous["annotations"]) if ours else deployment
    way_back = {"image": previous["image"], "reason": reason, "left_alone": not ours}
    return Done("watch", {"rolled_back": {**way_back, **_asked(record, changed)}})


def watch_rollback(record: Record) -> Done:
    """Look at the way back once; whatever comes of it, the release ends."""
    way_back = record.data.get("rolled_back")
    if way_back is None or way_back["left_alone"]:
        return Done("finish")
    deployment, wanted = _deployment(record), _wanted(record, "rolled_back")
    # Before the first release no replica has a model, so none can become available.
    first = not record.load(names.CHAMPION).data
    status = (returned if first else rollout_status)(deployment, wanted, record.services.now())
    if status.state == "progressing":
        return Done("wait")
    changes = {"rolled_back": {**way_back, "healthy": status.state == "healthy", "status": status.reason}}
    return Done("finish", changes)


def pause(record: Record, step: str) -> int:
    """Return how many seconds to wait before the next look: a tenth of what it took so far, from 2 to 30.

    An execution has room for 25,000 events, which all the models on a new server share.
    """
    asked = record.data["rollout" if step == "watch" else "rolled_back"]
    waited = record.services.now() - (float(asked["deadline"]) - record.config.rollout_timeout_s)
    return int(min(30, max(2, waited / 10)))


def _deployment(record: Record) -> dict[str, Any]:
    workload = record.config.workload
    return cluster_client(workload.cluster).deployment(workload.namespace, workload.deployment)


def _state(record: Record, deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a rollback must restore."""
    image = container_image(deployment, record.config.workload.container)
    if image is None:
        raise NotReady(f"the deployment has no container {record.config.workload.container!r}")
    found = (deployment.get("metadata") or {}).get("annotations") or {}
    return {"image": image, "annotations": {name: found.get(name) for name in ANNOTATIONS}}


def _apply(
    record: Record, deployment: dict[str, Any], image: str, annotations: Mapping[str, str | None]
) -> dict[str, Any]:
    workload = record.config.workload
    if container_image(deployment, workload.container) == image:
        return deployment
    containers = [{"name": workload.container, "image": image}]
    patch = {
        # Only over what was read: a change by someone else in between is an error, and the step runs again.
        "metadata": {
            "resourceVersion": deployment["metadata"].get("resourceVersion"),
            "annotations": dict(annotations),
        },
        "spec": {"template": {"spec": {"containers": containers}}},
    }
    if patch["metadata"]["resourceVersion"] is None:
        del patch["metadata"]["resourceVersion"]
    return cluster_client(workload.cluster).patch_deployment(workload.namespace, workload.deployment, patch)


def _asked(record: Record, deployment: Mapping[str, Any]) -> dict[str, Any]:
    generation = int(deployment["metadata"].get("generation", 0))
    return {"generation": generation, "deadline": record.services.now() + record.config.rollout_timeout_s}


def _wanted(record: Record, key: str) -> Rollout:
    asked = record.data[key]
    container = record.config.workload.container
    return Rollout(container, asked["image"], int(asked["generation"]), float(asked["deadline"]))


def _with_reason(record: Record, deployment: Mapping[str, Any], wanted: Rollout, status: Status) -> Status:
    """Add what the pods say, and give up early on those that only crash."""
    workload = record.config.workload
    labels = ((deployment.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    pods = cluster_client(workload.cluster).pods(workload.namespace, labels)
    crash = crashing(pods, wanted)
    if crash:
        return Status("failed", crash)
    reason = pod_reason(pods, wanted) if status.state == "failed" else None
    return Status(status.state, f"{status.reason}; {reason}") if reason else status
