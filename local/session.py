"""One local session: the emulators, the program run against them, and everything cleaned up at the end."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import psutil

from local import engine
from local.emulators import ClusterApi, Emulators
from local.errors import ChildError, LocalError
from local.supervisor import Supervisor
from local.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

PROJECT = Path(__file__).resolve().parent.parent
_POLL_S = 0.1
_SERVICES_S = 10.0
_T = TypeVar("_T")


class Progress(Protocol):
    """Tells the user what happens."""

    def step(self, text: str) -> None:
        """A numbered step begins."""

    def note(self, text: str) -> None:
        """Something worth a line within the step."""


class Silent:
    """Progress that nobody watches."""

    def step(self, text: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """What a session is to run."""

    project: Path = PROJECT
    """Holds Pulumi.yaml and __main__.py."""
    home: Path | None = None
    """Where `.local/` is made; in the project if not given."""
    stack: str = "dev"
    port: int = 8080
    """Of the first model's Service, on 127.0.0.1; 0: any free one."""
    config: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Settings that replace those of the stack file: "trainserve:key" (or "key") to text or JSON."""
    omit: frozenset[str] = frozenset()
    """Only for tests of the wiring, see `local.realisers.Realisers`."""
    serving_python: Path | None = None
    """Runs the pods; `.venv-serving` of the project if not given, else this interpreter."""


class LocalSession:
    """The whole system on this machine. Use it as a context manager: leaving it leaves nothing behind.

    Attributes:
        program: the program's resources and outputs, once `bring_up` has returned.
        run_dir: this session's directory; removed at the end.
    """

    def __init__(
        self, options: SessionOptions, *, on_death: Callable[[ChildError], None] | None = None
    ) -> None:
        self.options = options
        self.workspace = Workspace(options.home or options.project)
        self._on_death = on_death
        self._supervisor: Supervisor | None = None
        self._emulators: Emulators | None = None
        self._program: engine.ProgramRun | None = None
        self._urls: dict[str, str] = {}

    # -- what callers use while it runs -------------------------------------------------------------

    @property
    def run_dir(self) -> Path:
        """This session's directory under `.local/`."""
        return _there(self.workspace.run_dir)

    @property
    def program(self) -> engine.ProgramRun:
        """Resources and outputs of the program run."""
        return _there(self._program)

    @property
    def emulators(self) -> Emulators:
        """The emulators, for who needs more than the shortcuts below."""
        return _there(self._emulators)

    @property
    def aws_endpoint(self) -> str:
        """URL of the emulated AWS."""
        return self.emulators.aws_endpoint

    @property
    def registry(self) -> str:
        """HOST:PORT of the image registry."""
        return self.emulators.registry

    @property
    def cluster(self) -> ClusterApi:
        """The cluster's API, as its administrator: `.get(path)`, `.endpoint`."""
        return self.emulators.cluster

    @property
    def models(self) -> Mapping[str, Mapping[str, Any]]:
        """The program's `models` output: name to incoming, packageGroup, deployment, namespace, service."""
        return dict(sorted((self.program.outputs.get("models") or {}).items()))

    def client(self, service: str) -> Any:  # noqa: ANN401  # boto3 makes its clients at run time
        """A boto3 client of the emulated AWS."""
        return self.emulators.client(service)

    def service_url(self, model: str) -> str:
        """Base URL of a model's Service: append /invocations, /ping or /metrics."""
        if model not in self.models:
            raise LocalError(f"no model {model!r} in this program; there are: {', '.join(self.models)}")
        return self._urls.get(model, self.cluster.service)

    def check(self) -> None:
        """Raise the ChildError if one of the emulators has died."""
        _there(self._supervisor).check()

    # -- life ---------------------------------------------------------------------------------------

    def check_free(self) -> None:
        """Raise a LocalError if another session runs here, or if the port is busy.

        In this order: the other session explains its port.
        """
        self.workspace.check_free()
        check_port_free(self.options.port)

    def bring_up(self, progress: Progress | None = None) -> None:
        """Take the lock, start the emulators, run the program against them.

        Raises:
            LocalError: another session runs, the port is busy, an emulator died, the program failed.
        """
        progress = progress or Silent()
        self.check_free()
        run_dir = self.workspace.acquire()
        progress.step("Start the emulators: registry, AWS, cluster")
        self._emulators = emulators = Emulators(run_dir=run_dir)
        self._supervisor = Supervisor(run_dir=run_dir, code_dir=PROJECT, on_death=self._child_died)
        program = _ProgramThread(self.options, emulators)
        program.start()  # its imports take seconds: let them overlap with the emulators' start
        try:
            self._start_emulators(self._supervisor, emulators, progress)
            self._supervisor.watch()
            progress.step(f"Run the program of stack {self.options.stack} against them")
            self._program = self._wait_for_program(program, self._supervisor)
            self._urls = self._service_urls()
        except BaseException as error:
            emulators.fail(error)
            raise
        self._publish()

    def wait_for_model(self, model: str, progress: Progress | None = None, *, timeout_s: float = 300) -> None:
        """Wait until the first version of `model` answers.

        Raises:
            LocalError: its training or its release failed, or it took longer than `timeout_s`.
        """
        from local import first_release  # noqa: PLC0415  # needs this module's types

        first_release.wait(self, model, progress or Silent(), timeout_s=timeout_s)

    def close(self) -> None:
        """End everything and remove the run directory; safe to call at any moment, and again."""
        if self._emulators is not None:
            self._emulators.fail(LocalError("the session has ended"))
        if self._supervisor is not None:
            self._supervisor.stop()
        self.workspace.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------

    def _start_emulators(self, supervisor: Supervisor, emulators: Emulators, progress: Progress) -> None:
        registry = supervisor.wait_ready(supervisor.start("registry", "local.registry"))
        emulators.ready("registry", registry)
        address = str(registry["url"])
        progress.note(f"registry  {address}")
        aws = supervisor.wait_ready(supervisor.start("aws", "local.aws", ["--registry", address]))
        emulators.ready("aws", aws)
        progress.note(f"aws       {aws['endpoint']}")
        arguments = ["--registry", address, "--aws-endpoint", str(aws["endpoint"])]
        arguments += ["--port", str(self.options.port)]
        if python := self._serving_python():
            arguments += ["--serving-python", str(python)]
        cluster = supervisor.wait_ready(supervisor.start("cluster", "local.cluster", arguments))
        emulators.ready("cluster", cluster)
        progress.note(f"cluster   {cluster['endpoint']}, Service {cluster['service']}")

    def _serving_python(self) -> Path | None:
        if self.options.serving_python is not None:
            return self.options.serving_python
        python = PROJECT / ".venv-serving" / "bin" / "python"
        return python if python.exists() else None

    def _wait_for_program(self, program: _ProgramThread, supervisor: Supervisor) -> engine.ProgramRun:
        while program.is_alive():
            supervisor.check()
            program.join(_POLL_S)
        supervisor.check()  # a dead emulator explains more than the call that it failed to answer
        return program.result()

    def _service_urls(self) -> dict[str, str]:
        """Each model's own URL, as soon as the cluster has given its Service a port."""
        deadline = time.monotonic() + _SERVICES_S
        keys = {
            name: f"{facts['namespace']}/{facts['service']}"
            for name, facts in self.models.items()
            if "service" in facts
        }
        while True:
            urls = self.emulators.service_urls()
            absent = set(keys.values()) - urls.keys()
            if not absent:
                return {name: urls[key] for name, key in keys.items()}
            if time.monotonic() > deadline:
                raise LocalError(f"the cluster has no Service {', '.join(sorted(absent))}")
            self.check()
            time.sleep(_POLL_S)

    def _publish(self) -> None:
        process = psutil.Process()
        self.workspace.write_session(
            {
                "pid": process.pid,
                "started": process.create_time(),
                "stack": self.options.stack,
                "run_dir": str(self.run_dir),
                "aws_endpoint": self.aws_endpoint,
                "registry": self.registry,
                "cluster_endpoint": self.cluster.endpoint,
                "service": self.cluster.service,
                "models": {
                    name: {**facts, "url": self.service_url(name)} for name, facts in self.models.items()
                },
                "resources": self.program.counts(),
                "outputs": self.program.outputs,
            }
        )

    def _child_died(self, error: ChildError) -> None:
        _there(self._emulators).fail(error)
        if self._on_death is not None:
            self._on_death(error)


class _ProgramThread(threading.Thread):
    """Runs the program beside the main thread, which looks after the emulators and the user's Ctrl-C."""

    def __init__(self, options: SessionOptions, emulators: Emulators) -> None:
        super().__init__(name="program", daemon=True)
        self._options = options
        self._emulators = emulators
        self._run: engine.ProgramRun | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        from local.realisers import Realisers  # noqa: PLC0415  # only who realises imports them

        try:
            realisers = Realisers(self._emulators, omit=self._options.omit)
            self._run = engine.run_program(
                self._options.stack,
                project=self._options.project,
                realise=realisers,
                config_overrides=self._options.config,
            )
            realisers.check_omissions()
        except BaseException as error:  # noqa: BLE001  # handed to the main thread
            self._error = error

    def result(self) -> engine.ProgramRun:
        """The run, or its exception."""
        if self._error is not None:
            raise self._error
        return _there(self._run)


def check_port_free(port: int) -> None:
    """Raise a LocalError that names who listens on 127.0.0.1:`port`, if somebody does."""
    if port == 0:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LocalError(
                f"port {port} is not free{_listener(port)}; choose another one with --port (0: any free one)"
            ) from error


def _listener(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                return f" (process {connection.pid}, {psutil.Process(connection.pid).name()}, listens there)"
    except psutil.Error:
        pass
    return ""


def _there(value: _T | None) -> _T:
    if value is None:
        raise LocalError("the local session is not up")
    return value
