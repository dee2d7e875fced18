"""Every field of the settings changes the program, or what it accepts; new fields are among them."""

import os

import pytest

from components.environment import SettingsError
from tests.contract.every_setting import (
    ALONE,
    FIXED,
    REFUSED,
    Change,
    accepted,
    changed,
    changes,
    fields,
    full,
    rendering,
    unseen,
)

ONE_BY_ONE = bool(os.environ.get("SETTINGS_ALONE"))


@pytest.mark.usefixtures("_young")
@pytest.mark.timeout(600)
def test_every_field_changes_the_program() -> None:
    base = full()
    found = changes(base)
    assert found.keys() | FIXED == fields()
    before = rendering(base)
    nothing = Change(field="nothing", place=("network", "cidr"), value=base["network"]["cidr"])
    suspects = [nothing, *(change for change in found.values() if change.field not in REFUSED)]
    if not ONE_BY_ONE:
        alone = [change for change in suspects if change.field in ALONE]
        beside = [change for change in suspects if change.field not in ALONE]
        suspects = [
            *alone,
            *unseen(before, base, [change for change in beside if change.covering]),
            *unseen(before, base, [change for change in beside if not change.covering]),
        ]
    # One that changes nothing is among them, to see that it would be found.
    assert [c.field for c in suspects if rendering(changed(base, c)) == before] == ["nothing"]


@pytest.mark.parametrize(("field", "named"), REFUSED.items())
def test_what_changes_nothing_decides_what_is_accepted(field: str, named: str) -> None:
    base = full()
    with pytest.raises(SettingsError, match=named):
        accepted(changed(base, changes(base)[field]))
