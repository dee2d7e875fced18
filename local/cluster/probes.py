"""Probes of a running container: startup, then readiness and liveness side by side."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.cluster.podspec import PodSpec, Probe

# A container that starts is asked more often than its probes' periods for a while: kubelets do so for
# readiness too.
_EAGER_PERIOD_S = 0.2
_EAGER_FOR_S = 15.0


class OnReady(Protocol):
    """A listener."""

    def __call__(self, *, ready: bool, problem: str) -> None:
        """Hear whether a container is ready, and what failed if not."""


class Unhealthy(Exception):  # noqa: N818 - an outcome, not a fault of this program
    """A startup or liveness probe failed as often as it may: the container is to be restarted."""


async def check(probe: Probe, port: int) -> str | None:
    """Probe once: None if it passes, else what went wrong."""
    try:
        async with asyncio.timeout(probe.timeout_s):
            return await _ask(probe, port)
    except TimeoutError:
        return f"no answer within {probe.timeout_s:g} s"
    except (OSError, ValueError, IndexError) as error:
        return str(error) or type(error).__name__


async def _ask(probe: Probe, port: int) -> str | None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if probe.path is None:
            return None
        headers = {"Host": f"127.0.0.1:{port}", "User-Agent": "kube-probe/1.36", "Accept": "*/*"}
        headers |= dict(probe.headers) | {"Connection": "close"}
        lines = [f"GET {probe.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        status = int((await reader.readline()).split()[1])
        while await reader.read(1 << 16):  # let the server finish its answer
            pass
        return None if 200 <= status < 400 else f"HTTP probe failed with statuscode: {status}"
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def attend(
    spec: PodSpec,
    port_of: Callable[[int | str], int | None],
    on_started: Callable[[], None],
    on_ready: OnReady,
) -> None:
    """Probe a container until cancelled; raises Unhealthy when it must be restarted.

    `on_ready` hears every change of readiness, and what failed.
    """
    if spec.startup is not None:
        await _until_started(spec.startup, port_of(spec.startup.port))
    on_started()
    if spec.readiness is None:
        on_ready(ready=True, problem="")
    try:
        async with asyncio.TaskGroup() as group:
            if spec.readiness is not None:
                group.create_task(_watch_readiness(spec.readiness, port_of(spec.readiness.port), on_ready))
            if spec.liveness is not None:
                group.create_task(_watch_liveness(spec.liveness, port_of(spec.liveness.port)))
    except* Unhealthy as unhealthy:
        failure = unhealthy.exceptions[0]
    else:
        return
    raise failure


async def _result(probe: Probe, port: int | None) -> str | None:
    return f"no container port {probe.port!r}" if port is None else await check(probe, port)


async def _until_started(probe: Probe, port: int | None) -> None:
    """Ask often, but give up when asking once a period would have."""
    await asyncio.sleep(probe.initial_delay_s)
    loop = asyncio.get_running_loop()
    give_up = loop.time() + probe.period_s * (probe.failures - 1)
    while (problem := await _result(probe, port)) is not None:
        if loop.time() >= give_up:
            raise Unhealthy(f"Startup probe failed: {problem}")
        await asyncio.sleep(min(probe.period_s, _EAGER_PERIOD_S))


async def _watch_readiness(probe: Probe, port: int | None, on_ready: OnReady) -> None:
    await asyncio.sleep(probe.initial_delay_s)
    loop = asyncio.get_running_loop()
    eager_until = loop.time() + _EAGER_FOR_S
    ready, ever, streak = False, False, 0
    while True:
        problem = await _result(probe, port)
        streak = streak + 1 if (problem is None) != ready else 0
        if streak >= (probe.failures if ready else probe.successes):
            ready, streak = not ready, 0
            ever = ever or ready
            on_ready(ready=ready, problem=problem or "")
        elif problem and not ready:
            on_ready(ready=False, problem=problem)
        eager = not ever and loop.time() < eager_until
        await asyncio.sleep(min(probe.period_s, _EAGER_PERIOD_S) if eager else probe.period_s)


async def _watch_liveness(probe: Probe, port: int | None) -> None:
    await asyncio.sleep(probe.initial_delay_s)
    failures = 0
    while True:
        problem = await _result(probe, port)
        failures = 0 if problem is None else failures + 1
        if problem is not None and failures >= probe.failures:
            raise Unhealthy(f"Liveness probe failed: {problem}")
        await asyncio.sleep(probe.period_s)
