"""`python -m local.cluster`: the API, the pods and the Services' fronts of one run."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from local.cluster.api import Api
from local.cluster.cluster import Cluster, Options
from local.cluster.service import PortBusyError
from local.cluster.tls import server_context
from local.processes import die_with_parent

BUSY = 3
"""The exit code when the Service's port is taken."""


def _arguments(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m local.cluster", description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True, help="directory of this run")
    parser.add_argument("--registry", required=True, metavar="HOST:PORT", help="where images are pulled from")
    parser.add_argument("--aws-endpoint", required=True, metavar="URL", help="the STS that verifies tokens")
    parser.add_argument("--port", type=int, default=0, help="port of the first Service (0: any free one)")
    parser.add_argument("--serving-python", default=sys.executable, help="what `python` means in pods")
    parser.add_argument("--cluster-name", default="", help="the name that tokens must be signed for")
    parser.add_argument("--back-off", type=float, default=0.5, help="first pause after a failure, seconds")
    parsed = parser.parse_args(arguments)
    return Options(
        # Pods run elsewhere: paths must hold there too.
        run_dir=parsed.run_dir.resolve(),
        registry=parsed.registry.removeprefix("http://"),
        aws_endpoint=parsed.aws_endpoint.rstrip("/"),
        python=parsed.serving_python
        if os.sep not in parsed.serving_python
        else str(Path(parsed.serving_python).absolute()),
        port=parsed.port,
        cluster_name=parsed.cluster_name,
        back_off_s=parsed.back_off,
    )


async def _serve(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cluster = Cluster(options)
    context, authority = server_context()
    runner = web.AppRunner(Api(cluster).application(), access_log=None, shutdown_timeout=0.5)
    try:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port: int = runner.addresses[0][1]
        cluster.announce(f"https://127.0.0.1:{port}", authority)
        die_with_parent()
        await _until(stop, cluster)
    finally:
        await cluster.stop()
        await runner.cleanup()


async def _until(stop: asyncio.Event, cluster: Cluster) -> None:
    """Run the controller until `stop`; its failure is the program's."""
    stopping = asyncio.ensure_future(stop.wait())
    controlling = asyncio.ensure_future(cluster.controller.run())
    await asyncio.wait({stopping, controlling}, return_when=asyncio.FIRST_COMPLETED)
    if controlling.done():
        controlling.result()
    controlling.cancel()


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM; 0 then, BUSY if the port is taken."""
    options = _arguments(arguments)
    # The fronts' thread must not wait long for this one: its share of a request is some microseconds.
    sys.setswitchinterval(0.001)
    try:
        asyncio.run(_serve(options))
    except PortBusyError as error:
        print(f"{error}; choose another by --port", file=sys.stderr)
        return BUSY
    return 0


if __name__ == "__main__":
    sys.exit(main())
