"""What the hooks replace is still there in moto, and looks as it did."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from local.aws import builds, clusters, events, functions, images, queues, state_machines, training
from local.aws.hooks import Hook, HookError

MODULES = (builds, clusters, events, functions, images, queues, state_machines, training)
HOOKS = [hook for module in MODULES for hook in module.HOOKS]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.target.partition(":")[2])
def test_moto_is_as_expected(hook: Hook) -> None:
    hook.check()


def test_version() -> None:
    assert version("moto") == "5.2.5", "look at every hook before taking another moto"


@pytest.mark.parametrize(
    ("target", "parameters", "message"),
    [
        ("moto.events.models:Rule.send_to_targets", "self event", "parameters are now"),
        ("moto.events.models:Rule.no_such", "self", "no such function"),
        ("moto.events.models:NoSuch.send", "self", "no 'NoSuch'"),
        ("moto.events.models:Rule.send_to_targets", None, "has its own"),
    ],
)
def test_a_changed_moto_is_noticed(target: str, parameters: str | None, message: str) -> None:
    with pytest.raises(HookError, match=message):
        Hook(target, parameters).check()
