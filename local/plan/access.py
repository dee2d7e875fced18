"""What identities may do, as comparable grants: what one version allows that the other does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from policy.model import listed, statements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.plan.snapshot import Item, Snapshot

_DOCUMENTS: Final = ("policy", "assumeRolePolicy", "keyPolicy", "accessPolicy")
_RBAC: Final = "kubernetes:rbac.authorization.k8s.io/v1:"


@dataclass(frozen=True, order=True, kw_only=True)
class Grant:
    """One action on one resource, by whom it may be done, and under which condition."""

    holder: str
    """The key of the resource that holds the policy."""
    name: str
    principal: str
    action: str
    resource: str
    condition: str
    denied: bool = False

    def covers(self, other: Grant) -> bool:
        """Whether `other` allows nothing that this one does not."""
        return (
            self.holder == other.holder
            and self.denied == other.denied
            and self.condition in {"", other.condition}
            and fnmatchcase(other.principal, self.principal)
            and fnmatchcase(other.action.lower(), self.action.lower())
            and _matches(self.resource, other.resource)
        )

    def sentence(self) -> str:
        """The grant in words."""
        what = f"{self.action} on {self.resource}" if self.resource else self.action
        who = f" by {self.principal}" if self.principal else ""
        when = f" if {self.condition}" if self.condition else ""
        return f"{self.name}: {'no longer denies ' if self.denied else ''}{what}{who}{when}"


def widened(before: Snapshot, after: Snapshot) -> list[Grant]:
    """What `after` allows and `before` did not: new grants, and denials that are gone."""
    old, new = list(grants(before)), list(grants(after))
    allowed: dict[str, list[Grant]] = {}
    for grant in old:
        allowed.setdefault(grant.holder, []).append(grant)
    found = {
        grant
        for grant in new
        if not grant.denied and not any(other.covers(grant) for other in allowed.get(grant.holder, []))
    }
    holders = {item.key for item in after.items}
    still = [grant for grant in new if grant.denied]
    found |= {
        grant
        for grant in old
        if grant.denied and grant.holder in holders and not any(other.covers(grant) for other in still)
    }
    return sorted(found)


def grants(snapshot: Snapshot) -> Iterator[Grant]:
    """Every grant of the stack's policies, trust policies, attachments and Kubernetes roles."""
    for item in snapshot.resources():
        for key in _DOCUMENTS:
            yield from _document(item, item.inputs.get(key))
        for inline in listed(item.inputs.get("inlinePolicies")):
            if isinstance(inline, Mapping):
                yield from _document(item, inline.get("policy"))
        for arn in [item.inputs.get("policyArn"), *listed(item.inputs.get("managedPolicyArns"))]:
            if isinstance(arn, str):
                yield _grant(item, action=f"all of {arn.rsplit('/', 1)[-1]}")
        if item.type.startswith(_RBAC):
            yield from _kubernetes(item)


def _document(item: Item, document: object) -> Iterator[Grant]:
    for statement in statements(document):
        principal: Any = statement.get("Principal") or {}
        who = (
            ["*"]
            if principal == "*"
            else [
                str(one)
                for value in (principal.values() if isinstance(principal, Mapping) else [])
                for one in listed(value)
            ]
        )
        condition: Any = statement.get("Condition")
        for one in who or [""]:
            for action in _named(statement, "Action"):
                for resource in _named(statement, "Resource") or [""]:
                    yield _grant(
                        item,
                        principal=one,
                        action=action,
                        resource=resource,
                        condition=json.dumps(condition, sort_keys=True) if condition else "",
                        denied=statement.get("Effect") == "Deny",
                    )


def _named(statement: Mapping[str, Any], key: str) -> list[str]:
    found = [str(value) for value in listed(statement.get(key))]
    return found + [f"anything but {value}" for value in listed(statement.get(f"Not{key}"))]


def _kubernetes(item: Item) -> Iterator[Grant]:
    for rule in listed(item.inputs.get("rules")):
        for verb in listed(rule.get("verbs")):
            for resource in listed(rule.get("resources")):
                names = listed(rule.get("resourceNames")) or ["*"]
                for name in names:
                    yield _grant(item, action=str(verb), resource=f"{resource}/{name}")
    reference: Any = item.inputs.get("roleRef")
    if isinstance(reference, Mapping):
        for subject in listed(item.inputs.get("subjects")):
            yield _grant(
                item,
                principal=f"{subject.get('kind')} {subject.get('name')}",
                action=f"{reference.get('kind')} {reference.get('name')}",
            )


def _grant(  # noqa: PLR0913  # a grant has that many sides
    item: Item,
    *,
    action: str,
    principal: str = "",
    resource: str = "",
    condition: str = "",
    denied: bool = False,
) -> Grant:
    return Grant(
        holder=item.key,
        name=item.name,
        principal=principal,
        action=action,
        resource=resource,
        condition=condition,
        denied=denied,
    )


def _matches(pattern: str, resource: str) -> bool:
    """IAM's wildcards; brackets are letters here, not sets."""
    return fnmatchcase(resource, pattern.replace("[", "[[]"))
