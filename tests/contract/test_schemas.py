"""Every Kubernetes object of the program is valid for the version of Kubernetes that it pins."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pulumi.runtime import rpc

from components import versions
from tests.contract.recorder import Program, run

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

Run = Callable[[str], Program]
STACKS = ["dev", "prod"]
CORE = {
    "admissionregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "core",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
}
"""API groups that Kubernetes itself brings; the others' kinds come from their CRDs."""


def plain(value: Any) -> Any:
    """A value without the marks of what is secret."""
    if isinstance(value, Mapping):
        if rpc._special_sig_key in value:
            return plain(value["value"])
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def manifest(resource_type: str, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The object as it is sent, or None for what is no object of Kubernetes itself."""
    group, _, kind = resource_type.removeprefix("kubernetes:").rpartition(":")
    name, _, version = group.rpartition("/")
    if name not in CORE:
        return None
    return {**plain(inputs), "apiVersion": version if name == "core" else group, "kind": kind}


def check(program: Program) -> int:
    """How many objects are valid; the first that is not raises, with its name and the reason."""
    checked = 0
    for resource in program.resources:
        if not resource.type.startswith("kubernetes:"):
            continue
        document = manifest(resource.type, resource.inputs)
        if document is None:
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
    assert document is not None
    document["spec"] = {**document["spec"], "replicaz": 2}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, versions.KUBERNETES, strict=True)


def test_quantities_and_durations_are_written_as_text(up: Run) -> None:
    for quota in up("prod").of("kubernetes:core/v1:ResourceQuota"):
        assert all(isinstance(value, str) for value in quota.inputs["spec"]["hard"].values())
