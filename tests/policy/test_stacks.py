"""The stacks that are in this repository break no rule."""

import pytest

from policy.model import Stack, Subject, findings
from policy.rules import RULES
from tests.contract.recorder import run


@pytest.mark.parametrize("name", ["dev", "prod"])
@pytest.mark.parametrize("preview", [False, True], ids=["up", "preview"])
def test_nothing_is_found(name: str, preview: bool) -> None:
    program = run(name, like=name, preview=preview)
    subjects = [
        Subject(urn=r.urn, type=r.type, name=r.name, props=r.inputs, protect=r.protect)
        for r in program.resources
    ]
    found = findings(RULES, Stack(name=name, subjects=subjects))
    assert [f"{finding.rule}: {finding.name} {finding.message}" for finding in found] == []
