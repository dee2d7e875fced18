"""The objects: resource versions, generations, and the errors of a concurrent writer."""

from __future__ import annotations

import copy
import itertools
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from local.cluster.errors import ApiError, invalid, not_found
from local.cluster.routes import KINDS, Resource, Target

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]
Key = tuple[str, str, str, str]
"""Group, plural, namespace ("" if cluster-scoped), name."""

_NAMESPACES = Resource("", "v1", "namespaces")
_INITIAL_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
_SERVER_FIELDS = ("uid", "creationTimestamp", "resourceVersion", "generation", "namespace", "name")


def timestamp(at: float | None = None) -> str:
    """A time (seconds since the epoch; now if None) as Kubernetes writes it."""
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """Objects of any kind. Not for several threads: the API's loop owns it."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._versions = itertools.count(1)
        self._listeners: list[Callable[[], None]] = []
        for name in _INITIAL_NAMESPACES:
            self.create(Target(_NAMESPACES, None), {"metadata": {"name": name}})

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change but those of a status."""
        self._listeners.append(listener)

    def create(self, target: Target, body: Object) -> Object:
        """Store a new object; 409 if it exists, 404 if its namespace does not."""
        name = target.name or (body.get("metadata") or {}).get("name")
        if not isinstance(name, str) or not name:
            raise invalid(KINDS.get(target.resource.plural, "object"), "", "metadata.name: Required value")
        key = _key(target, name)
        if key in self._objects:
            raise ApiError(
                409, f'{target.resource.qualified} "{name}" already exists', reason="AlreadyExists"
            )
        if target.namespace is not None:
            self.get(Target(_NAMESPACES, None, target.namespace))
        stored = copy.deepcopy(body)
        stored["apiVersion"] = target.resource.api_version
        stored.setdefault("kind", KINDS.get(target.resource.plural, target.resource.plural))
        metadata = stored.setdefault("metadata", {})
        metadata |= {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": timestamp()}
        if target.namespace is not None:
            metadata["namespace"] = target.namespace
        if "spec" in stored:
            metadata["generation"] = 1
        return self._put(key, stored)

    def get(self, target: Target) -> Object:
        """A copy of one object; 404 if there is none."""
        return copy.deepcopy(self._existing(target))

    def find(self, target: Target) -> Object | None:
        """As `get`, but None if there is none."""
        found = self._objects.get(_key(target, target.name or ""))
        return None if found is None else copy.deepcopy(found)

    def list(self, resource: Resource, namespace: str | None = None) -> list[Object]:
        """Copies of the objects of a kind, in the order of their making; of all namespaces if None."""
        return [
            copy.deepcopy(stored)
            for (group, plural, where, _), stored in self._objects.items()
            if (group, plural) == (resource.group, resource.plural) and namespace in {None, where}
        ]

    def replace(self, target: Target, body: Object) -> Object:
        """Store a changed object; 404 if there is none, 409 if `body` is based on an older version.

        The generation rises when anything but metadata and status changes. The status is kept.
        """
        old = self._existing(target)
        metadata = dict(body.get("metadata") or {})
        based_on = metadata.get("resourceVersion")
        if based_on and based_on != old["metadata"]["resourceVersion"]:
            raise ApiError(
                409,
                f'Operation cannot be fulfilled on {target.resource.qualified} "{target.name}": the object '
                "has been modified; please apply your changes to the latest version and try again",
            )
        metadata |= {field: old["metadata"][field] for field in _SERVER_FIELDS if field in old["metadata"]}
        changed = copy.deepcopy(body) | {
            "metadata": metadata,
            "apiVersion": target.resource.api_version,
            "kind": old["kind"],
        }
        changed.pop("status", None)
        if "status" in old:
            changed["status"] = old["status"]
        if changed == old:
            return copy.deepcopy(old)
        if "generation" in metadata and _desired(changed) != _desired(old):
            metadata["generation"] += 1
        return self._put(_key(target, old["metadata"]["name"]), changed)

    def set_status(self, target: Target, status: Object, annotations: dict[str, str] | None = None) -> None:
        """Store what a controller computed, if it differs and the object still exists."""
        old = self._objects.get(_key(target, target.name or ""))
        if old is None:
            return
        metadata = dict(old["metadata"])
        if annotations:
            metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
        changed = old | {"status": copy.deepcopy(status), "metadata": metadata}
        if changed != old:
            self._put(_key(target, target.name or ""), changed, tell=False)

    def delete(self, target: Target) -> Object:
        """Remove an object, and all that a removed namespace holds; 404 if there is none."""
        old = self._existing(target)
        del self._objects[_key(target, target.name or "")]
        if target.resource.plural == "namespaces":
            for key in [key for key in self._objects if key[2] == target.name]:
                del self._objects[key]
        self._tell()
        return old

    def _existing(self, target: Target) -> Object:
        name = target.name or ""
        found = self._objects.get(_key(target, name))
        if found is None:
            raise not_found(target.resource.qualified, name)
        return found

    def _put(self, key: Key, stored: Object, *, tell: bool = True) -> Object:
        stored["metadata"]["resourceVersion"] = str(next(self._versions))
        self._objects[key] = stored
        if tell:
            self._tell()
        return copy.deepcopy(stored)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _key(target: Target, name: str) -> Key:
    return (target.resource.group, target.resource.plural, target.namespace or "", name)


def _desired(stored: Object) -> Object:
    return {key: value for key, value in stored.items() if key not in {"metadata", "status"}}
