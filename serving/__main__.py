"""Start the server: `python -m serving`, settings from SERVING_* variables."""

import asyncio
import gc
import os
import signal
import sys
import time

# One process serves from one core. Before NumPy and XGBoost are imported, or they start their threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import uvloop

from bundle.format import BundleError
from serving import log, settings
from serving.app import App
from serving.metrics import Metrics
from serving.model import NoModelError, load
from serving.server import Server


def main() -> int:
    """Serve until told to stop; return the exit status."""
    try:
        chosen = settings.from_environment(os.environ)
    except settings.SettingsError as error:
        log.configure("info")
        log.error("bad setting", reason=str(error))
        return 2
    log.configure(chosen.log_level)
    for variable in settings.unknown_variables(os.environ):
        log.warning("unknown setting", variable=variable)
    return uvloop.run(_serve(chosen))


async def _serve(chosen: settings.Settings) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_exception)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(chosen, Metrics())
    app = App(server)
    try:
        port = await server.start(app)
    except OSError as error:
        log.error("cannot listen", host=chosen.host, port=chosen.port, reason=str(error))
        return 1
    log.info("started", host=chosen.host, port=port, pid=os.getpid())
    loading = asyncio.create_task(_load(chosen, app))
    await stop.wait()
    server.begin_drain()
    await server.drain()
    await loading
    return 0


async def _load(chosen: settings.Settings, app: App) -> None:
    """Load the model beside the event loop, which meanwhile answers that it is not ready."""
    try:
        model = await asyncio.to_thread(load, chosen.model_dir, chosen.max_rows)
    except NoModelError as error:
        app.refuse(str(error))
        log.info("not ready", reason=str(error))
        return
    except BundleError as error:
        app.refuse(f"the bundle is refused: {error}")
        log.error("not ready", reason=str(error), model_dir=chosen.model_dir)
        return
    except Exception as error:  # noqa: BLE001  the process stays, to say why it does not serve
        app.refuse(f"the bundle cannot be loaded: {type(error).__name__}")
        log.error("not ready", error, reason="the bundle cannot be loaded", model_dir=chosen.model_dir)
        return
    # What lives now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    app.serve(model)
    log.info(
        "ready",
        model=model.name,
        version=model.version,
        digest=model.digest,
        cpu_seconds=round(time.process_time(), 3),
    )


def _on_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    exception = context.get("exception")
    log.error(
        "internal error",
        exception if isinstance(exception, BaseException) else None,
        where=str(context.get("message")),
    )


if __name__ == "__main__":
    sys.exit(main())
