"""Images from the local registry: pulled by tag or digest, every byte verified, unpacked safely."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import re
import shutil
import tarfile
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT = ", ".join(_MANIFESTS + _INDEXES)
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_REFERENCE = re.compile(
    r"^(?P<host>[^/]+)/(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$"
)
_TIMEOUT_S = 30
_CHUNK = 1 << 16
_MAX_MANIFEST_BYTES = 4 << 20
_MAX_UNPACKED_BYTES = 4 << 30
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class ImageError(Exception):
    """An image that cannot be pulled or trusted; the message is for the pod's status."""


@dataclass(frozen=True)
class Image:
    """An unpacked image: where, and how its configuration says to run it."""

    digest: str
    root: Path
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict[str, str])
    working_dir: str = "/"
    labels: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Reference:
    """`host/repository:tag@digest`, where the digest decides if both are there."""

    host: str
    repository: str
    version: str

    @classmethod
    def parse(cls, text: str, registry: str) -> Reference:
        """Read an image name; only `registry` (host:port) can be pulled from."""
        found = _REFERENCE.match(text)
        if found is None:
            raise ImageError(f'couldn\'t parse image name "{text}": invalid reference format')
        if found["host"] != registry:
            raise ImageError(
                f'failed to pull image "{text}": only the registry {registry} can be reached here'
            )
        return cls(found["host"], found["repository"], found["digest"] or found["tag"] or "latest")


class ImageStore:
    """Images unpacked under `directory`; layers are cached by digest, roots by the manifest's digest.

    Safe for several threads: the same image is fetched once.
    """

    def __init__(self, directory: Path, registry: str) -> None:
        self._blobs = directory / "blobs"
        self._roots = directory / "roots"
        self._registry = registry
        self._lock = threading.Lock()
        self._images: dict[str, Image] = {}
        for path in (self._blobs, self._roots):
            path.mkdir(parents=True, exist_ok=True)

    def known(self) -> list[Image]:
        """The images unpacked so far."""
        return list(self._images.values())

    def pull(self, name: str) -> Image:
        """Fetch, verify and unpack an image, or find it unpacked. Raises ImageError."""
        reference = Reference.parse(name, self._registry)
        try:
            digest, manifest = self._manifest(reference, reference.version)
            with self._lock:
                if digest not in self._images:
                    self._images[digest] = self._unpack(reference, digest, manifest)
                return self._images[digest]
        except ImageError as error:
            raise ImageError(f'failed to pull and unpack image "{name}": {error}') from error
        except (OSError, http.client.HTTPException) as error:
            raise ImageError(f'failed to pull image "{name}": {error or type(error).__name__}') from error

    def _manifest(self, reference: Reference, version: str) -> tuple[str, dict[str, Any]]:
        with _get(reference, f"manifests/{version}") as body:
            content = body.read(_MAX_MANIFEST_BYTES + 1)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if len(content) > _MAX_MANIFEST_BYTES:
            raise ImageError("the manifest is too large")
        if _DIGEST.match(version) and digest != version:
            raise ImageError(f"unexpected manifest digest {digest}, expected {version}")
        manifest = _json(content, "manifest")
        if manifest.get("mediaType") in _INDEXES or "manifests" in manifest:
            return self._manifest(reference, _choose(manifest))
        return digest, manifest

    def _unpack(self, reference: Reference, digest: str, manifest: dict[str, Any]) -> Image:
        config_blob = self._blob(reference, manifest.get("config") or {})
        config = _json(config_blob.read_bytes(), "configuration")
        layers: list[dict[str, Any]] = manifest.get("layers") or []
        diff_ids: list[str] = (config.get("rootfs") or {}).get("diff_ids") or []
        if len(layers) != len(diff_ids):
            raise ImageError(f"{len(layers)} layers but {len(diff_ids)} diff_ids in the configuration")
        final = self._roots / digest.removeprefix("sha256:")
        scratch = Path(tempfile.mkdtemp(dir=self._roots))
        try:
            for layer, diff_id in zip(layers, diff_ids, strict=True):
                apply_layer(self._blob(reference, layer), scratch, diff_id)
            scratch.chmod(0o755)
            scratch.rename(final)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        settings = config.get("config") or {}
        return Image(
            digest=digest,
            root=final,
            entrypoint=tuple(settings.get("Entrypoint") or ()),
            command=tuple(settings.get("Cmd") or ()),
            environment=dict(item.partition("=")[::2] for item in settings.get("Env") or ()),
            working_dir=settings.get("WorkingDir") or "/",
            labels=dict(settings.get("Labels") or {}),
        )

    def _blob(self, reference: Reference, descriptor: dict[str, Any]) -> Path:
        digest = str(descriptor.get("digest"))
        if not _DIGEST.match(digest):
            raise ImageError(f"{digest!r} is not a sha256 digest")
        cached = self._blobs / digest.removeprefix("sha256:")
        if cached.exists():
            return cached
        seen = hashlib.sha256()
        with (
            _get(reference, f"blobs/{digest}") as body,
            tempfile.NamedTemporaryFile(dir=self._blobs, delete=False) as file,
        ):
            partial = Path(file.name)
            while chunk := body.read(_CHUNK):
                seen.update(chunk)
                file.write(chunk)
            size = file.tell()
        if f"sha256:{seen.hexdigest()}" != digest or size != descriptor.get("size", size):
            partial.unlink()
            raise ImageError(
                f"blob {digest} is {size} bytes of sha256:{seen.hexdigest()}: not what was asked for"
            )
        partial.rename(cached)
        return cached


@contextmanager
def _get(reference: Reference, path: str) -> Generator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(reference.host, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", f"/v2/{reference.repository}/{path}", headers={"Accept": _ACCEPT})
        response = connection.getresponse()
        if response.status == 404:
            raise ImageError(f"{reference.host}/{reference.repository} {path}: not found")
        if response.status != 200:
            raise ImageError(f"unexpected status {response.status} for {path}")
        yield response
    finally:
        connection.close()


def _json(content: bytes, what: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(content)
    except ValueError as error:
        raise ImageError(f"the {what} is not JSON") from error
    if not isinstance(value, dict):
        raise ImageError(f"the {what} is not a JSON object")
    return value


def _choose(index: dict[str, Any]) -> str:
    """The first Linux image: the files here are Python sources, for any processor."""
    for entry in index.get("manifests") or ():
        digest = str(entry.get("digest"))
        if (entry.get("platform") or {}).get("os", "linux") == "linux" and _DIGEST.match(digest):
            return digest
    raise ImageError("the index names no Linux image")


class _Hashing:
    """A readable file that hashes what passes through."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        while self.read(_CHUNK):
            pass
        return f"sha256:{self._hash.hexdigest()}"


def apply_layer(blob: Path, root: Path, diff_id: str) -> None:
    """Unpack one layer over `root`; raises ImageError if it is unsafe or not the one that `diff_id` names.

    Members outside the root, devices and links that lead out are refused.
    """
    with blob.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with gzip.open(raw) if compressed else raw as plain:
            hashing = _Hashing(plain)  # pyright: ignore[reportArgumentType]
            try:
                with tarfile.open(fileobj=hashing, mode="r|") as archive:  # pyright: ignore[reportArgumentType, reportCallIssue]
                    _extract(archive, root)
                unpacked = hashing.digest()
            except (tarfile.TarError, EOFError, gzip.BadGzipFile, KeyError) as error:
                raise ImageError(f"layer {diff_id} cannot be unpacked: {error}") from error
    if unpacked != diff_id:
        raise ImageError(f"a layer unpacks to {unpacked}, the configuration says {diff_id}")


def _extract(archive: tarfile.TarFile, root: Path) -> None:
    room = _MAX_UNPACKED_BYTES
    for member in archive:
        room -= member.size
        if room < 0:
            raise ImageError(f"a layer unpacks to more than {_MAX_UNPACKED_BYTES} bytes")
        path = PurePosixPath(member.name)
        if path.name.startswith(_WHITEOUT):
            _white_out(root, path)
            continue
        target = root / path
        if target.is_symlink() or (target.exists() and not (target.is_dir() and member.isdir())):
            _remove(root, path)
        archive.extract(member, root, filter="data")


def _white_out(root: Path, marker: PurePosixPath) -> None:
    if marker.name != _OPAQUE:
        _remove(root, marker.with_name(marker.name.removeprefix(_WHITEOUT)))
        return
    with suppress(FileNotFoundError):
        for child in (root / marker.parent).iterdir():
            _remove(root, marker.parent / child.name)


def _remove(root: Path, path: PurePosixPath) -> None:
    target = root / path
    if ".." in path.parts or not target.parent.resolve().is_relative_to(root.resolve()):
        raise ImageError(f"a layer reaches outside the image: {path}")
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
