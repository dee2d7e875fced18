"""One pod's life: image, process, probes, restarts, and an end in Kubernetes' order."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.cluster import probes
from local.cluster.container import (
    Container,
    Place,
    Ports,
    StartError,
    command,
    environment,
    is_free,
    map_ports,
)
from local.cluster.images import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from local.cluster.events import Events
    from local.cluster.images import Image, ImageStore
    from local.cluster.podspec import PodSpec

_LEAST_AFTER_PRE_STOP_S = 2.0
_STABLE_AFTER_S = 30.0
_PORT_RACE_WITHIN_S = 10.0
_LOG_TAIL_BYTES = 2048


@dataclass(frozen=True, kw_only=True)
class Node:
    """What pods share: images, ports, timeline, where they run and with which Python."""

    images: ImageStore
    events: Events
    directory: Path
    python: str
    ports: Ports = field(default_factory=Ports)
    back_off_s: float = 0.5
    longest_back_off_s: float = 10.0
    identities: dict[tuple[str, str], dict[str, str]] = field(
        default_factory=dict[tuple[str, str], dict[str, str]]
    )
    """(namespace, service account) → the variables by which its pods reach AWS."""

    def back_off(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row; much shorter than a kubelet's."""
        return min(self.back_off_s * 2 ** (failures - 1), self.longest_back_off_s)


@dataclass(frozen=True)
class Exit:
    """How a container's process ended."""

    code: int
    started: float
    finished: float
    message: str = ""

    @property
    def reason(self) -> str:
        """Kubernetes' word for it."""
        return "Error" if self.code else "Completed"


@dataclass(eq=False)
class Pod:
    """A pod of a Deployment. All of it runs on the API's loop, in the main thread."""

    name: str
    namespace: str
    template: Mapping[str, Any]
    spec: PodSpec
    owner: str
    revision: str
    node: Node
    on_change: Callable[[], None]
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: float = field(default_factory=time.time)
    image: Image | None = None
    waiting: tuple[str, str] | None = ("ContainerCreating", "")
    running_since: float | None = None
    last_exit: Exit | None = None
    restarts: int = 0
    started: bool = False
    ready_since: float | None = None
    problem: str = ""
    terminating_since: float | None = None
    gone: bool = False
    ports: dict[int, int] = field(default_factory=dict[int, int])
    container: Container | None = None
    _last_port: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def labels(self) -> dict[str, str]:
        """The template's labels, and the revision's as Kubernetes adds it."""
        labels: Mapping[str, str] = (self.template.get("metadata") or {}).get("labels") or {}
        return {**labels, "pod-template-hash": self.revision}

    @property
    def log(self) -> Path:
        """The file that takes the process's output."""
        return self.node.directory / f"{self.name}.log"

    @property
    def scratch(self) -> Path:
        """HOME and TMPDIR of the process."""
        return self.node.directory / self.name

    def is_ready(self) -> bool:
        """Whether Services may send it connections."""
        return self.ready_since is not None and self.terminating_since is None

    def is_available(self, min_ready_s: float) -> bool:
        """Whether it has been ready for long enough."""
        return self.ready_since is not None and time.time() - self.ready_since >= min_ready_s

    def port_of(self, port: int | str) -> int | None:
        """The port on this machine behind a container port, by number or name; None if there is none."""
        number = dict(self.spec.ports).get(port) if isinstance(port, str) else port
        return None if number is None else self.ports.get(number)

    def terminate(self) -> None:
        """Begin the end: no more connections, preStop, SIGTERM, SIGKILL at the end of the grace period."""
        if self.terminating_since is None:
            self.terminating_since = time.time()
            self._event("terminating")
            self._stop.set()

    async def run(self) -> None:
        """The pod's whole life; returns when its process is gone."""
        self._event("scheduled", image=self.spec.image)
        for note in self.spec.notes:
            self._event("note", message=note)
        try:
            self.image = await self._pull()
            if self.image is not None:
                await self._restart_always(self.image)
        finally:
            if self.container is not None:
                self.container.kill()
            await asyncio.to_thread(shutil.rmtree, self.scratch, ignore_errors=True)
            self.gone, self.waiting = True, None
            self._event("gone")

    async def _pull(self) -> Image | None:
        """The image, when it is there at last; None if the pod is to end before that."""
        failures = 0
        while not self._stop.is_set():
            try:
                image = await asyncio.to_thread(self.node.images.pull, self.spec.image)
            except ImageError as error:
                failures += 1
                self._set_waiting("ErrImagePull", str(error), tell=failures == 1)
                await asyncio.sleep(0)
                self._set_waiting(
                    "ImagePullBackOff",
                    f'Back-off pulling image "{self.spec.image}": ErrImagePull: {error}',
                    tell=failures == 1,
                )
                await self._pause(self.node.back_off(failures))
            else:
                self._event("pulled", digest=image.digest)
                return image
        return None

    async def _restart_always(self, image: Image) -> None:
        failures = 0
        while not self._stop.is_set():
            began = time.time()
            code, why = await self._run_once(image)
            if self._stop.is_set():
                return
            if code and time.time() - began < _PORT_RACE_WITHIN_S and self._port_was_taken():
                self._event("port taken", message="another program took the port first")
                continue
            self.last_exit = Exit(code, began, time.time(), self._last_words(code))
            self._event("exited", code=code, message=why)
            failures = 1 if time.time() - began > _STABLE_AFTER_S else failures + 1
            if failures > 1:  # the first restart is at once, as a kubelet's
                seconds = self.node.back_off(failures - 1)
                self._set_waiting(
                    "CrashLoopBackOff",
                    f"back-off {seconds:g}s restarting failed container={self.spec.container} "
                    f"pod={self.name}_{self.namespace}({self.uid})",
                )
                await self._pause(seconds)
            self.restarts += 1

    async def _run_once(self, image: Image) -> tuple[int, str]:
        """One process, from start to exit: its exit code and why it ended, if this runtime knows."""
        try:
            container = await self._start(image)
        except StartError as error:
            self._set_waiting("RunContainerError", str(error))
            return 128, str(error)
        exited = asyncio.ensure_future(container.wait())
        attention = asyncio.ensure_future(
            probes.attend(self.spec, self.port_of, self._on_started, self._on_ready)
        )
        stopping = asyncio.ensure_future(self._stop.wait())
        why = ""
        try:
            await _first(exited, attention, stopping, ignore_return_of=attention)
            if not exited.done():
                if attention.done():
                    why = str(attention.exception())
                    self._event("unhealthy", message=why)
                await self._end(container, exited, pre_stop=self.spec.pre_stop_s)
            return await exited, why
        finally:
            for task in (attention, stopping, exited):
                task.cancel()
            await asyncio.gather(attention, stopping, exited, return_exceptions=True)
            self._ended()

    async def _start(self, image: Image) -> Container:
        self.ports = map_ports(self.spec, self.node.ports)
        self._last_port = next(iter(self.ports.values()))
        place = Place(
            name=self.name,
            namespace=self.namespace,
            uid=self.uid,
            labels=self.labels,
            scratch=self.scratch,
            log=self.log,
        )
        working_dir = image.root / image.working_dir.lstrip("/")
        try:
            container = self.container = await Container.start(
                command(self.spec, image, self.node.python),
                environment(self.spec, image, place, self.ports) | self._identity(),
                working_dir if working_dir.is_dir() else image.root,
                self.log,
            )
        except StartError:
            self._ended()
            raise
        self.waiting, self.running_since = None, time.time()
        self._event("started", pid=container.pid, port=self._last_port)
        return container

    def _identity(self) -> dict[str, str]:
        return self.node.identities.get((self.namespace, self.spec.service_account), {})

    async def _end(self, container: Container, exited: asyncio.Future[int], *, pre_stop: float) -> None:
        """PreStop, SIGTERM, and SIGKILL when the grace period, which includes preStop, is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.spec.grace_s
        await asyncio.wait({exited}, timeout=min(pre_stop, self.spec.grace_s))
        container.terminate()
        if pre_stop:
            deadline = max(deadline, loop.time() + _LEAST_AFTER_PRE_STOP_S)
        await asyncio.wait({exited}, timeout=deadline - loop.time())
        if not exited.done():
            self._event("killed", message=f"still running after {self.spec.grace_s:g} s of grace")
            container.kill()

    async def end_now(self, within_s: float) -> None:
        """The runtime itself ends: SIGTERM, and SIGKILL after `within_s` seconds."""
        self.terminating_since = self.terminating_since or time.time()
        self._stop.set()
        container = self.container
        if container is None:
            return
        container.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await container.wait()
        container.kill()

    def _on_started(self) -> None:
        self.started = True
        self.on_change()

    def _on_ready(self, *, ready: bool, problem: str) -> None:
        self.problem = f"Readiness probe failed: {problem}" if problem else ""
        if ready == (self.ready_since is not None):
            return
        self.ready_since = time.time() if ready else None
        if self.terminating_since is None:
            self._event("ready" if ready else "unready", message=self.problem)

    def _ended(self) -> None:
        self.node.ports.give_back(self.ports)
        self.container, self.ports = None, {}
        self.running_since, self.started = None, False
        self._on_ready(ready=False, problem="")
        self.on_change()

    def _port_was_taken(self) -> bool:
        return not is_free(self._last_port)

    def _last_words(self, code: int) -> str:
        if not code or not self.spec.log_tail_on_error:
            return ""
        with suppress(OSError), self.log.open("rb") as file:
            file.seek(max(self.log.stat().st_size - _LOG_TAIL_BYTES, 0))
            return file.read().decode(errors="replace")
        return ""

    def _set_waiting(self, reason: str, message: str, *, tell: bool = True) -> None:
        self.waiting = (reason, message)
        if tell:
            self._event("waiting", reason=reason, message=message)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    def _event(self, event: str, **facts: object) -> None:
        self.node.events.record(
            event,
            pod=self.name,
            namespace=self.namespace,
            deployment=self.owner,
            revision=self.revision,
            **facts,
        )
        self.on_change()


async def _first(*tasks: asyncio.Future[Any], ignore_return_of: asyncio.Future[Any]) -> None:
    """Wait for the first of the tasks; one that merely returns may be not worth waking up for."""
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if done != {ignore_return_of} or ignore_return_of.exception() is not None:
            return
