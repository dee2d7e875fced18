"""Every custom resource of the program is valid for its CRD, in the version that the program pins.

Checked as by an API server: unknown fields are errors, defaults are filled in, and the schema's own rules
(CEL) hold. Not checked: formats, and rules about changes of an object that is already there.
"""

import copy
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest

from tests.contract import go_modules
from tests.contract.crds import Schema, problems, schemas
from tests.contract.manifests import CORE, group_of, manifests
from tests.contract.recorder import Program

Run = Callable[[str], Program]
STACKS = ["dev", "prod", "widest"]
CRDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    # API group → the module that its CRDs come in, and the files in it.
    "karpenter.sh": (go_modules.KARPENTER, ("pkg/apis/crds/karpenter.sh_nodepools.yaml",)),
    "karpenter.k8s.aws": (go_modules.KARPENTER, ("pkg/apis/crds/karpenter.k8s.aws_ec2nodeclasses.yaml",)),
    "elbv2.k8s.aws": (
        go_modules.LOAD_BALANCER_CONTROLLER,
        ("helm/aws-load-balancer-controller/crds/crds.yaml",),
    ),
    "monitoring.coreos.com": (
        go_modules.PROMETHEUS_OPERATOR,
        tuple(
            f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
            for kind in ("servicemonitors", "prometheusrules")
        ),
    ),
    "secrets-store.csi.x-k8s.io": (
        go_modules.SECRETS_STORE,
        ("deploy/secrets-store.csi.x-k8s.io_secretproviderclasses.yaml",),
    ),
}


@cache
def known(group: str) -> Mapping[tuple[str, str], Schema]:
    module, files = CRDS[group]
    return schemas(*(go_modules.folder(module) / file for file in files))


def custom(program: Program) -> list[dict[str, Any]]:
    return [document for document in manifests(program) if group_of(document) not in CORE]


@pytest.mark.parametrize("stack", STACKS)
def test_every_custom_resource_has_a_crd_here(up: Run, stack: str) -> None:
    assert {group_of(document) for document in custom(up(stack))} == CRDS.keys()


@pytest.mark.parametrize("group", CRDS)
@pytest.mark.parametrize("stack", STACKS)
def test_every_custom_resource_is_valid(up: Run, stack: str, group: str) -> None:
    documents = [document for document in custom(up(stack)) if group_of(document) == group]
    assert documents
    for document in documents:
        schema = known(group)[document["apiVersion"], document["kind"]]
        assert problems(schema, document) == [], document["metadata"]["name"]


def node_pool(up: Run) -> dict[str, Any]:
    (found,) = [
        document
        for document in custom(up("widest"))
        if document["kind"] == "NodePool" and document["metadata"]["name"] == "slices"
    ]
    return copy.deepcopy(found)


def refusal(document: Mapping[str, Any]) -> str:
    return "\n".join(problems(known(group_of(document))[document["apiVersion"], document["kind"]], document))


def test_a_misspelt_field_would_be_noticed(up: Run) -> None:
    pool = node_pool(up)
    pool["spec"]["disruption"]["consolidateAfterr"] = "30s"
    assert "consolidateAfterr" in refusal(pool)


def test_a_missing_field_and_a_wrong_value_would_be_noticed(up: Run) -> None:
    pool = node_pool(up)
    del pool["spec"]["template"]["spec"]["nodeClassRef"]["group"]
    pool["spec"]["disruption"]["consolidateAfter"] = "soon"
    assert "'group' is a required property" in refusal(pool)
    assert "soon" in refusal(pool)


def test_a_broken_rule_would_be_noticed(up: Run) -> None:
    pool = node_pool(up)
    pool["spec"]["template"]["spec"]["requirements"][0]["values"] = []
    pool["spec"]["template"]["spec"]["requirements"].append(
        {"key": "karpenter.k8s.aws/instance-colour", "operator": "In", "values": ["red"]}
    )
    assert 'label domain "karpenter.k8s.aws" is restricted' in refusal(pool)
    assert "operator 'In' must have a value defined" in refusal(pool)
