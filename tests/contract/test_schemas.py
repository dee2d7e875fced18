"""Every Kubernetes object of the program is valid for the version of Kubernetes that it pins."""

import warnings
from collections.abc import Callable

import pytest

from components import versions
from tests.contract.manifests import CORE, group_of, manifest, manifests
from tests.contract.recorder import Program, run

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

Run = Callable[[str], Program]
STACKS = ["dev", "prod", "widest"]


def check(program: Program) -> int:
    """How many objects are valid; the first that is not raises, with its name and the reason."""
    checked = 0
    for document in manifests(program):
        if group_of(document) not in CORE:
            continue
        version = kubernetes_validate.validate(document, versions.KUBERNETES, strict=True)
        assert version == versions.KUBERNETES
        checked += 1
    return checked


@pytest.mark.parametrize("stack", STACKS)
def test_every_object_is_valid(up: Run, stack: str) -> None:
    assert check(up(stack)) > 15


@pytest.mark.parametrize("version", versions.KUBERNETES_SUPPORTED)
def test_the_schemas_of_every_version_that_can_be_chosen_are_there(version: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": []}}
    assert kubernetes_validate.validate(pod, version, strict=True) == version


def test_on_fargate_too() -> None:
    changes = {
        "trainserve:workload": {"compute": "fargate"},
        "trainserve:security": {"networkPolicies": False, "subjectKey": False},
    }
    assert check(run("dev", like="dev", changes=changes)) > 8


def test_a_wrong_object_would_be_noticed(up: Run) -> None:
    (deployment,) = up("dev").of("kubernetes:apps/v1:Deployment")
    document = manifest(deployment.type, deployment.inputs)
    document["spec"] = {**document["spec"], "replicaz": 2}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, versions.KUBERNETES, strict=True)


def test_quantities_and_durations_are_written_as_text(up: Run) -> None:
    for quota in up("prod").of("kubernetes:core/v1:ResourceQuota"):
        assert all(isinstance(value, str) for value in quota.inputs["spec"]["hard"].values())
