"""Which calls go together."""

import asyncio

import pytest

from serving import grpc_gate
from serving.grpc_gate import Gate
from serving.grpc_infer import Call, CallHead

HEAD = CallHead("/a/b", "grpc_infer")


class Callers:
    """Tasks that call and wait for their answers, and what has been planned of them."""

    def __init__(self) -> None:
        self.planned: list[Call] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.gate = Gate(self.planned.append)

    async def come(self, count: int) -> int:
        """Have calls come; return how many are planned by then."""
        self.tasks += [asyncio.create_task(self._one()) for _ in range(count)]
        await asyncio.sleep(0)
        return len(self.planned)

    async def _one(self) -> None:
        call = Call(HEAD, b"", None, asyncio.get_running_loop().create_future())
        self.gate.enter(call)
        await call.done

    async def end(self) -> None:
        for call in self.planned:
            call.respond(b"")
        await asyncio.gather(*self.tasks)


def test_calls_wait_for_as_many_as_lately_came_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_gate, "_LONGEST_SECONDS", 30)

    async def run() -> list[int]:
        callers = Callers()
        # The first goes at once; with the next two three are seen together, so a third is waited for.
        found = [await callers.come(1), await callers.come(2)]
        callers.planned[0].respond(b"")
        await callers.tasks[0]
        found.append(await callers.come(1))
        await callers.end()
        return found

    assert asyncio.run(run()) == [1, 1, 4]


def test_calls_that_waited_in_vain_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_gate, "_LONGEST_SECONDS", 0)

    async def run() -> int:
        callers = Callers()
        await callers.come(1)
        await callers.come(1)
        callers.planned[0].respond(b"")
        await asyncio.sleep(0.02)
        await callers.end()
        return len(callers.planned)

    assert asyncio.run(run()) == 2


def test_a_call_that_was_given_up_is_not_planned() -> None:
    async def run() -> list[Call]:
        planned: list[Call] = []
        call = Call(HEAD, b"", None, asyncio.get_running_loop().create_future())
        call.done.cancel()
        Gate(planned.append).enter(call)
        return planned

    assert asyncio.run(run()) == []
