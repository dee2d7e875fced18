"""What holds for dev and for prod holds for any settings that are valid: random ones, over all sections.

Each example is two runs of the program. `make test-settings` tries more of them, and shrinks what fails.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from components.environment import parse
from tests.contract.any_settings import AnyStack, any_stack
from tests.contract.contracts import CONTRACTS
from tests.contract.recorder import run_file

FEW = 3
EXAMPLES = int(os.environ.get("SETTINGS_EXAMPLES", FEW))
PHASES = [*Phase] if EXAMPLES > FEW else [Phase.explicit, Phase.reuse, Phase.generate]


@pytest.mark.timeout(120 if EXAMPLES <= FEW else 900)
@settings(max_examples=EXAMPLES * 15, deadline=None)
@given(any_stack())
def test_what_is_drawn_is_accepted(stack: AnyStack) -> None:
    parse(stack.sections, stack=stack.name, region=stack.region)


@pytest.mark.usefixtures("_young")
@pytest.mark.timeout(120 if EXAMPLES <= FEW else 900 + 6 * EXAMPLES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=PHASES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(any_stack())
def test_every_contract_holds(stack: AnyStack) -> None:
    program = run_file(stack.name, stack.config())
    for contract in CONTRACTS:
        contract(program)
    preview = run_file(stack.name, stack.config(), preview=True)
    assert sorted(r.urn for r in preview.resources) == sorted(r.urn for r in program.resources)
