"""Pulumi's inputs as boto3 requests, guided by botocore's own description of each operation."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.errors import LocalError
from local.wire import Archive, Asset

if TYPE_CHECKING:
    from collections.abc import Collection

_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_NOT_REALISED = frozenset({"tags", "tagsAll", "region", "__defaults"})


def request(
    client: Any,  # noqa: ANN401  # a boto3 client
    operation: str,
    inputs: Mapping[str, Any],
    *,
    rename: Mapping[str, str] | None = None,
    leave_out: Collection[str] = (),
) -> dict[str, Any]:
    """`inputs` as the parameters of a client's operation, such as `create_training_job`.

    Names are matched without regard to case and to a plural s; a single object is wrapped where the service
    wants a list, and the other way round; whole maps (variables, hyperparameters) keep their keys.

    Args:
        client: of the service.
        operation: in boto3's snake case.
        inputs: of the resource.
        rename: top-level inputs whose name the service spells otherwise.
        leave_out: top-level inputs that the emulator has no use for; tags always.

    Raises:
        LocalError: an input has no place in the operation.
    """
    api_name = client.meta.method_to_api_mapping[operation]
    shape = client.meta.service_model.operation_model(api_name).input_shape
    names = rename or {}
    wanted = {
        names.get(key, key): value
        for key, value in inputs.items()
        if key not in _NOT_REALISED and key not in leave_out
    }
    return _structure(shape, wanted, api_name)


def _structure(shape: Any, value: Mapping[str, Any], path: str) -> dict[str, Any]:  # noqa: ANN401
    members = {name.lower(): name for name in shape.members}
    result: dict[str, Any] = {}
    for key, item in value.items():
        low = key.lower()
        name = members.get(low) or members.get(low.removesuffix("s")) or members.get(f"{low}s")
        if name is None:
            raise LocalError(f"{path} has no place for the input {key!r}")
        if item is not None:
            result[name] = _value(shape.members[name], item, f"{path}.{name}")
    return result


def _value(shape: Any, value: Any, path: str) -> Any:  # noqa: ANN401
    kind = shape.type_name
    if kind == "structure":
        if isinstance(value, Sequence) and len(value) == 1:
            value = value[0]
        if not isinstance(value, Mapping):
            raise LocalError(f"{path}: want an object, got {value!r}")
        return _structure(shape, value, path)
    if kind == "list":
        items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        return [_value(shape.member, item, path) for item in items]
    if kind == "map":
        return {key: _value(shape.value, item, path) for key, item in value.items()}
    return _scalar(kind, value)


def _scalar(kind: str, value: Any) -> Any:  # noqa: ANN401
    match kind:
        case "string":
            return (
                value
                if isinstance(value, str)
                else str(value).lower()
                if value in (True, False)
                else str(value)
            )
        case "integer" | "long":
            return int(value)
        case "float" | "double":
            return float(value)
        case "boolean":
            return value if isinstance(value, bool) else str(value).lower() == "true"
        case _:
            return value


def asset_bytes(asset: Asset | Archive) -> bytes:
    """The content of an asset; an archive becomes a zip file, the same bytes for the same files."""
    if isinstance(asset, Asset):
        if asset.text is not None:
            return asset.text.encode()
        if asset.path is not None:
            return Path(asset.path).read_bytes()
        raise LocalError(f"assets by URI are not fetched here: {asset.uri}")
    if asset.path is not None and Path(asset.path).is_file():
        return Path(asset.path).read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(_members(asset).items()):
            info = zipfile.ZipInfo(name, _FIXED_TIME)
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def object_bytes(inputs: Mapping[str, Any]) -> bytes:
    """What a bucket object holds: its `source`, `content` or `contentBase64`."""
    if (source := inputs.get("source")) is not None:
        return asset_bytes(source)
    if (encoded := inputs.get("contentBase64")) is not None:
        return base64.b64decode(encoded)
    return str(inputs.get("content", "")).encode()


def _members(archive: Archive, prefix: str = "") -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    if archive.path is not None:
        root = Path(archive.path)
        for path in root.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                members[f"{prefix}{path.relative_to(root).as_posix()}"] = path.read_bytes()
    for name, item in (archive.assets or {}).items():
        if isinstance(item, Asset):
            members[f"{prefix}{name}"] = asset_bytes(item)
        else:
            members |= _members(item, f"{prefix}{name}/")
    return members
