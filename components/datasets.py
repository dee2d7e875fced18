"""Data sets as documents: the manifest that lineage reads, and the list that SageMaker downloads by."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import names

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class BootstrapFile:
    """A file beside the program that becomes an object under `bootstrap/<model>/`."""

    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """The object's last part: two files of one name in different folders stay apart."""
        return f"{self.sha256[:8]}-{self.path.name}"

    @property
    def version(self) -> str:
        """Stands for the object's version id: known before the object exists, as the job's inputs must be."""
        return f"sha256-{self.sha256[:16]}"

    def key(self, model: str) -> str:
        """The object's key in the data bucket."""
        return f"{names.BOOTSTRAP}{model}/{self.name}"


def bootstrap_files(root: Path, files: Sequence[str]) -> list[BootstrapFile]:
    """The files of a setting, with their contents' hashes."""
    return [
        BootstrapFile(path=root / file, sha256=hashlib.sha256((root / file).read_bytes()).hexdigest())
        for file in files
    ]


def dataset_hash(objects: Sequence[tuple[str, str]]) -> str:
    """SHA-256 (64 hex digits) over the sorted (key, version) pairs: the identity of a data set."""
    return hashlib.sha256(json.dumps(sorted(objects), separators=(",", ":")).encode()).hexdigest()


def bootstrap_hash(model: str, files: Sequence[BootstrapFile]) -> str:
    """The identity of the data set that consists of these files."""
    return dataset_hash([(file.key(model), file.version) for file in files])


def manifest(model: str, files: Sequence[BootstrapFile], bucket: str) -> dict[str, Any]:
    """The data set's manifest: what a model's lineage leads to."""
    return {
        "format": FORMAT,
        "model": model,
        "hash": bootstrap_hash(model, files),
        "parent": None,
        "objects": [
            {
                "key": file.key(model),
                "version": file.version,
                "uri": f"s3://{bucket}/{file.key(model)}",
            }
            for file in sorted(files, key=lambda file: (file.key(model), file.version))
        ],
    }


def sagemaker_manifest(model: str, files: Sequence[BootstrapFile], bucket: str) -> list[Any]:
    """The same data set in SageMaker's ManifestFile form."""
    return [{"prefix": f"s3://{bucket}/"}, *sorted(file.key(model) for file in files)]
