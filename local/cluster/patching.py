"""JSON merge patch and the strategic merge patch of built-in kinds."""

from __future__ import annotations

from typing import Any

# The lists that a strategic merge patch merges item by item, and the field that names an item.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "conditions": "type",
}
# A Service's ports are named by `port`; a container's by `containerPort`.
_PORT_KEYS = ("containerPort", "port")
_DIRECTIVES = ("$setElementOrder/", "$retainKeys", "$deleteFromPrimitiveList/")


def merge(original: Any, patch: Any) -> Any:  # noqa: ANN401  # JSON
    """RFC 7396: objects merge, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result: dict[str, Any] = dict(original) if isinstance(original, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic_merge(original: Any, patch: Any) -> Any:  # noqa: ANN401  # JSON
    """As `merge`, but named lists (containers, env, ports …) merge item by item.

    `$patch: delete` and `$patch: replace` are honoured; hints about order are not needed and skipped.
    """
    if not isinstance(patch, dict):
        return patch
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    result: dict[str, Any] = dict(original) if isinstance(original, dict) else {}
    for key, value in patch.items():
        if key.startswith(_DIRECTIVES):
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, list) and (name := _merge_key(key, value)):
            result[key] = _merge_list(result.get(key) or [], value, name)
        else:
            result[key] = strategic_merge(result.get(key), value)
    return result


def _merge_key(field: str, items: list[Any]) -> str | None:
    if field == "ports":
        return next((key for key in _PORT_KEYS if items and key in items[0]), None)
    return _MERGE_KEYS.get(field)


def _merge_list(original: list[Any], patch: list[Any], key: str) -> list[Any]:
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    result = list(original)
    for item in patch:
        place = next((i for i, old in enumerate(result) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(strategic_merge({}, item))
        else:
            result[place] = strategic_merge(result[place], item)
    return result
