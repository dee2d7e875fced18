"""A pod as the API shows it: metadata, spec and a status that names what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.cluster.store import timestamp

if TYPE_CHECKING:
    from local.cluster.pod import Pod

Object = dict[str, Any]


def render(pod: Pod) -> Object:
    """The pod as a core/v1 object."""
    metadata: Object = {
        "name": pod.name,
        "namespace": pod.namespace,
        "uid": pod.uid,
        "labels": pod.labels,
        "annotations": (pod.template.get("metadata") or {}).get("annotations") or {},
        "creationTimestamp": timestamp(pod.created),
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": f"{pod.owner}-{pod.revision}",
                "controller": True,
            }
        ],
    }
    if pod.terminating_since is not None:
        metadata["deletionTimestamp"] = timestamp(pod.terminating_since + pod.spec.grace_s)
        metadata["deletionGracePeriodSeconds"] = int(pod.spec.grace_s)
    spec: Object = {"nodeName": "local", **(pod.template.get("spec") or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": _status(pod)}


def _status(pod: Pod) -> Object:
    has_run = pod.running_since is not None or pod.last_exit is not None
    return {
        "phase": "Running" if has_run else "Pending",
        "podIP": "127.0.0.1",
        "hostIP": "127.0.0.1",
        "startTime": timestamp(pod.created),
        "conditions": _conditions(pod),
        "containerStatuses": [_container_status(pod)],
    }


def _conditions(pod: Pod) -> list[Object]:
    ready = pod.ready_since is not None
    since = timestamp(pod.ready_since or pod.running_since or pod.created)
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(pod.created)},
        {"type": "Initialized", "status": "True", "lastTransitionTime": timestamp(pod.created)},
    ]
    for kind in ("ContainersReady", "Ready"):
        condition = {"type": kind, "status": "True" if ready else "False", "lastTransitionTime": since}
        if not ready:
            message = f"containers with unready status: [{pod.spec.container}]"
            if pod.problem:
                # A kubelet tells this in an Event only; here it saves a second request.
                message += f": {pod.problem}"
            condition |= {"reason": "ContainersNotReady", "message": message}
        conditions.append(condition)
    return conditions


def _container_status(pod: Pod) -> Object:
    status: Object = {
        "name": pod.spec.container,
        "image": pod.spec.image,
        "imageID": f"{pod.spec.image.partition('@')[0]}@{pod.image.digest}" if pod.image else "",
        "ready": pod.ready_since is not None,
        "started": pod.started,
        "restartCount": pod.restarts,
        "state": _state(pod),
        "lastState": {"terminated": _terminated(pod)} if pod.last_exit is not None else {},
    }
    if pod.container is not None:
        status["containerID"] = f"process://{pod.container.pid}"
    return status


def _state(pod: Pod) -> Object:
    if pod.running_since is not None:
        return {"running": {"startedAt": timestamp(pod.running_since)}}
    if pod.waiting is not None:
        reason, message = pod.waiting
        return {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    if pod.last_exit is not None:
        return {"terminated": _terminated(pod)}
    return {"waiting": {"reason": "ContainerCreating"}}


def _terminated(pod: Pod) -> Object:
    ended = pod.last_exit
    if ended is None:
        return {}
    result: Object = {
        "exitCode": ended.code,
        "reason": ended.reason,
        "startedAt": timestamp(ended.started),
        "finishedAt": timestamp(ended.finished),
    }
    if ended.message:
        result["message"] = ended.message
    return result
