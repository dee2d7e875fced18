"""Archives of source code that are the same bytes on every machine and at every run.

Pulumi hashes an `AssetArchive` over names and contents only, so a function's archive needs no fixed times.
Archives that other programs read (training and image sources) are built here, sorted and with fixed times.
"""

import hashlib
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

import pulumi

ROOT: Final = Path(__file__).resolve().parent.parent
"""The repository: where the deployables lie."""

BUNDLE_FORMAT: Final = ("__init__.py", "decode.py", "format.py")
"""The part of the bundle package that needs nothing but the standard library."""

_BLOCK: Final = 0xFFFF
_FIXED_TIME: Final = (1980, 1, 1, 0, 0, 0)
_SOURCE_SUFFIXES: Final = frozenset(
    {".py", ".json", ".toml", ".yaml", ".yml", ".txt", ".typed", ".lock", ".md"}
)
_SOURCE_NAMES: Final = frozenset({"Dockerfile", ".dockerignore"})


def source_files(directory: Path, prefix: str = "") -> dict[str, Path]:
    """Archive name → file for the sources under a directory, without caches and build outputs."""
    found: dict[str, Path] = {}
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if any(part == "__pycache__" or part.startswith(".") for part in relative.parts[:-1]):
            continue
        if path.is_file() and (path.suffix in _SOURCE_SUFFIXES or path.name in _SOURCE_NAMES):
            found[str(PurePosixPath(prefix) / relative.as_posix())] = path
    return found


def digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 (hex) over sorted names and contents: what an archive says, whatever its encoding."""
    total = hashlib.sha256()
    for name in sorted(files):
        content = files[name]
        total.update(f"{len(name)}:{name}:{len(content)}:".encode())
        total.update(content)
    return total.hexdigest()


def contents(files: Mapping[str, Path]) -> dict[str, bytes]:
    """Archive name → bytes."""
    return {name: path.read_bytes() for name, path in files.items()}


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip file: sorted, fixed times and modes, stored and not compressed (compressors differ)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _FIXED_TIME)
            info.external_attr = 0o644 << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()


def tar_gz_bytes(files: Mapping[str, bytes]) -> bytes:
    """A gzipped tar file: sorted, fixed times, owners and modes, stored and not compressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            info.mode = 0o644
            archive.addfile(info, io.BytesIO(files[name]))
    return _gzip_stored(buffer.getvalue())


def _gzip_stored(content: bytes) -> bytes:
    """Gzip without compression, written out here: zlib's variants cut even stored blocks differently."""
    out = bytearray(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
    for start in range(0, len(content), _BLOCK):
        block = content[start : start + _BLOCK]
        last = start + _BLOCK >= len(content)
        out += struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block
    out += struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)
    return bytes(out)


def asset_archive(files: Mapping[str, Path]) -> pulumi.AssetArchive:
    """A Lambda function's code: the engine zips it, and hashes names and contents only."""
    return pulumi.AssetArchive({name: pulumi.FileAsset(str(path)) for name, path in sorted(files.items())})


def function_files(package: str, *, with_bundle: bool, root: Path = ROOT) -> dict[str, Path]:
    """The files of one function's archive: its package, `common`, the bundle's format if it reads bundles."""
    functions = root / "functions"
    files = source_files(functions / package, package) | source_files(functions / "common", "common")
    if with_bundle:
        bundle = root / "training" / "bundle"
        for name in BUNDLE_FORMAT:
            files[f"bundle/{name}"] = bundle / name
    return files


def training_files(root: Path = ROOT) -> dict[str, Path]:
    """The files of SageMaker's source archive: the contents of training/, at the archive's root."""
    files = source_files(root / "training")
    return {name: path for name, path in files.items() if path.suffix in {".py", ".txt", ".json", ".typed"}}


def server_files(root: Path = ROOT) -> dict[str, Path]:
    """The files of the serving image's source archive: serving/, bundle/, and on top what builds it."""
    files = source_files(root / "serving", "serving") | source_files(root / "training" / "bundle", "bundle")
    for name in ("Dockerfile", "buildspec.yml"):
        files[name] = files.pop(f"serving/{name}")
    return files
