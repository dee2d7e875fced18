"""What holds for every program holds for dev and for prod; for any other settings: test_any_settings.py."""

from collections.abc import Callable

import pytest

from tests.contract.contracts import CONTRACTS
from tests.contract.recorder import Program

Run = Callable[[str], Program]
STACKS = ["dev", "prod"]


@pytest.mark.parametrize("stack", [*STACKS, "widest"])
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_it_holds(up: Run, stack: str, contract: Callable[[Program], None]) -> None:
    contract(up(stack))


@pytest.mark.parametrize("stack", STACKS)
def test_preview_and_up_register_the_same(up: Run, preview: Run, stack: str) -> None:
    assert sorted(r.urn for r in preview(stack).resources) == sorted(r.urn for r in up(stack).resources)
