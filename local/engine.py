"""Runs a Pulumi program under the SDK's mock monitor, with or without making its resources real.

Pulumi's runtime keeps its state in context variables; every run gets a thread with a fresh context of its
own, so a process may run several programs, one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import runpy
import sys
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from local import wire
from local.errors import ProgramError
from local.plausible import Plausible
from local.stackfile import StackConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

_PROJECT = Path(__file__).resolve().parent.parent
_WORKERS = 8


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource as the program registered it, and what became of it."""

    urn: str
    type: str
    name: str
    parent: str | None
    custom: bool
    """False for components."""
    remote: bool = False
    read: bool = False
    """An existing resource that the program only looks at."""
    protect: bool = False
    retain_on_delete: bool = False
    deleted_with: str | None = None
    dependencies: tuple[str, ...] = ()
    """URNs, those behind inputs included."""
    property_dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    ignore_changes: tuple[str, ...] = ()
    additional_secret_outputs: tuple[str, ...] = ()
    secret_inputs: tuple[str, ...] = ()
    """Dotted paths within `inputs` that the program declared secret."""
    provider: str | None = None
    version: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Resolved, in the provider's camelCase; unknown values of a preview are `wire.UNKNOWN`."""
    id: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    realised: bool = False
    """True if it is real on this machine; else it is declared only."""
    finished_s: float = 0.0
    """Seconds from the start of the run to its registration's end."""

    @property
    def is_component(self) -> bool:
        """True for what only groups others; pulumi-eks' remote component counts as a thing in the cloud."""
        return not self.custom and not self.remote

    @property
    def is_provider(self) -> bool:
        """True for provider instances, which are neither components nor things in the cloud."""
        return self.type.startswith("pulumi:providers:")


@dataclass(frozen=True, kw_only=True)
class ProgramRun:
    """What a program declared."""

    resources: list[Resource]
    """In the order of registration; components come before their children."""
    outputs: Mapping[str, Any]
    """The stack's exports."""
    duration_s: float
    messages: tuple[str, ...] = ()
    """What the program logged through Pulumi, warnings and above."""

    def counts(self) -> dict[str, int]:
        """Cloud resources: `declared` (all) = `local` + `declared_only`; and `components`."""
        real = self._things()
        local = sum(r.realised for r in real)
        return {
            "declared": len(real),
            "local": local,
            "declared_only": len(real) - local,
            "components": sum(r.is_component for r in self.resources),
        }

    def by_type(self) -> dict[str, tuple[int, int]]:
        """Type to (declared, running locally), components and providers left out, sorted by type."""
        real = self._things()
        declared = Counter(r.type for r in real)
        local = Counter(r.type for r in real if r.realised)
        return {kind: (declared[kind], local[kind]) for kind in sorted(declared)}

    def _things(self) -> list[Resource]:
        return [r for r in self.resources if not (r.is_component or r.is_provider)]


@dataclass(frozen=True)
class Realised:
    """What a realiser made: the physical id and the outputs that the provider would have computed."""

    id: str
    outputs: Mapping[str, Any]


class Realise(Protocol):
    """Makes resources real where it can."""

    def __call__(self, resource: Resource) -> Realised | None:
        """Make `resource` (its inputs) real; None if this type stays declared only.

        Called from several threads at once, each resource after those that it depends on.
        """


@dataclass
class Recorder:
    """What the monitor learns during one run; shared by its worker threads."""

    started: float = field(default_factory=time.monotonic)
    resources: dict[str, Resource] = field(default_factory=dict[str, Resource])
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    errors: list[ProgramError] = field(default_factory=list[ProgramError])

    def fail(self, message: str) -> ProgramError:
        """Remember an error that ends the run; the first one is the one shown."""
        error = ProgramError(message)
        self.errors.append(error)
        return error


def run_program(  # noqa: PLR0913  # a facade with defaults
    stack: str,
    *,
    project: Path = _PROJECT,
    realise: Realise | None = None,
    preview: bool = False,
    config_overrides: Mapping[str, str] | None = None,
    on_resource: Callable[[Resource], None] | None = None,
) -> ProgramRun:
    """Run `project/__main__.py` for `stack`.

    Args:
        stack: names the stack file, Pulumi.<stack>.yaml.
        project: the folder that holds the program; the working directory during the run.
        realise: makes resources real; without it all are declared only.
        preview: as `pulumi preview`: outputs that a provider computes are unknown.
        config_overrides: settings that replace those of the stack file.
        on_resource: told about each resource once it is registered, from worker threads.

    Raises:
        ProgramError: what the program, or a realiser, had to say against it.
    """
    config = StackConfig.load(project, stack, config_overrides or {})
    recorder = Recorder()
    run = _Run(config=config, recorder=recorder, realise=realise, preview=preview, on_resource=on_resource)
    thread = threading.Thread(
        target=contextvars.Context().run, args=(run.execute,), name="pulumi", daemon=True
    )
    with _directory(project), _no_collections():
        thread.start()
        thread.join()
    if recorder.errors:
        raise recorder.errors[0]
    return ProgramRun(
        resources=list(recorder.resources.values()),
        outputs=recorder.outputs,
        duration_s=time.monotonic() - recorder.started,
        messages=tuple(run.messages),
    )


@dataclass
class _Run:
    config: StackConfig
    recorder: Recorder
    realise: Realise | None
    preview: bool
    on_resource: Callable[[Resource], None] | None
    messages: list[str] = field(default_factory=list[str])

    def execute(self) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.set_default_executor(ThreadPoolExecutor(_WORKERS, thread_name_prefix="register"))
        try:
            self._run_program()
        except SystemExit as error:
            if error.code not in (None, 0):
                self.recorder.fail(str(error.code))
        except Exception as error:  # noqa: BLE001  # whatever a program may raise
            self.recorder.fail(_explain(error, self.config.project))
        finally:
            _close(loop)

    def _run_program(self) -> None:
        # Pulumi's import takes a second: done here, it overlaps with the start of the emulators.
        import pulumi.runtime  # noqa: PLC0415
        from pulumi.runtime.config import set_all_config  # noqa: PLC0415
        from pulumi.runtime.settings import get_root_resource  # noqa: PLC0415
        from pulumi.runtime.stack import Stack, massage  # noqa: PLC0415

        from local.monitor import RecordingMonitor  # noqa: PLC0415

        monitor = RecordingMonitor(
            self.recorder,
            plausible=Plausible(region=self.config.values.get("aws:region", "us-east-1")),
            realise=self.realise,
            preview=self.preview,
            on_resource=self.on_resource,
        )
        pulumi.runtime.set_mocks(
            monitor.mocks,
            project=self.config.project_name,
            stack=self.config.stack,
            preview=self.preview,
            monitor=monitor,
            logger=self._logger(),
        )
        set_all_config(dict(self.config.values), list(self.config.secret_keys))

        @pulumi.runtime.test
        def program() -> None:
            runpy.run_path(str(self.config.project / "__main__.py"), run_name="__main__")
            root = get_root_resource()
            assert isinstance(root, Stack)  # noqa: S101  # set_mocks made it
            root.register_outputs(massage(root.outputs, []))  # pyright: ignore[reportArgumentType]

        program()

    def _logger(self) -> logging.Logger:
        logger = logging.Logger("pulumi")  # noqa: LOG001  # outside the logging tree: silent

        class Collect(logging.Handler):
            def emit(_self, record: logging.LogRecord) -> None:  # noqa: N805
                self.messages.append(record.getMessage())

        logger.addHandler(Collect(logging.WARNING))
        return logger


def record(request: Any, urn: str) -> Resource:  # noqa: ANN401  # a protobuf message
    """The registration request as plain values."""
    return Resource(
        urn=urn,
        type=request.type,
        name=request.name,
        parent=request.parent or None,
        custom=request.custom,
        remote=request.remote,
        protect=request.protect,
        retain_on_delete=request.retainOnDelete,
        deleted_with=request.deletedWith or None,
        dependencies=tuple(request.dependencies),
        property_dependencies={
            key: tuple(value.urns) for key, value in request.propertyDependencies.items() if value.urns
        },
        ignore_changes=tuple(request.ignoreChanges),
        additional_secret_outputs=tuple(request.additionalSecretOutputs),
        secret_inputs=tuple(wire.secret_paths(request.object)),
        provider=request.provider or None,
        version=request.version,
        inputs=wire.to_plain(request.object),
    )


def _explain(error: Exception, project: Path) -> str:
    """The program's own words; for an error that it did not foresee, also where in it that happened."""
    from pulumi import RunError  # noqa: PLC0415

    if isinstance(error, RunError):
        return str(error)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(project) and ".venv" not in frame.filename
    ]
    own = [frame for frame in frames if not Path(frame.filename).is_relative_to(Path(__file__).parent)]
    where = "".join(f"\n  {Path(f.filename).name}:{f.lineno} in {f.name}: {f.line}" for f in own[-4:])
    return f"the program failed: {type(error).__name__}: {error}{where}"


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Leave no pending task behind that would complain when it is collected."""
    pending = asyncio.all_tasks(loop)
    for task in pending:
        task.cancel()
    with contextlib.suppress(Exception):
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    asyncio.set_event_loop(None)


@contextlib.contextmanager
def _no_collections() -> Generator[None]:
    """Do without the search for garbage: the packages' objects stay, and it takes an eighth of the run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def _directory(project: Path) -> Generator[None]:
    """Programs name files relative to their folder and import from it."""
    before, path = Path.cwd(), str(project)
    os.chdir(project)
    sys.path.insert(0, path)
    try:
        yield
    finally:
        sys.path.remove(path)
        os.chdir(before)
