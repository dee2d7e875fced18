"""What a user may do: RoleBindings and ClusterRoleBindings to the rules of Roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.cluster.auth import MASTERS
from local.cluster.errors import ApiError
from local.cluster.routes import Resource, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.cluster.auth import User
    from local.cluster.store import Store

_GROUP = "rbac.authorization.k8s.io"
_ROLES = Resource(_GROUP, "v1", "roles")
_CLUSTER_ROLES = Resource(_GROUP, "v1", "clusterroles")
_ROLE_BINDINGS = Resource(_GROUP, "v1", "rolebindings")
_CLUSTER_ROLE_BINDINGS = Resource(_GROUP, "v1", "clusterrolebindings")


def authorise(store: Store, user: User, verb: str, target: Target) -> None:
    """Return if a rule allows it; otherwise 403 with Kubernetes' sentence."""
    if MASTERS in user.groups:
        return
    if any(_allows(rule, verb, target) for rule in _rules(store, user, target.namespace)):
        return
    raise ApiError(
        403,
        _sentence(user, verb, target),
        details={"name": target.name or "", "group": target.resource.group, "kind": target.resource.plural},
    )


def _rules(store: Store, user: User, namespace: str | None) -> Iterator[dict[str, Any]]:
    bindings = store.list(_CLUSTER_ROLE_BINDINGS)
    if namespace is not None:
        bindings += store.list(_ROLE_BINDINGS, namespace)
    for binding in bindings:
        if any(_is_subject(subject, user) for subject in binding.get("subjects") or ()):
            reference = binding.get("roleRef") or {}
            role = _role(store, reference, (binding["metadata"]).get("namespace"))
            yield from (role or {}).get("rules") or ()


def _is_subject(subject: dict[str, Any], user: User) -> bool:
    kind, name = subject.get("kind"), subject.get("name")
    return (kind == "Group" and name in user.groups) or (kind == "User" and name == user.name)


def _role(store: Store, reference: dict[str, Any], namespace: str | None) -> dict[str, Any] | None:
    name = str(reference.get("name"))
    if reference.get("kind") == "ClusterRole":
        return store.find(Target(_CLUSTER_ROLES, None, name))
    return store.find(Target(_ROLES, namespace, name))


def _allows(rule: dict[str, Any], verb: str, target: Target) -> bool:
    names = rule.get("resourceNames") or ()
    return (
        _has(rule.get("verbs"), verb)
        and _has(rule.get("apiGroups"), target.resource.group)
        and _has_resource(rule.get("resources"), target)
        # A list or create names no object, so a rule for named objects does not cover it.
        and (not names or target.name in names)
    )


def _has(values: list[str] | None, value: str) -> bool:
    return bool(values) and ("*" in values or value in values)


def _has_resource(resources: list[str] | None, target: Target) -> bool:
    plural, subresource = target.resource.plural, target.subresource
    if subresource is None:
        return _has(resources, plural)
    return _has(resources, f"{plural}/{subresource}") or f"*/{subresource}" in (resources or ())


def _sentence(user: User, verb: str, target: Target) -> str:
    name = f' "{target.name}"' if target.name else ""
    resource = target.resource.plural + (f"/{target.subresource}" if target.subresource else "")
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    return (
        f'{target.resource.qualified}{name} is forbidden: User "{user.name}" cannot {verb} '
        f'resource "{resource}" in API group "{target.resource.group}" {where}'
    )
