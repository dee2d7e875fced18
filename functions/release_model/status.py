"""What a Deployment's status says about a rollout. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_RESTARTS = 3
_REASON_CHARACTERS = 500


@dataclass(frozen=True)
class Rollout:
    """What was asked of a Deployment: image, generation, and by when (seconds since the epoch)."""

    container: str
    image: str
    generation: int
    deadline: float


@dataclass(frozen=True)
class Status:
    """Where a rollout stands, and why."""

    state: Literal["progressing", "healthy", "failed"]
    reason: str


def rollout_status(deployment: Mapping[str, Any], wanted: Rollout, now: float) -> Status:
    """Judge a rollout: healthy once every replica asked for runs the new image and is available."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    image = container_image(deployment, wanted.container)
    if image != wanted.image:
        return Status("failed", f"the deployment's image was changed to {image} by something else")
    replicas = int(spec.get("replicas", 1))
    if replicas == 0:
        return Status("failed", "the deployment asks for 0 replicas: nothing can show that the model works")
    updated, total = int(status.get("updatedReplicas", 0)), int(status.get("replicas", 0))
    available = int(status.get("availableReplicas", 0))
    progress = f"{updated} of {replicas} replicas updated, {available} available, {total} in all"
    observed = int(status.get("observedGeneration", 0)) >= wanted.generation
    if observed and updated >= replicas and total == updated and available >= replicas:
        return Status("healthy", progress)
    condition = _condition(status, "Progressing") if observed else {}
    if condition.get("status") == "False":
        return Status("failed", f"{condition.get('reason')}: {condition.get('message')} ({progress})")
    if now > wanted.deadline:
        return Status("failed", f"not finished in time: {progress}")
    return Status("progressing", progress)


def returned(deployment: Mapping[str, Any], wanted: Rollout, now: float) -> Status:
    """Judge a return to an image without a model: its pods are never available, so it is only asked for."""
    observed = int((deployment.get("status") or {}).get("observedGeneration", 0))
    status = rollout_status(deployment, wanted, now)
    if status.state == "progressing" and observed >= wanted.generation:
        return Status("healthy", f"the deployment is back on its first image: {status.reason}")
    return status


def crashing(pods: Sequence[Mapping[str, Any]], wanted: Rollout) -> str | None:
    """Return why pods of the new image cannot run, once they have tried often enough."""
    for pod in pods:
        for found in _containers(pod, wanted):
            waiting = (found.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") == "CrashLoopBackOff" and int(found.get("restartCount", 0)) >= _RESTARTS:
                return f"{_name(pod)}: {_explain(found)}"
    return None


def pod_reason(pods: Sequence[Mapping[str, Any]], wanted: Rollout) -> str | None:
    """Return what keeps a pod of the new image from being ready."""
    for pod in pods:
        for found in _containers(pod, wanted):
            if not found.get("ready"):
                return f"{_name(pod)}: {_explain(found)}"
        unscheduled = _condition(pod.get("status") or {}, "PodScheduled")
        if unscheduled.get("status") == "False":
            return f"{_name(pod)}: {unscheduled.get('reason')}: {unscheduled.get('message')}"[
                :_REASON_CHARACTERS
            ]
    return None


def container_image(deployment: Mapping[str, Any], container: str) -> str | None:
    """Return the image that a Deployment asks for."""
    template = (deployment.get("spec") or {}).get("template") or {}
    for found in (template.get("spec") or {}).get("containers") or []:
        if found.get("name") == container:
            return found.get("image")
    return None


def _containers(pod: Mapping[str, Any], wanted: Rollout) -> list[Mapping[str, Any]]:
    """Return the statuses of a pod's container, if the pod is one of the new image."""
    asked = [c for c in (pod.get("spec") or {}).get("containers") or [] if c.get("name") == wanted.container]
    if not asked or asked[0].get("image") != wanted.image:
        return []
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return [found for found in statuses if found.get("name") == wanted.container]


def _explain(found: Mapping[str, Any]) -> str:
    state, last = found.get("state") or {}, (found.get("lastState") or {}).get("terminated") or {}
    parts: list[str] = []
    for part in (state.get("waiting") or {}, state.get("terminated") or {}, last):
        if part:
            code = f"exit code {part['exitCode']}" if "exitCode" in part else None
            parts.append(", ".join(str(p) for p in (part.get("reason"), code, part.get("message")) if p))
    return ("; ".join(parts) or "runs, but is not ready")[:_REASON_CHARACTERS]


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((c for c in status.get("conditions") or [] if c.get("type") == kind), {})


def _name(pod: Mapping[str, Any]) -> str:
    return f"pod {(pod.get('metadata') or {}).get('name', '?')}"
