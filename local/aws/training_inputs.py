"""What a training job reads: its channels (File mode) and its source archive."""

from __future__ import annotations

import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from pathlib import Path


class InputError(Exception):
    """The job's input is not there or not as it should be; the text says what."""


def split_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/key` → (bucket, key)."""
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise InputError(f"not an S3 URI: {uri!r}")
    return parts.netloc, parts.path.lstrip("/")


def download_channel(s3: Any, channel: dict[str, Any], folder: Path) -> None:
    """Copy the objects of a channel to `folder`, each at its place below the channel's prefix."""
    name = channel["ChannelName"]
    source = channel["DataSource"].get("S3DataSource")
    if not source:
        raise InputError(f"channel {name}: only S3 data sources are there")
    kind, uri = source["S3DataType"], source["S3Uri"]
    if kind == "S3Prefix":
        objects = list_prefix(s3, uri)
    elif kind == "ManifestFile":
        objects = read_manifest(s3, uri)
    else:
        raise InputError(f"channel {name}: S3DataType {kind!r} is not there, use S3Prefix or ManifestFile")
    if not objects:
        raise InputError(f"No S3 objects found under S3 URL {uri!r} given in input data source ({name})")
    folder.mkdir(parents=True, exist_ok=True)

    def fetch(item: tuple[str, str, str]) -> None:
        bucket, key, relative = item
        path = folder / safe_path(relative)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("wb") as file:
                for piece in s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(1 << 20):
                    file.write(piece)
        except ClientError as error:
            raise InputError(f"channel {name}: s3://{bucket}/{key}: {error}") from error

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fetch, objects))


def list_prefix(s3: Any, uri: str) -> list[tuple[str, str, str]]:
    """(bucket, key, path below the channel) of every object under the prefix.

    As SageMaker does it: a prefix that ends in `/`, or whose last part is a whole folder, is cut off; else
    the prefix's last folder is.
    """
    bucket, prefix = split_uri(uri)
    keys: list[str] = []
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            keys += [item["Key"] for item in page.get("Contents", []) if not item["Key"].endswith("/")]
    except ClientError as error:
        raise InputError(f"{uri}: {error}") from error
    whole_folder = prefix.endswith("/") or all(key.startswith(prefix + "/") for key in keys)
    base = prefix.rstrip("/") + "/" if whole_folder and prefix else prefix.rpartition("/")[0]
    return [(bucket, key, key.removeprefix(base).lstrip("/")) for key in keys]


def read_manifest(s3: Any, uri: str) -> list[tuple[str, str, str]]:
    """The same for a manifest: `[{"prefix": "s3://bucket/p/"}, "relative/key", …]`."""
    bucket, key = split_uri(uri)
    try:
        entries = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        start = entries[0]["prefix"]
        names = [name for name in entries[1:] if isinstance(name, str)]
    except ClientError as error:
        raise InputError(f"manifest {uri}: {error}") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"manifest {uri} is malformed: {error!r}") from error
    objects: list[tuple[str, str, str]] = []
    for name in names:
        item_bucket, item_key = split_uri(start + name)
        objects.append((item_bucket, item_key, name))
    return objects


def safe_path(relative: str) -> PurePosixPath:
    """`relative` as a path that stays below the folder that it is joined to."""
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise InputError(f"not a path below its channel: {relative!r}")
    return path


def fetch_source(s3: Any, hyperparameters: dict[str, str], folder: Path) -> Path:
    """Unpack the source archive that the hyperparameters name; the script to run."""
    try:
        program = _plain(hyperparameters["sagemaker_program"])
        uri = _plain(hyperparameters["sagemaker_submit_directory"])
    except KeyError as error:
        raise InputError(f"hyperparameter {error} is missing: only script mode is there") from error
    bucket, key = split_uri(uri)
    try:
        archive = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        raise InputError(f"source archive {uri}: {error}") from error
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    path = folder / safe_path(member.name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
    except tarfile.TarError as error:
        raise InputError(f"source archive {uri}: {error}") from error
    script = folder / safe_path(program)
    if not script.is_file():
        raise InputError(f"source archive {uri} holds no {program!r}")
    return script


def _plain(value: str) -> str:
    """SDKs write these two as JSON strings, people write them as they are."""
    return json.loads(value) if value.startswith('"') else value
