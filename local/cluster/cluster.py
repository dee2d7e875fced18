"""The cluster of one run: store, controller, Services' fronts, and the ready file that tells of them."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.cluster.auth import Authenticator
from local.cluster.deployment import DeploymentController
from local.cluster.events import Events
from local.cluster.images import ImageStore
from local.cluster.pod import Node
from local.cluster.podview import render
from local.cluster.routes import Resource
from local.cluster.selectors import matches
from local.cluster.service import Backend, Front, Fronts
from local.cluster.store import Store
from local.processes import write_ready

if TYPE_CHECKING:
    from pathlib import Path

    from local.cluster.store import Object

SERVICES = Resource("", "v1", "services")
READY_FILE = "cluster.json"
_PODS_END_WITHIN_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line decides."""

    run_dir: Path
    registry: str
    aws_endpoint: str
    python: str
    port: int = 0
    cluster_name: str = ""
    back_off_s: float = 0.5


class Cluster:
    """Everything behind the API. Made on the main thread's loop; raises PortBusyError."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._images_dir = options.run_dir / "images"
        self._pods_dir = options.run_dir / "pods"
        self._pods_dir.mkdir(parents=True, exist_ok=True)
        self.store = Store()
        self.events = Events()
        self.auth = Authenticator(options.aws_endpoint, cluster_name=options.cluster_name)
        self.images = ImageStore(self._images_dir, options.registry)
        node = self._node = Node(
            images=self.images,
            events=self.events,
            directory=self._pods_dir,
            python=options.python,
            back_off_s=options.back_off_s,
        )
        self.controller = DeploymentController(self.store, node, self._update_fronts)
        self._fronts = Fronts()
        # Listens before there is a Service, so that its address is known and a busy port is found at once.
        self._default = self._fronts.open(options.port)
        self._front_of: dict[tuple[str, str], Front] = {}
        self._ready: Object = {}

    def put_identity(self, namespace: str, service_account: str, variables: dict[str, str]) -> None:
        """Give the pods of a service account, those that start from now on, an identity in AWS."""
        endpoint = {"AWS_ENDPOINT_URL": self._options.aws_endpoint}
        self._node.identities[namespace, service_account] = {**variables, **endpoint}

    def announce(self, endpoint: str, authority: str) -> None:
        """Write the ready file."""
        self._ready = {
            "endpoint": endpoint,
            "ca": authority,
            "admin_token": self.auth.admin_token,
            "service": self._default.url,
            "services": {},
        }
        write_ready(self._options.run_dir / READY_FILE, self._ready)

    async def stop(self) -> None:
        """End all pods and fronts; remove what was unpacked and the ready file. Logs stay."""
        self._fronts.stop()
        await self.controller.stop(_PODS_END_WITHIN_S)
        (self._options.run_dir / READY_FILE).unlink(missing_ok=True)
        shutil.rmtree(self._images_dir, ignore_errors=True)
        for path in self._pods_dir.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # keeps what still holds logs
            self._pods_dir.rmdir()

    def state(self) -> Object:
        """What the report shows: pods, images, Services, and the timeline so far."""
        return {
            "pods": [
                {**render(pod), "local": {"ports": pod.ports, "log": str(pod.log), "problem": pod.problem}}
                for pod in self.controller.pods()
            ],
            "images": [{"digest": image.digest, "labels": image.labels} for image in self.images.known()],
            "services": self._urls(),
            "events": self.events.all(),
        }

    def _urls(self) -> dict[str, str]:
        return {"/".join(key): front.url for key, front in self._front_of.items()}

    def _update_fronts(self) -> None:
        """Give every Service a port, and every port its Service's ready pods."""
        services = {
            (item["metadata"]["namespace"], item["metadata"]["name"]): item.get("spec") or {}
            for item in self.store.list(SERVICES)
        }
        changed = services.keys() != self._front_of.keys()
        first = min(services, default=None)
        for key in [key for key in self._front_of if key not in services]:
            front = self._front_of.pop(key)
            if front is self._default:
                front.set_backends((), "no Service yet")
            else:
                self._fronts.close(front)
        for key, spec in services.items():
            # The known port is that of the Service whose name comes first, in whatever order they are made.
            if key not in self._front_of:
                self._front_of[key] = self._vacate_default() if key == first else self._fronts.open()
            self._front_of[key].set_backends(
                self._backends(key[0], spec), f"no ready pod of Service {key[1]}"
            )
        if changed and self._ready:
            self._ready["services"] = self._urls()
            write_ready(self._options.run_dir / READY_FILE, self._ready)

    def _vacate_default(self) -> Front:
        for key, front in self._front_of.items():
            if front is self._default:
                self._front_of[key] = self._fronts.open()
        return self._default

    def _backends(self, namespace: str, spec: dict[str, Any]) -> list[Backend]:
        selector: dict[str, str] = spec.get("selector") or {}
        ports: list[dict[str, Any]] = spec.get("ports") or []
        if not selector or not ports:
            return []
        target: int | str = ports[0].get("targetPort") or ports[0].get("port") or 0
        found: list[Backend] = []
        for pod in self.controller.pods():
            fits = pod.namespace == namespace and matches({"matchLabels": selector}, pod.labels)
            if fits and pod.is_ready() and (port := pod.port_of(target)) is not None:
                found.append(Backend(pod.name, port))
        return found
