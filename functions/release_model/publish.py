"""Steps that make a release public: its image in the registry, and its model package."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from bundle import format as bundle_format
from common import names
from common.aws import client
from common.errors import NotReady
from common.registry import Registry, ecr_authorization
from release_model.bundle_steps import fetch
from release_model.image import ImageError, append, build_layer, is_index, pick_platform
from release_model.record import Done, Record

_APPROVED, _REJECTED, _UNDECIDED = "Approved", "Rejected", "PendingManualApproval"
_METADATA_CHARACTERS, _DESCRIPTION_CHARACTERS = 256, 1024
_TOKEN_CHARACTERS = 36
_LOOK_BACK = 20
# What a model package says, and what the server accepts.
_TYPES = ["text/csv", "application/json"]


def image(record: Record) -> Done:
    """Push the server's image with the bundle as one more layer, and tag it `release-<model>-<n>`."""
    uri = record.config.repository_uri
    registry = Registry(uri, lambda: ecr_authorization(client("ecr"), uri))
    if "image" not in record.data:
        server_tag, base = _server(record, registry)
        # A server that is built meanwhile must not change what a repeated step pushes.
        record.note(image={"server_tag": server_tag, "base": base})
    chosen = record.data["image"]
    try:
        digest = _push(record, registry, chosen["base"])
    except (ImageError, bundle_format.BundleError) as error:
        return Done("register", {"refused": f"image: {error}"})
    changes = {"image": {**chosen, "digest": digest, "uri": f"{uri}@{digest}"}}
    return Done("register", changes)


def _server(record: Record, registry: Registry) -> tuple[str, str]:
    """Return the tag and digest of the server that the release runs on."""
    wanted = record.config.server_tag
    found = registry.manifest(wanted)
    if found is not None:
        return wanted, found[2]
    # While a new server is built, releases stay on the one in service; its build releases once more.
    current = record.load(names.CHAMPION).data.get("server_tag")
    found = registry.manifest(current) if current else None
    if current is None or found is None:
        raise NotReady(f"the server's image {record.config.repository_uri}:{wanted} is not built yet")
    return current, found[2]


def _push(record: Record, registry: Registry, base: str) -> str:
    found = registry.manifest(base)
    if found and is_index(found[1]):
        found = registry.manifest(pick_platform(found[0], record.config.architecture))
    if found is None:
        raise ImageError(f"{base} is no longer in the registry")
    manifest, media_type, _ = found
    with tempfile.TemporaryDirectory() as scratch:
        folder, packed = Path(scratch) / "bundle", Path(scratch) / "layer.tar.gz"
        fetch(record, folder, record.data["bundle"]["object_version"])
        digest = bundle_format.digest(folder)
        if digest != record.data["bundle"]["digest"]:
            raise ImageError(f"the bundle changed since it was verified: now {digest}")
        layer = build_layer(folder, packed)
        labels = {
            "trainserve.model": record.model,
            "trainserve.version": record.data["bundle"]["version"],
            "trainserve.bundle-digest": digest,
        }
        new = append(manifest, media_type, registry.config(manifest["config"]["digest"]), layer, labels)
        registry.push_blob(layer.digest, packed)
    registry.push_blob(new.config_digest, new.config)
    return registry.push_manifest(f"release-{record.model}-{record.number}", new.manifest, new.media_type)


def register(record: Record) -> Done:
    """Make the model package: Approved with the image's digest, or Rejected with the reason."""
    rejected = _objection(record)
    next_step = "finish" if rejected else "rollout"
    arn = _registered(record) if record.data.get("registering") else None
    if arn is None:
        # Whoever repeats this step looks first for the package that a crash left behind.
        record.note(registering=True)
        arn = record.services.sagemaker.create_model_package(**_package(record))["ModelPackageArn"]
    verdict: dict[str, Any] = record.data.get("verdict") or {}
    reason = rejected or verdict.get("reason") or "the model in service, on a new server"
    _approve(record, arn, _REJECTED if rejected else _APPROVED, reason)
    return Done(next_step, {"package": {"arn": arn, "approved": rejected is None}})


def withdraw(record: Record, reason: str) -> None:
    """Mark an approved package as rejected: its release did not end in service."""
    package = record.data.get("package")
    if package and package["approved"]:
        _approve(record, package["arn"], _REJECTED, reason)


def _approve(record: Record, arn: str, status: str, reason: str) -> None:
    record.services.sagemaker.update_model_package(
        ModelPackageArn=arn,
        ModelApprovalStatus=status,
        # One line: SageMaker's pattern for it has no line breaks.
        ApprovalDescription=" ".join(reason.split())[:_DESCRIPTION_CHARACTERS],
        CustomerMetadataProperties=_metadata(record),
    )


def _objection(record: Record) -> str | None:
    if record.data.get("refused"):
        return record.data["refused"]
    verdict = record.data.get("verdict")
    return verdict["reason"] if verdict and not verdict["accepted"] else None


def _package(record: Record) -> dict[str, Any]:
    config = record.config
    where = record.data.get("image", {}).get("uri") or f"{config.repository_uri}:{config.server_tag}"
    return {
        "ModelPackageGroupName": config.package_group,
        "ModelPackageDescription": f"{record.model}, release {record.number}",
        # Only an update can give a reason.
        "ModelApprovalStatus": _UNDECIDED,
        "InferenceSpecification": {
            "Containers": [{"Image": where, "ModelDataUrl": record.data["source"]["uri"]}],
            "SupportedContentTypes": _TYPES,
            "SupportedResponseMIMETypes": _TYPES,
        },
        "CustomerMetadataProperties": _metadata(record),
        "ClientToken": _token(record),
    }


def _token(record: Record) -> str:
    """Return what makes repeated calls for one release one call, whatever the length of its names."""
    parts = (
        record.services.environment.stack,
        record.model,
        str(record.number),
        record.data["bundle"]["digest"],
    )
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:_TOKEN_CHARACTERS]


def _metadata(record: Record) -> dict[str, str]:
    source, bundle = record.data["source"], record.data["bundle"]
    values = {
        "stack": record.services.environment.stack,
        "model": record.model,
        "release": str(record.number),
        "job": record.handle.job,
        "version": bundle["version"],
        "bundle_digest": bundle["digest"],
        "image_digest": record.data.get("image", {}).get("digest"),
        "dataset_hash": source.get("dataset_hash"),
        "manifest_uri": source.get("manifest_uri"),
    }
    return {key: str(value)[:_METADATA_CHARACTERS] for key, value in values.items() if value}


def _registered(record: Record) -> str | None:
    """Return this release's package, if an earlier run of the step made it and crashed."""
    sagemaker = record.services.sagemaker
    listed = sagemaker.list_model_packages(
        ModelPackageGroupName=record.config.package_group,
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=_LOOK_BACK,
    )["ModelPackageSummaryList"]
    for summary in listed:
        arn = summary["ModelPackageArn"]
        found = sagemaker.describe_model_package(ModelPackageName=arn).get("CustomerMetadataProperties") or {}
        same = {
            "stack": record.services.environment.stack,
            "release": str(record.number),
            "model": record.model,
        }
        if all(found.get(key) == value for key, value in same.items()):
            return arn
    return None
