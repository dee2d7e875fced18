"""boto3 clients, made when first used and once per process."""

from functools import cache
from typing import Any, TypeAlias

# boto3 makes its clients at run time: there is no type to name.
Client: TypeAlias = Any


@cache
def client(service: str) -> Client:
    """Return this process's client of an AWS service."""
    # A cold start pays for boto3 only when a client is needed, and a test can install its mocks first.
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "max_attempts": 4})
    return boto3.client(service, config=config)


def error_code(error: Exception) -> str:
    """Return the code of a botocore ClientError, or an empty string."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def split_uri(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/key`; ValueError for anything else."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key:
        raise ValueError(f"not an S3 address: {uri!r}")
    return bucket, key
