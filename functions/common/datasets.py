"""Data sets: which object versions a model is trained on. Pure; a data set is a manifest on S3."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from common.aws import split_uri
from common.errors import Permanent

SUFFIXES = (".csv", ".parquet")
# What one CopyObject call can copy.
LARGEST_BYTES = 5 << 30


@dataclass(frozen=True, order=True)
class DataObject:
    """One version of an object; `uri` is set where its data is not the copy of an upload."""

    key: str
    version: str
    uri: str | None = None

    def path(self, model: str) -> str:
        """Return where in the data bucket the data lies that a job reads."""
        if self.uri is not None:
            return split_uri(self.uri)[1]
        return f"objects/{model}/{self.version}/{self.key.rsplit('/', 1)[-1]}"


@dataclass(frozen=True)
class DataSet:
    """The objects of one training, and the accepted data set that they extend."""

    model: str
    parent: str | None
    objects: tuple[DataObject, ...]

    @property
    def digest(self) -> str:
        """The identity of what it has, whatever its order and parent."""
        return dataset_hash((item.key, item.version) for item in self.objects)

    def to_json(self) -> bytes:
        """Return the manifest's bytes, the same for the same data set."""
        objects: list[dict[str, str]] = []
        for item in self.objects:
            where = {"uri": item.uri} if item.uri else {"path": item.path(self.model).split("/", 2)[2]}
            objects.append({"key": item.key, "version": item.version, **where})
        document = {
            "format": 1,
            "model": self.model,
            "hash": self.digest,
            "parent": self.parent,
            "objects": objects,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @staticmethod
    def from_json(document: Mapping[str, Any], where: str) -> "DataSet":
        """Read a manifest; raises Permanent where it is not one."""
        try:
            objects = cast("list[dict[str, Any]]", document["objects"])
            return DataSet(
                model=str(document["model"]),
                parent=cast("str | None", document["parent"]),
                objects=tuple(DataObject(o["key"], o["version"], o.get("uri")) for o in objects),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise Permanent(f"{where}: not a data-set manifest: {error!r}") from error

    def sagemaker_manifest(self, bucket: str) -> bytes:
        """Return SageMaker's ManifestFile: one prefix must serve uploads' copies and bootstrap files."""
        for item in self.objects:
            if item.uri is not None and split_uri(item.uri)[0] != bucket:
                raise Permanent(f"{item.uri}: not in the data bucket {bucket}")
        paths = [item.path(self.model) for item in self.objects]
        return json.dumps([{"prefix": f"s3://{bucket}/"}, *paths]).encode()


@dataclass(frozen=True)
class Upload:
    """The current version of an object under `incoming/<model>/`."""

    key: str
    version: str
    size: int


@dataclass(frozen=True)
class Pending:
    """What has not been trained on yet: uploads to train on, and others with the reason against them."""

    new: tuple[DataObject, ...]
    refused: Mapping[DataObject, str]


def dataset_hash(objects: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 in hex over the sorted (key, version) pairs."""
    pairs = json.dumps(sorted([list(pair) for pair in objects]), separators=(",", ":"))
    return hashlib.sha256(pairs.encode()).hexdigest()


def pending(uploads: Iterable[Upload], known: Collection[tuple[str, str]]) -> Pending:
    """Sort out the uploads that are neither accepted nor refused (`known`, as key and version)."""
    new: list[DataObject] = []
    refused: dict[DataObject, str] = {}
    for upload in uploads:
        # Consoles make empty objects with a final slash to show a folder.
        if (upload.key, upload.version) in known or upload.key.endswith("/"):
            continue
        item = DataObject(upload.key, upload.version)
        reason = _against(upload)
        if reason:
            refused[item] = reason
        else:
            new.append(item)
    return Pending(tuple(sorted(new)), refused)


def extend(model: str, accepted: DataSet | None, *more: Sequence[DataObject]) -> DataSet:
    """Return the accepted data set plus other objects, each once."""
    objects = {(o.key, o.version): o for o in (accepted.objects if accepted else ())}
    for items in more:
        for item in items:
            objects.setdefault((item.key, item.version), item)
    return DataSet(model, accepted.digest if accepted else None, tuple(sorted(objects.values(), key=_order)))


def find(dataset: DataSet, path: str) -> DataObject | None:
    """Return the object that a job calls `path`, relative to its channel or to some folder above it."""
    wanted = path.strip().lstrip("./")
    for item in dataset.objects:
        known = item.path(dataset.model)
        if wanted and (known == wanted or known.endswith("/" + wanted) or wanted.endswith("/" + known)):
            return item
    return None


def _order(item: DataObject) -> tuple[str, str]:
    return item.key, item.version


def _against(upload: Upload) -> str | None:
    name = upload.key.rsplit("/", 1)[-1]
    if not name.lower().endswith(SUFFIXES):
        return f"only {' and '.join(SUFFIXES)} files are read"
    if not name.isprintable():
        return "the name has characters that cannot be printed"
    if upload.size > LARGEST_BYTES:
        return f"{upload.size} bytes, more than the {LARGEST_BYTES} allowed"
    return None
