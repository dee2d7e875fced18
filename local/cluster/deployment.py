"""The Deployment controller's loop: looks, asks `rollout.plan` what to do, does it, writes the status."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

from local.cluster import podspec, rollout
from local.cluster.errors import invalid
from local.cluster.pod import Node, Pod
from local.cluster.routes import Resource, Target
from local.cluster.selectors import matches
from local.cluster.store import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.cluster.rollout import Counts, Progress, Wanted
    from local.cluster.store import Object, Store

DEPLOYMENTS = Resource("apps", "v1", "deployments")
_REVISION = "deployment.kubernetes.io/revision"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_TICK_S = 0.5


def with_defaults(deployment: Object) -> Object:
    """The Deployment with the defaults that Kubernetes would store; ApiError 422 if it cannot work."""
    name = str((deployment.get("metadata") or {}).get("name", ""))
    spec: Object = deployment.get("spec") or {}
    template: Object = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    selector = spec.get("selector") or {}
    if not selector:
        raise invalid("Deployment.apps", name, "spec.selector: Required value")
    if not matches(selector, labels):
        raise invalid(
            "Deployment.apps",
            name,
            f"spec.template.metadata.labels: Invalid value: {labels}: "
            "`selector` does not match template `labels`",
        )
    strategy: Object = {"type": "RollingUpdate", **(spec.get("strategy") or {})}
    if strategy["type"] == "RollingUpdate":
        bounds = {"maxSurge": "25%", "maxUnavailable": "25%"}
        strategy["rollingUpdate"] = bounds | (strategy.get("rollingUpdate") or {})
    spec = {"replicas": 1, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10, **spec}
    spec["strategy"] = strategy
    try:
        podspec.parse(template)
        rollout.wanted(spec)
    except ValueError as error:
        raise invalid("Deployment.apps", name, str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise invalid("Deployment.apps", name, f"spec cannot be read: {error!r}") from error
    return deployment | {"spec": spec}


class DeploymentController:
    """Runs the pods of every Deployment in the store."""

    def __init__(self, store: Store, node: Node, on_pods_change: Callable[[], None]) -> None:
        self._store = store
        self._node = node
        self._on_pods_change = on_pods_change
        self._pods: dict[str, Pod] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, Progress] = {}
        self._revisions: dict[str, list[str]] = {}
        self._wake = asyncio.Event()
        store.on_change(self._wake.set)

    def pods(self) -> list[Pod]:
        """All pods that are not gone, oldest first."""
        return list(self._pods.values())

    async def run(self) -> None:
        """Keep every Deployment as its spec wants it; until cancelled."""
        while True:
            self._wake.clear()
            for pod in [pod for pod in self._pods.values() if pod.gone]:
                del self._pods[pod.name]
            deployments = self._store.list(DEPLOYMENTS)
            for deployment in deployments:
                while self._step(deployment):
                    pass
            self._stop_orphans(deployments)
            self._on_pods_change()
            try:
                # Deadlines and minReadySeconds pass without anybody telling.
                async with asyncio.timeout(_TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def stop(self, within_s: float) -> None:
        """End all pods at once."""
        await asyncio.gather(*(pod.end_now(within_s) for pod in self._pods.values()))
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=1)

    def _step(self, deployment: Object) -> bool:
        """Take one step of the plan; whether there may be another."""
        metadata, spec = deployment["metadata"], deployment["spec"]
        uid = metadata["uid"]
        want = rollout.wanted(spec)
        mine = [pod for pod in self._pods.values() if (pod.namespace, pod.owner) == _identity(deployment)]
        step = rollout.Plan() if spec.get("paused") else rollout.plan(want, _views(mine, want))
        for _ in range(step.start):
            self._start(deployment, want)
        for name in step.stop:
            self._pods[name].terminate()
        mine = [pod for pod in self._pods.values() if (pod.namespace, pod.owner) == _identity(deployment)]
        counts = rollout.count(want, _views(mine, want))
        progress = rollout.advance(self._progress.get(uid), want, counts, time.time())
        self._progress[uid] = progress
        self._store.set_status(
            Target(DEPLOYMENTS, metadata["namespace"], metadata["name"]),
            _status(deployment, want, progress),
            {_REVISION: str(self._revision(uid, want.revision))},
        )
        return bool(step.start or step.stop)

    def _revision(self, uid: str, revision: str) -> int:
        """The number of a template: it rises when the template changes, also back to an earlier one."""
        history = self._revisions.setdefault(uid, [])
        if not history or history[-1] != revision:
            history.append(revision)
        return len(history)

    def _start(self, deployment: Object, want: Wanted) -> None:
        metadata = deployment["metadata"]
        suffix = "".join(secrets.choice(_ALPHABET) for _ in range(5))
        template = deployment["spec"]["template"]
        pod = Pod(
            name=f"{metadata['name']}-{want.revision}-{suffix}",
            namespace=metadata["namespace"],
            template=template,
            spec=podspec.parse(template),
            owner=metadata["name"],
            revision=want.revision,
            node=self._node,
            on_change=self._changed,
        )
        self._pods[pod.name] = pod
        task = asyncio.get_running_loop().create_task(pod.run(), name=pod.name)
        self._tasks[pod.name] = task
        task.add_done_callback(lambda done: self._finished(pod, done))

    def _finished(self, pod: Pod, task: asyncio.Task[None]) -> None:
        self._tasks.pop(pod.name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault of this program: the pod is lost, and the controller makes another.
            self._node.events.record("lost", pod=pod.name, message=repr(error))
            print(f"pod {pod.name}: {error!r}", flush=True)
        self._wake.set()

    def _stop_orphans(self, deployments: list[Object]) -> None:
        owners = {_identity(deployment) for deployment in deployments}
        for pod in self._pods.values():
            if (pod.namespace, pod.owner) not in owners:
                pod.terminate()

    def _changed(self) -> None:
        self._on_pods_change()  # endpoints first: a pod that ends must get no more connections
        self._wake.set()


def _identity(deployment: Object) -> tuple[str, str]:
    return deployment["metadata"]["namespace"], deployment["metadata"]["name"]


def _views(pods: list[Pod], want: Wanted) -> list[rollout.PodView]:
    return [
        rollout.PodView(
            name=pod.name,
            revision=pod.revision,
            ready=pod.ready_since is not None,
            available=pod.is_available(want.min_ready_s),
            terminating=pod.terminating_since is not None,
            created=pod.created,
        )
        for pod in pods
    ]


def _status(deployment: Object, want: Wanted, progress: Progress) -> Object:
    counts = progress.counts
    status: Object = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": counts.replicas,
        "updatedReplicas": counts.updated,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "unavailableReplicas": max(max(counts.replicas, want.replicas) - counts.available, 0),
    }
    before = {item["type"]: item for item in (deployment.get("status") or {}).get("conditions") or ()}
    fresh = [_available(want, counts), _progressing(deployment, want, progress)]
    status["conditions"] = [_with_times(condition, before.get(condition["type"])) for condition in fresh]
    return status


def _available(want: Wanted, counts: Counts) -> Object:
    if counts.available >= want.replicas - want.max_unavailable:
        reason, message = "MinimumReplicasAvailable", "Deployment has minimum availability."
        return {"type": "Available", "status": "True", "reason": reason, "message": message}
    reason, message = "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    return {"type": "Available", "status": "False", "reason": reason, "message": message}


def _progressing(deployment: Object, want: Wanted, progress: Progress) -> Object:
    if progress.complete:
        status, reason, how = "True", "NewReplicaSetAvailable", "has successfully progressed"
    elif progress.timed_out:
        status, reason, how = "False", "ProgressDeadlineExceeded", "has timed out progressing"
    else:
        status, reason, how = "True", "ReplicaSetUpdated", "is progressing"
    message = f'ReplicaSet "{deployment["metadata"]["name"]}-{want.revision}" {how}.'
    return {"type": "Progressing", "status": status, "reason": reason, "message": message}


def _with_times(condition: Object, before: Object | None) -> Object:
    now = timestamp()
    if before is None:
        return condition | {"lastUpdateTime": now, "lastTransitionTime": now}
    same = {key: before.get(key) for key in condition} == condition
    return condition | {
        "lastUpdateTime": before["lastUpdateTime"] if same else now,
        "lastTransitionTime": (
            before["lastTransitionTime"] if before["status"] == condition["status"] else now
        ),
    }
