"""JSON documents and model archives on S3."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.aws import Client, error_code, split_uri
from common.datasets import DataSet
from common.errors import Permanent
from common.settings import Environment, ModelConfig

_ABSENT = {"404", "NoSuchKey", "NotFound"}


@dataclass(frozen=True)
class Documents:
    """The artifact bucket's configuration and manifests."""

    client: Client
    environment: Environment

    def config(self, model: str) -> ModelConfig:
        """Return a model's configuration; raises Permanent where there is none that makes sense."""
        key = f"{self.environment.config_prefix}{model}.json"
        return ModelConfig.parse(self.read(f"s3://{self.environment.artifact_bucket}/{key}"), key)

    def models(self) -> list[str]:
        """Return the names of the models that this stack configures."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.environment.artifact_bucket, Prefix=self.environment.config_prefix
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        names = [key.removeprefix(self.environment.config_prefix) for key in keys if key.endswith(".json")]
        return sorted(name.removesuffix(".json") for name in names if "/" not in name)

    def dataset(self, uri: str) -> DataSet:
        """Return the data set of a manifest."""
        return DataSet.from_json(self.read(uri), uri)

    def dataset_uri(self, model: str, digest: str, suffix: str = ".json") -> str:
        """Return where a data set's manifest lies."""
        return f"s3://{self.environment.artifact_bucket}/datasets/{model}/{digest}{suffix}"

    def read(self, uri: str) -> dict[str, Any]:
        """Return a JSON document; raises Permanent where it is absent or not JSON."""
        bucket, key = split_uri(uri)
        try:
            body = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
            return json.loads(body)
        except self.client.exceptions.ClientError as error:
            if error_code(error) in _ABSENT:
                raise Permanent(f"{uri}: there is no such object") from error
            raise
        except ValueError as error:
            raise Permanent(f"{uri}: not JSON: {error}") from error

    def text(self, uri: str, limit: int) -> str | None:
        """Return the first `limit` bytes of a text; None where there is no such object."""
        bucket, key = split_uri(uri)
        try:
            body = self.client.get_object(Bucket=bucket, Key=key)["Body"].read(limit)
        except self.client.exceptions.ClientError as error:
            if error_code(error) in _ABSENT:
                return None
            raise
        return body.decode(errors="replace")

    def write(self, uri: str, body: bytes) -> None:
        """Write a JSON document."""
        bucket, key = split_uri(uri)
        self.client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json")

    def download(self, uri: str, version: str | None, limit: int, target: Path) -> str | None:
        """Download an object of at most `limit` bytes; return its version. Permanent: absent or larger."""
        bucket, key = split_uri(uri)
        which = {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})
        try:
            found = self.client.get_object(**which)
        except self.client.exceptions.ClientError as error:
            if error_code(error) in {*_ABSENT, "NoSuchVersion"}:
                raise Permanent(f"{uri}: there is no such object") from error
            raise
        if found["ContentLength"] > limit:
            raise Permanent(f"{uri}: {found['ContentLength']} bytes, more than the {limit} allowed")
        with target.open("wb") as file:
            for chunk in found["Body"].iter_chunks(1 << 20):
                file.write(chunk)
        return found.get("VersionId")
