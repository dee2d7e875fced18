"""Every value that the program gives a chart is one that the chart has, so that none is misspelt.

The charts have no JSON schema; their own values.yaml lists what can be set. The charts karpenter and
aws-load-balancer-controller come in their projects' Go modules. kube-prometheus-stack and its part grafana
are in no package registry: compare by hand when that version moves (docs/operations.md says how).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.contract import go_modules
from tests.contract.manifests import chart_values
from tests.contract.recorder import Program

Run = Callable[[str], Program]
CHARTS = {
    "karpenter": (go_modules.KARPENTER, "charts/karpenter"),
    "karpenter-crd": (go_modules.KARPENTER, "charts/karpenter-crd"),
    "aws-load-balancer-controller": (
        go_modules.LOAD_BALANCER_CONTROLLER,
        "helm/aws-load-balancer-controller",
    ),
}
ELSEWHERE = {"kube-prometheus-stack"}


def unknown(values: Mapping[str, Any], defaults: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Paths of values that a chart does not have; below an empty map or nothing anything may stand."""
    for key, value in values.items():
        if key not in defaults:
            yield path + key
        elif isinstance(value, Mapping) and defaults[key]:
            if isinstance(defaults[key], Mapping):
                yield from unknown(value, defaults[key], f"{path}{key}.")
            else:
                yield f"{path}{key} (no map there)"


def defaults(chart: str) -> dict[str, Any]:
    module, path = CHARTS[chart]
    text = (go_modules.folder(module) / path / "values.yaml").read_text(encoding="utf-8")
    return yaml.load(text, yaml.CSafeLoader) or {}


@pytest.mark.parametrize("stack", ["dev", "prod", "widest"])
def test_the_charts_are_those(up: Run, stack: str) -> None:
    assert chart_values(up(stack)).keys() == CHARTS.keys() | ELSEWHERE


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("stack", ["dev", "prod", "widest"])
def test_every_value_is_one_that_the_chart_has(up: Run, stack: str, chart: str) -> None:
    assert list(unknown(chart_values(up(stack))[chart], defaults(chart))) == []


def test_a_misspelt_value_would_be_noticed(up: Run) -> None:
    values = chart_values(up("dev"))["karpenter"]
    values["settings"] = {**values["settings"], "interuptionQueue": "q"}
    values["replicas"] = {"minimum": 2}
    # Sorted: values come through the engine's protocol, whose maps have no order.
    found = sorted(unknown(values, defaults("karpenter")))
    assert found == ["replicas (no map there)", "settings.interuptionQueue"]
