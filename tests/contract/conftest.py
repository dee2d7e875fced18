import gc
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.contract.recorder import Program, run
from tests.contract.widest import widest


@pytest.fixture(scope="session")
def up() -> Callable[[str], Program]:
    """Stack → the program as `pulumi up` runs it; "widest" is prod with everything switched on."""

    @cache
    def once(stack: str) -> Program:
        return run(stack, like="prod", changes=widest()) if stack == "widest" else run(stack, like=stack)

    return once


@pytest.fixture(scope="session")
def preview() -> Callable[[str], Program]:
    """Stack → the program as `pulumi preview` runs it, with unknown outputs."""

    @cache
    def once(stack: str) -> Program:
        return run(stack, like=stack, preview=True)

    return once


@pytest.fixture(scope="module")
def _young(up: Callable[[str], Program]) -> Iterator[None]:
    """The collector leaves alone what a first run loads: it would take a third of the time of all others."""
    up("dev")
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
