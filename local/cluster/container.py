"""One process of a pod: its command, variables, ports and files, its start and its end."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local.processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.cluster.images import Image
    from local.cluster.podspec import PodSpec

_LAUNCHER = Path(__file__).with_name("launch.py")
_PYTHONS = frozenset({"python", "python3"})
_DEFAULT_PORT = 8080
# Below the ports that systems hand out to outgoing connections, so that no client takes one in between.
_PORTS = range(20_000, 32_000)
# Of the serving image: a second port, which two pods could not both have here.
_GRPC_PORT = "SERVING_GRPC_PORT"


class StartError(Exception):
    """A container that cannot be started; the message is for the pod's status."""


class Ports:
    """Free ports of 127.0.0.1, none given out twice at a time."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def take(self) -> int:
        """A port that nobody listens on now."""
        for _ in range(1000):
            port = random.choice(_PORTS)  # noqa: S311 - not a secret
            if port not in self._given and is_free(port):
                self._given.add(port)
                return port
        raise StartError("no free port")

    def give_back(self, ports: Mapping[int, int]) -> None:
        """Ports that a container no longer needs."""
        self._given.difference_update(ports.values())


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def map_ports(spec: PodSpec, ports: Ports) -> dict[int, int]:
    """A free port for every container port, in order."""
    return {number: ports.take() for _, number in spec.ports or (("", _DEFAULT_PORT),)}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a pod runs: its name, its scratch directory and its log."""

    name: str
    namespace: str
    uid: str
    labels: Mapping[str, str]
    scratch: Path
    log: Path


def command(spec: PodSpec, image: Image, python: str) -> list[str]:
    """The arguments of the process: `python` is the serving environment's, paths are the image's."""
    words = list(spec.command) or list(image.entrypoint)
    # As in Kubernetes: a command of the template's own drops the image's arguments.
    words += spec.args or (() if spec.command else image.command)
    if not words:
        raise StartError("no command specified")
    first = words[0]
    name = first.rpartition("/")[2]
    if name in _PYTHONS or name.startswith("python3."):
        first = python
    else:
        first = shutil.which(_in_image(first, image)) or first
    return [first, *(_in_image(word, image) for word in words[1:])]


def _in_image(word: str, image: Image) -> str:
    inside = image.root / word.lstrip("/")
    return str(inside) if word.startswith("/") and inside.exists() else word


def environment(spec: PodSpec, image: Image, place: Place, ports: Mapping[int, int]) -> dict[str, str]:
    """The process's variables: the image's, the container's, then where things are on this machine."""
    fields = {
        "metadata.name": place.name,
        "metadata.namespace": place.namespace,
        "metadata.uid": place.uid,
        "status.podIP": "127.0.0.1",
        "status.hostIP": "127.0.0.1",
        "spec.nodeName": "local",
    }
    fields |= {f"metadata.labels['{key}']": value for key, value in place.labels.items()}
    variables = {key: value for key, value in image.environment.items() if key != "PATH"}
    variables |= dict(spec.environment)
    variables |= {name: fields[path] for name, path in spec.field_refs if path in fields}
    variables |= {
        "SERVING_HOST": "127.0.0.1",
        "SERVING_PORT": str(next(iter(ports.values()))),
        "SERVING_MODEL_DIR": str(image.root / "opt/ml/model"),
        "PYTHONPATH": str(image.root / "app"),
        "HOSTNAME": place.name,
    }
    if _GRPC_PORT in variables:
        here = {str(inside): str(port) for inside, port in ports.items()}
        variables[_GRPC_PORT] = here.get(variables[_GRPC_PORT], variables[_GRPC_PORT])
    return clean_environment(variables, home=place.scratch)


class Container:
    """A running process. It leads a session of its own, so that Ctrl-C at the terminal is not for it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, words: list[str], variables: Mapping[str, str], cwd: Path, log: Path) -> Container:
        """Start the process, output appended to `log`. Raises StartError.

        To be called on the main thread: on Linux the process ends with the thread that started it.
        """
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid())]
        with log.open("ab") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *launcher,
                    *words,
                    cwd=cwd,
                    env=dict(variables),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                raise StartError(str(error)) from error
        return cls(process)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def wait(self) -> int:
        """The exit code, 128 + the signal if a signal ended it."""
        code = await self._process.wait()
        self.kill()  # whatever it started and left behind
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """SIGTERM to the process, as a kubelet sends it."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to the process and everything it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
