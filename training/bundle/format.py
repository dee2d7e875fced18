"""The bundle's format: one directory of four files, described by `bundle.json`.

Standard library only: training, serving and the functions share this module. Everything that is read is
checked, and every refusal is a `BundleError` that names the file and the field.
"""

import gzip
import hashlib
import json
import re
import shutil
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final, Literal

from bundle.decode import BundleError, decode, fail, parse

FORMAT_VERSION: Final = 1
XGBOOST_VERSION: Final = "3.2.0"

MANIFEST: Final = "bundle.json"
MODEL: Final = "model.ubj"
BASELINE: Final = "baseline.json"
GOLDEN: Final = "golden.json"
# Bytes: a bundle is unpacked by functions with little memory and disk.
LIMITS: Final[Mapping[str, int]] = {
    MANIFEST: 16 << 20,
    MODEL: 256 << 20,
    BASELINE: 16 << 20,
    GOLDEN: 16 << 20,
}
GOLDEN_ROWS: Final = 5
GOLDEN_TOLERANCE: Final = 1e-6

Task = Literal["binary", "multiclass", "regression"]
ColumnType = Literal["numeric", "categorical", "timestamp"]
Scalar = str | int | float | bool | None

# For HTTP headers, image labels and object keys.
NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

__all__ = [
    "BASELINE", "FORMAT_VERSION", "GOLDEN", "GOLDEN_ROWS", "GOLDEN_TOLERANCE", "MANIFEST", "MODEL", "NAME",
    "VERSION", "XGBOOST_VERSION", "BundleError", "Champion", "Column", "ColumnType", "Feature", "FileEntry",
    "Golden", "Manifest", "Metric", "Metrics", "Task", "Training", "canonical", "check_xgboost", "describe",
    "digest", "pack", "read", "read_baseline", "read_golden", "unpack", "verify", "write",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a request, before pre-processing.

    `categories` and `unknown` (what becomes of a text that is none of them) concern categorical columns.
    """

    name: str
    type: ColumnType = "numeric"
    categories: tuple[str, ...] = ()
    unknown: Literal["missing", "refuse"] = "missing"


@dataclass(frozen=True, kw_only=True)
class Feature:
    """An input of the model, after pre-processing; a category's code is its index in `categories`."""

    name: str
    type: Literal["numeric", "categorical"] = "numeric"
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The metric by which champion and challenger are compared."""

    name: str
    greater_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What both models reached on the same rows."""

    challenger: Mapping[str, float]
    champion: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The bundle that was in service while this one was trained."""

    version: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where the model came from."""

    job: str
    dataset_hash: str = ""
    manifest_uri: str | None = None
    rows: int = 0
    holdout_rows: int = 0


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file's SHA-256 in hex and size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Raw rows in the order of `columns` (texts, numbers, booleans, null), and the model's answers to them.

    An answer (of a multiclass model a list) must be reproduced within 1e-6.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    predictions: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of `bundle.json`.

    `steps` are JSON objects with an `op`, which `bundle.preprocess` checks and runs. `classes` are the
    target's values (binary: the prediction is the probability of the second), null for regression.
    """

    name: str
    version: str
    task: Task
    objective: str
    target: str
    classes: tuple[str, ...] | None
    columns: tuple[Column, ...]
    steps: tuple[Mapping[str, Any], ...]
    features: tuple[Feature, ...]
    primary_metric: Metric
    metrics: Metrics
    champion: Champion | None
    training: Training
    libraries: Mapping[str, str]
    files: Mapping[str, FileEntry] = field(default_factory=dict[str, FileEntry])
    format: int = FORMAT_VERSION

    @staticmethod
    def from_json(text: bytes | str) -> "Manifest":
        """Read and check a manifest; raises `BundleError`."""
        document = parse(text, MANIFEST)
        # The version first: of another format nothing else can be understood.
        if isinstance(document, dict) and document.get("format") != FORMAT_VERSION:
            raise BundleError(f"{MANIFEST}: format: want {FORMAT_VERSION}, got {document.get('format')!r}")
        manifest = decode(Manifest, document, MANIFEST)
        _check(manifest)
        return manifest

    def to_json(self) -> bytes:
        """Return the canonical bytes: the same manifest always gives the same digest."""
        document = asdict(self)
        for item in document["columns"] + document["features"]:
            if item["type"] != "categorical":
                item.pop("categories")
                item.pop("unknown", None)
        return canonical(document)


def describe(  # noqa: PLR0913 - keywords with defaults
    name: str,
    version: str,
    task: Task,
    columns: Sequence[Column],
    metrics: Mapping[str, float],
    *,
    target: str = "target",
    classes: Sequence[str] | None = None,
    primary_metric: str | None = None,
) -> Manifest:
    """Return a manifest without steps, for which all else is the usual: `dataclasses.replace` the rest.

    The primary metric defaults to the first one. Raises `BundleError` when the result is inconsistent.
    """
    primary = primary_metric or next(iter(metrics))
    manifest = Manifest(
        name=name,
        version=version,
        task=task,
        objective={"binary": "binary:logistic", "multiclass": "multi:softprob"}.get(task, "reg:squarederror"),
        target=target,
        classes=None if task == "regression" else tuple(classes or ("0", "1")),
        columns=tuple(columns),
        steps=(),
        features=tuple(
            Feature(name=c.name, type=c.type, categories=c.categories)
            for c in columns
            if c.type != "timestamp"
        ),
        primary_metric=Metric(name=primary, greater_is_better=primary in {"auc", "accuracy", "r2"}),
        metrics=Metrics(challenger=dict(metrics)),
        champion=None,
        training=Training(job=version),
        libraries={"xgboost": XGBOOST_VERSION},
    )
    return Manifest.from_json(manifest.to_json())


def canonical(document: object) -> bytes:
    """Return JSON with sorted keys and no spaces, UTF-8; NaN and infinities are refused."""
    try:
        text = json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode()
    except (TypeError, ValueError) as error:
        raise BundleError(f"cannot be written as JSON: {error}") from error


def read(directory: Path) -> Manifest:
    """Return a bundle's manifest; its other files are not looked at."""
    return Manifest.from_json(_bytes(directory, MANIFEST))


def read_golden(directory: Path, manifest: Manifest) -> Golden:
    """Return the golden rows and predictions; raises `BundleError` where they do not fit the manifest."""
    golden = decode(Golden, parse(_bytes(directory, GOLDEN), GOLDEN), GOLDEN)
    if golden.columns != tuple(column.name for column in manifest.columns):
        fail(f"{GOLDEN}: columns", "differ from the columns in bundle.json")
    if len(golden.rows) < GOLDEN_ROWS or len(golden.predictions) != len(golden.rows):
        fail(f"{GOLDEN}: rows", f"want at least {GOLDEN_ROWS}, and a prediction for each")
    classes = len(manifest.classes or ()) if manifest.task == "multiclass" else 0
    for number, (row, answer) in enumerate(zip(golden.rows, golden.predictions, strict=True)):
        if len(row) != len(golden.columns):
            fail(f"{GOLDEN}: rows[{number}]", f"want {len(golden.columns)} values, got {len(row)}")
        for value in row:
            if not isinstance(value, Scalar):
                fail(f"{GOLDEN}: rows[{number}]", f"{value!r:.80} is not a value of a column")
        decode(tuple[float, ...] if classes else float, answer, f"{GOLDEN}: predictions[{number}]")
        if classes and len(answer) != classes:
            fail(f"{GOLDEN}: predictions[{number}]", f"want {classes} probabilities, got {len(answer)}")
    return golden


def read_baseline(directory: Path) -> dict[str, Any]:
    """Return the baseline's histograms as JSON values."""
    return decode(dict[str, Any], parse(_bytes(directory, BASELINE), BASELINE), BASELINE)


def write(directory: Path, manifest: Manifest) -> Manifest:
    """Write `bundle.json` beside the three other files, with their hashes; return the whole manifest."""
    files = {name: _entry(directory, name) for name in (MODEL, BASELINE, GOLDEN)}
    whole = Manifest.from_json(replace(manifest, files=files).to_json())
    (directory / MANIFEST).write_bytes(whole.to_json())
    return whole


def verify(directory: Path) -> Manifest:
    """Check the whole bundle: the four files, their sizes and hashes, and that they fit together."""
    manifest = read(directory)
    if unexpected := sorted(path.name for path in directory.iterdir() if path.name not in LIMITS):
        raise BundleError(f"{unexpected[0]}: not a file of a bundle")
    if set(manifest.files) != {MODEL, BASELINE, GOLDEN}:
        raise BundleError(f"{MANIFEST}: files: want exactly {MODEL}, {BASELINE} and {GOLDEN}")
    for name, wanted in manifest.files.items():
        found = _entry(directory, name)
        if found.bytes != wanted.bytes:
            raise BundleError(f"{name}: {found.bytes} bytes, but bundle.json says {wanted.bytes}")
        if found.sha256 != wanted.sha256:
            raise BundleError(f"{name}: sha256 {found.sha256}, but bundle.json says {wanted.sha256}")
    read_golden(directory, manifest)
    read_baseline(directory)
    return manifest


def digest(directory: Path) -> str:
    """Return the bundle's identity, `sha256:<hex>` of `bundle.json`, which has the hashes of the rest."""
    return "sha256:" + hashlib.sha256(_bytes(directory, MANIFEST)).hexdigest()


def check_xgboost(manifest: Manifest, version: str) -> None:
    """Raise `BundleError` unless `version` is of the major.minor that the model was trained with."""
    trained = manifest.libraries.get("xgboost", "none")
    if trained.split(".")[:2] != version.split(".")[:2]:
        raise BundleError(f"{MANIFEST}: libraries.xgboost: trained with {trained}, but this is {version}")


def pack(directory: Path, archive: Path) -> None:
    """Write a bundle as `model.tar.gz`, the same bytes for the same bundle."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted(LIMITS):
            info = tarfile.TarInfo(name)
            info.size = (directory / name).stat().st_size
            with (directory / name).open("rb") as content:
                tar.addfile(info, content)


def unpack(archive: Path | IO[bytes], directory: Path) -> Manifest:
    """Unpack a `model.tar.gz` into `directory` (made if absent, must be empty) and verify it.

    Only the four regular files are taken, each within its limit; anything else raises `BundleError`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        if isinstance(archive, Path):
            with archive.open("rb") as stream:
                _extract(stream, directory)
        else:
            _extract(archive, directory)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise BundleError(f"model.tar.gz: cannot be unpacked: {error}") from error
    return verify(directory)


def _extract(stream: IO[bytes], directory: Path) -> None:
    with tarfile.open(fileobj=stream, mode="r|gz") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.isdir() and name in {"", "."}:
                continue
            limit = LIMITS.get(name)
            content = tar.extractfile(member) if limit is not None and member.isreg() else None
            if limit is None or content is None:
                raise BundleError(f"model.tar.gz: {member.name!r} does not belong in a bundle")
            if member.size > limit:
                raise BundleError(f"{name}: {member.size} bytes, more than the {limit} allowed")
            with (directory / name).open("xb") as file:
                shutil.copyfileobj(content, file)


def _bytes(directory: Path, name: str) -> bytes:
    _size(directory, name)
    return (directory / name).read_bytes()


def _size(directory: Path, name: str) -> int:
    path = directory / name
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{name}: missing, or not a regular file")
    size = path.stat().st_size
    if size > LIMITS[name]:
        raise BundleError(f"{name}: {size} bytes, more than the {LIMITS[name]} allowed")
    return size


def _entry(directory: Path, name: str) -> FileEntry:
    size, hasher = _size(directory, name), hashlib.sha256()
    with (directory / name).open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return FileEntry(sha256=hasher.hexdigest(), bytes=size)


def _check(manifest: Manifest) -> None:
    """Refuse what each field allows alone, but not together."""
    for key, value, pattern in (("name", manifest.name, NAME), ("version", manifest.version, VERSION)):
        if not pattern.fullmatch(value):
            fail(f"{MANIFEST}: {key}", f"{value!r:.80} does not match {pattern.pattern}")
    count = len(manifest.classes or ())
    if not {"binary": count == 2, "multiclass": count > 1}.get(manifest.task, manifest.classes is None):
        fail(f"{MANIFEST}: classes", f"{count} do not suit a {manifest.task} model")
    _unique(manifest.classes or (), f"{MANIFEST}: classes")
    _check_columns("columns", manifest.columns)
    _check_columns("features", manifest.features)
    if not all(isinstance(step.get("op"), str) for step in manifest.steps):
        fail(f"{MANIFEST}: steps", "a step lacks its op")
    primary = manifest.primary_metric.name
    for who, metrics in vars(manifest.metrics).items():
        if metrics is not None and primary not in metrics:
            fail(f"{MANIFEST}: metrics: {who}", f"lacks the primary metric {primary}")
    if (manifest.metrics.champion is None) != (manifest.champion is None):
        fail(f"{MANIFEST}: champion", "a champion and its metrics come together")
    for name, entry in manifest.files.items():
        if not _SHA256.fullmatch(entry.sha256) or entry.bytes < 0:
            fail(f"{MANIFEST}: files: {name}", "want a SHA-256 in hex and a size")


def _check_columns(key: str, items: Sequence[Column | Feature]) -> None:
    if not items:
        fail(f"{MANIFEST}: {key}", "empty")
    _unique([item.name for item in items], f"{MANIFEST}: {key}")
    for item in items:
        _unique(item.categories, f"{MANIFEST}: {key}: {item.name}: categories")


def _unique(names: Sequence[str], where: str) -> None:
    if len(set(names)) != len(names) or "" in names:
        fail(where, "a text is empty or stands there twice")
