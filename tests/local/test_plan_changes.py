"""What differs between two snapshots, and what is allowed more."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.plan import access, changes
from local.plan.changes import ABSENT, Change, Changes, differences
from policy.model import Finding

sys.path.insert(0, str(Path(__file__).parent))
from plan_fixture import allow, item, plan, role_policy, stack

if TYPE_CHECKING:
    from local.plan.snapshot import Item, Snapshot

BUCKET = "aws:s3/bucket:Bucket"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def compared(before: Snapshot, after: Snapshot) -> Changes:
    found = plan(after, before).changes
    assert found is not None
    return found


@given(json_values)
def test_nothing_differs_from_itself(value: Any) -> None:
    assert list(differences(value, value)) == []


@given(json_values, json_values)
def test_values_differ_somewhere_or_are_equal(one: Any, other: Any) -> None:
    assert bool(list(differences(one, other))) == (one != other)


def test_paths_lead_into_lists_mappings_and_json_texts() -> None:
    before = {"a": [1, {"b": 2}], "policy": '{"x": [1, 2]}', "gone": 1}
    after = {"a": [1, {"b": 3}], "policy": '{"x": [1]}', "new": 2}
    assert [(d.path, d.before, d.after) for d in differences(before, after)] == [
        ("a.1.b", 2, 3),
        ("policy.x.1", 2, ABSENT),
        ("gone", 1, ABSENT),
        ("new", ABSENT, 2),
    ]


def test_resources_are_added_removed_and_changed() -> None:
    before = stack(item(BUCKET, "a", {"x": 1}), item(BUCKET, "b"))
    after = stack(item(BUCKET, "a", {"x": 2}, protect=True), item(BUCKET, "c"))
    found = compared(before, after)
    assert [(c.action, c.name, [d.path for d in c.differences]) for c in found.resources] == [
        ("changed", "a", ["x", "(protect)"]),
        ("removed", "b", []),
        ("added", "c", []),
    ]
    assert (found.count("added"), found.count("changed"), found.count("removed")) == (1, 1, 1)


def test_a_dropped_dependency_is_a_change() -> None:
    other = item(BUCKET, "other")
    before, after = item(BUCKET, "a", dependencies=(other.urn,)), item(BUCKET, "a")
    (change,) = compared(stack(other, before), stack(other, after)).resources
    assert [d.path for d in change.differences] == ["(dependencies).Bucket other"]


def renamed(one: Item, name: str) -> Item:
    return replace(one, urn=one.urn.replace(":dev::", f":{name}::"))


def test_two_stacks_are_the_same_but_for_their_names() -> None:
    dev = item(BUCKET, "a", {"bucket": "data-dev", "tags": {"Environment": "dev"}, "note": "developer"})
    prod = renamed(
        item(BUCKET, "a", {"bucket": "data-prod", "tags": {"Environment": "prod"}, "note": "developer"}),
        "prod",
    )
    assert compared(stack(dev), stack(prod, name="prod")).resources == []


def test_settings_cost_and_findings_that_differ() -> None:
    finding = Finding(rule="r", level="mandatory", urn="", name="n", message="m", advice="a")
    before = stack(settings={"t:a": {"b": 1}}, findings=(finding,))
    after = stack(item("aws:kms/key:Key", "k"), settings={"t:a": {"b": 2}})
    found = compared(before, after)
    assert [(d.path, d.before, d.after) for d in found.settings] == [("t:a.b", 1, 2)]
    assert found.cost == {"part": (0.0, 1.0)}
    assert (found.monthly_before, found.monthly_after) == (0.0, 1.0)
    assert found.gone_findings == [finding]
    assert found.new_findings == []


def widened(before: Item, after: Item) -> list[str]:
    return [grant.sentence() for grant in access.widened(stack(before), stack(after))]


TAGGED = {"Condition": {"StringEquals": {"aws:ResourceTag/x": "y"}}}


@pytest.mark.parametrize(
    ("before", "after", "more"),
    [
        ([allow("s3:GetObject", "a")], [allow("s3:GetObject", "a")], []),
        ([allow(["s3:GetObject", "s3:PutObject"], "a")], [allow("s3:GetObject", "a")], []),
        (
            [allow("s3:GetObject", "a")],
            [allow(["s3:GetObject", "s3:PutObject"], "a")],
            ["p: s3:PutObject on a"],
        ),
        ([allow("s3:GetObject", "a")], [allow("s3:GetObject", ["a", "b"])], ["p: s3:GetObject on b"]),
        ([allow("s3:Get*", "*")], [allow("s3:GetObject", "b")], []),
        ([allow("s3:GetObject", "b/1")], [allow("s3:GetObject", "b/*")], ["p: s3:GetObject on b/*"]),
        ([allow("s3:GetObject", "a", **TAGGED)], [allow("s3:GetObject", "a")], ["p: s3:GetObject on a"]),
        ([allow("s3:GetObject", "a")], [allow("s3:GetObject", "a", **TAGGED)], []),
        (
            [{"Effect": "Deny", "Action": "s3:*", "Resource": "a"}],
            [],
            ["p: no longer denies s3:* on a"],
        ),
        ([], [{"Effect": "Deny", "Action": "s3:*", "Resource": "a"}], []),
        ([], [{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], ["p: anything but iam:* on *"]),
        (
            [],
            [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": ["x", "y"]}}],
            ["p: sts:AssumeRole by x", "p: sts:AssumeRole by y"],
        ),
    ],
)
def test_what_a_policy_allows_more(before: list[Any], after: list[Any], more: list[str]) -> None:
    assert widened(role_policy("p", *before), role_policy("p", *after)) == more


def test_kubernetes_roles_and_attachments_count_too() -> None:
    kind = "kubernetes:rbac.authorization.k8s.io/v1:Role"
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    before, after = (
        item(kind, "r", {"rules": [rule]}),
        item(kind, "r", {"rules": [{**rule, "verbs": ["get", "delete"]}]}),
    )
    assert widened(before, after) == ["r: delete on pods/*"]
    attachment = item(
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment", "a", {"policyArn": "arn:aws:iam::aws:policy/X"}
    )
    assert widened(before, attachment) == ["a: all of X"]


def test_changes_as_json() -> None:
    before = stack(role_policy("p"))
    document = changes.to_json(compared(before, stack(role_policy("p", allow("s3:Get", "a")))))
    assert document["changed"] == 1
    assert document["iam_widening"][0]["sentence"] == "p: s3:Get on a"
    assert document["resources"][0]["differences"][0]["path"] == "policy.Statement.0"


def test_a_change_without_differences_is_whole() -> None:
    assert Change(action="added", type="t", name="n", component="c").differences == ()
