from collections.abc import Callable
from functools import cache

import pytest

from tests.contract.recorder import Program, run


@pytest.fixture(scope="session")
def up() -> Callable[[str], Program]:
    """Stack → the program as `pulumi up` runs it."""

    @cache
    def once(stack: str) -> Program:
        return run(stack, like=stack)

    return once


@pytest.fixture(scope="session")
def preview() -> Callable[[str], Program]:
    """Stack → the program as `pulumi preview` runs it, with unknown outputs."""

    @cache
    def once(stack: str) -> Program:
        return run(stack, like=stack, preview=True)

    return once
