"""The server's image with a bundle as one more layer. Pure, but for reading and writing local files."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from bundle import format as bundle_format
from common.registry import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

_FOLDERS = ("opt", "opt/ml", "opt/ml/model")
_LAYERS = {
    OCI_MANIFEST: "application/vnd.oci.image.layer.v1.tar+gzip",
    DOCKER_MANIFEST: "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
# The server runs as another user than the one that owns the files.
_READABLE, _SEARCHABLE = 0o644, 0o755


class ImageError(Exception):
    """The server's image is not one that a bundle can be added to."""


@dataclass(frozen=True)
class Layer:
    """A layer's digest and size as stored, and the digest of its uncompressed archive."""

    digest: str
    size: int
    diff_id: str


@dataclass(frozen=True)
class Image:
    """A manifest, its media type and the configuration that it names."""

    manifest: bytes
    media_type: str
    config: bytes
    config_digest: str

    @property
    def digest(self) -> str:
        """What the image is deployed by."""
        return _sha256(self.manifest)


class _Hashing(io.RawIOBase):
    """Passes what is written on, and hashes it."""

    def __init__(self, target: IO[bytes]) -> None:
        super().__init__()
        self._target = target
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.sha256.update(data)
        self.size += len(data)
        return self._target.write(data)


def build_layer(folder: Path, target: Path) -> Layer:
    """Write a bundle as a layer that adds it at /opt/ml/model: the same bytes for the same bundle."""
    with target.open("wb") as file:
        stored = _Hashing(file)
        with gzip.GzipFile(filename="", fileobj=cast("IO[bytes]", stored), mode="wb", mtime=0) as packed:
            plain = _Hashing(cast("IO[bytes]", packed))
            with tarfile.open(
                fileobj=cast("IO[bytes]", plain), mode="w|", format=tarfile.USTAR_FORMAT
            ) as archive:
                _fill(archive, folder)
    return Layer(f"sha256:{stored.sha256.hexdigest()}", stored.size, f"sha256:{plain.sha256.hexdigest()}")


def pick_platform(index: Mapping[str, Any], architecture: str) -> str:
    """Return the digest of an index's image for Linux on this architecture."""
    platforms: list[str] = []
    for entry in index.get("manifests") or []:
        platform = entry.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == ("linux", architecture):
            return entry["digest"]
        platforms.append(f"{platform.get('os')}/{platform.get('architecture')}")
    raise ImageError(f"the server's image has no linux/{architecture}, only {', '.join(platforms)}")


def is_index(media_type: str) -> bool:
    """Say whether a manifest's media type is an index of several platforms."""
    return media_type in {OCI_INDEX, DOCKER_INDEX}


def append(
    manifest: Mapping[str, Any],
    media_type: str,
    config: Mapping[str, Any],
    layer: Layer,
    labels: Mapping[str, str],
) -> Image:
    """Return the image with one more layer and more labels; raises ImageError for odd base images."""
    if media_type not in _LAYERS:
        raise ImageError(f"the server's image has the unknown media type {media_type!r}")
    layers, rootfs = manifest.get("layers"), config.get("rootfs")
    if not isinstance(layers, list) or not isinstance(rootfs, dict):
        raise ImageError("the server's image has no layers")
    diff_ids: list[str] = [*rootfs.get("diff_ids", []), layer.diff_id]
    settings: dict[str, Any] = config.get("config") or {}
    history: list[Any] = config.get("history") or []
    changed = {
        **config,
        "config": {**settings, "Labels": {**(settings.get("Labels") or {}), **labels}},
        "rootfs": {**rootfs, "diff_ids": diff_ids},
        "history": [
            *history,
            {"created_by": "trainserve release", "comment": labels.get("trainserve.version")},
        ],
    }
    document = _json(changed)
    descriptor = {"mediaType": _LAYERS[media_type], "digest": layer.digest, "size": layer.size}
    whole = {
        **manifest,
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {**manifest["config"], "digest": _sha256(document), "size": len(document)},
        "layers": [*layers, descriptor],
    }
    return Image(_json(whole), media_type, document, _sha256(document))


def _fill(archive: tarfile.TarFile, folder: Path) -> None:
    for name in _FOLDERS:
        directory = tarfile.TarInfo(name)
        directory.type, directory.mode = tarfile.DIRTYPE, _SEARCHABLE
        archive.addfile(directory)
    for name in sorted(bundle_format.LIMITS):
        entry = tarfile.TarInfo(f"{_FOLDERS[-1]}/{name}")
        entry.size, entry.mode = (folder / name).stat().st_size, _READABLE
        with (folder / name).open("rb") as content:
            archive.addfile(entry, content)


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
