"""Start the server: `python -m serving`, settings from SERVING_* variables."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

# One process serves from one core. Before NumPy and XGBoost are imported, or they start their threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import uvloop

from bundle.format import BundleError
from serving import log, settings, subjects, tls
from serving.app import App
from serving.capture import Capture
from serving.endpoints import Endpoints
from serving.errors import RequestError
from serving.metrics import Metrics
from serving.model import NoModelError
from serving.models import Models
from serving.sagemaker import SageMaker
from serving.server import Server
from serving.supervisor import Supervisor, workers
from serving.team import Seat, Team
from serving.telemetry import Telemetry
from serving.v2 import V2

if TYPE_CHECKING:
    from pathlib import Path

    from serving.grpc_server import GrpcServer
    from serving.tls import Certificate

# After the drain, for spans and for the log, each: whoever does not take them must not delay the end.
_LAST_SECONDS = 0.5


def main() -> int:
    """Serve until told to stop; return the exit status."""
    try:
        chosen = settings.from_environment(os.environ)
        certificate = tls.certificate(chosen)
        key = subjects.read_key(chosen)
    except settings.SettingsError as error:
        log.configure("info")
        log.error("bad setting", reason=str(error))
        return 2
    log.configure(chosen.log_level)
    for variable in settings.unknown_variables(os.environ):
        log.warning("unknown setting", variable=variable)
    count = workers(chosen)
    if count == 1:
        return _run(chosen, certificate, key)
    return Supervisor(chosen, count, lambda seat: _run(chosen, certificate, key, seat)).run()


def _run(
    chosen: settings.Settings, certificate: Certificate | None, key: bytes | None, seat: Seat | None = None
) -> int:
    """Serve in this process until told to stop; return the exit status."""
    writer = log.in_background(shared=seat is not None)
    telemetry = Telemetry(chosen, os.environ, writer)
    status = uvloop.run(_serve(chosen, certificate, key, telemetry, seat))
    telemetry.close(_LAST_SECONDS)
    writer.flush(_LAST_SECONDS)
    return status


async def _serve(
    chosen: settings.Settings,
    certificate: Certificate | None,
    key: bytes | None,
    telemetry: Telemetry,
    seat: Seat | None,
) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_exception)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD))
    server = Server(chosen, Metrics(), certificate)
    server.listeners = telemetry.listeners
    server.metrics.others.append(telemetry.lines)
    watches = [*telemetry.watches]
    capture = None
    if chosen.captures:
        capture = Capture(chosen, key, server)
        watches.append(capture.watch)
    models = Models(chosen, server.metrics, watches)
    sagemaker = SageMaker(models, chosen, server.heads)
    app = App(server, models, [sagemaker, Endpoints(models, sagemaker), V2(models, server)])
    loading = None
    if seat is not None:
        app.join(Team(seat, app.render_metrics))
        if seat.again:
            # The others serve meanwhile: nobody need meet a worker that is not ready.
            loading = asyncio.create_task(_load(chosen, models))
            await loading
            if models.unready is not None:
                return 1
    rpc = None if chosen.grpc_port is None else _grpc_server(chosen, models, server)
    ports: dict[str, int] = {}
    try:
        ports["port"] = await server.start(app, None if seat is None else seat.port)
        if rpc is not None:
            ports["grpc_port"] = await rpc.start(None if seat is None else seat.grpc_port)
    except OSError as error:
        log.error(
            "cannot listen", host=chosen.host, port=chosen.port, grpc_port=chosen.grpc_port, reason=str(error)
        )
        return 1
    log.info("started", host=chosen.host, **ports, pid=os.getpid())
    loading = loading or asyncio.create_task(_load(chosen, models))
    await stop.wait()
    server.begin_drain()
    await asyncio.gather(server.drain(), *([] if rpc is None else [rpc.drain()]))
    models.tell_observers()
    if capture is not None:
        await capture.close()
    await loading
    return 0


def _grpc_server(chosen: settings.Settings, models: Models, server: Server) -> GrpcServer:
    # gRPC's own log would stand between our lines of JSON.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Imported only where it is wanted: it takes 0.1 s and 20 MiB.
    from serving.grpc_server import GrpcServer  # noqa: PLC0415

    return GrpcServer(chosen, models, server)


async def _load(chosen: settings.Settings, models: Models) -> None:
    """Load the models beside the event loop, which meanwhile answers that it is not ready."""
    directory = chosen.model_dir
    try:
        for name, directory in _bundles(chosen):
            await models.load(name, directory)
        models.check_names()
    except NoModelError as error:
        models.set_ready(str(error))
        log.info("not ready", reason=str(error))
        return
    except (BundleError, RequestError) as error:
        models.set_ready(f"the bundle is refused: {error}")
        log.error("not ready", reason=str(error), model_dir=directory)
        return
    except Exception as error:  # noqa: BLE001  the process stays, to say why it does not serve
        models.set_ready(f"the bundle cannot be loaded: {type(error).__name__}")
        log.error("not ready", error, reason="the bundle cannot be loaded", model_dir=directory)
        return
    # What lives now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    models.set_ready()
    loaded = [entry.model for entry in models.entries.values()]
    log.info(
        "ready",
        model=",".join(model.name for model in loaded),
        version=",".join(model.version for model in loaded),
        digest=",".join(model.digest for model in loaded),
        cpu_seconds=round(time.process_time(), 3),
    )


def _bundles(chosen: settings.Settings) -> list[tuple[str, Path]]:
    """Return the bundles to load at start, and what each is called ("": as its manifest says)."""
    if chosen.models_dir is None:
        return [("", chosen.model_dir)]
    there = chosen.preload and chosen.models_dir.is_dir()
    found = sorted(path for path in chosen.models_dir.iterdir() if path.is_dir()) if there else []
    if not found and not chosen.models_api:
        raise NoModelError("no model released yet")
    for path in found:
        if not settings.MODEL_NAME.fullmatch(path.name):
            raise BundleError(f"{path}: its name cannot be a model's")
    return [(path.name, path) for path in found]


def _on_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    exception = context.get("exception")
    log.error(
        "internal error",
        exception if isinstance(exception, BaseException) else None,
        where=str(context.get("message")),
    )


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # All is done and said. To take the interpreter apart would take time, and native modules would complain
    # on standard error of objects that outlive it.
    os._exit(status)
