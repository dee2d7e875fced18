"""Lambda entry point: starts the build of a serving image from its source archive."""

import os
import re
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from common.aws import client, error_code, split_uri

logger = Logger()
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@logger.inject_lambda_context(clear_state=True)
def handle(event: dict[str, Any], _context: LambdaContext) -> dict[str, Any]:
    """Start the build of `source_hash` from its archive (`bucket` and `key`, or `source_uri`), once."""
    tag = str(event.get("source_hash", ""))
    if not _TAG.fullmatch(tag):
        raise ValueError(f"source_hash: {tag!r:.80} cannot be an image tag")
    bucket, key = _source(event)
    if _exists(os.environ["REPOSITORY_NAME"], tag):
        logger.info("no build: the image exists", extra={"image_tag": tag})
        return {"started": False, "image_tag": tag, "reason": "the image exists"}
    build = client("codebuild").start_build(
        projectName=os.environ["PROJECT_NAME"],
        sourceTypeOverride="S3",
        sourceLocationOverride=f"{bucket}/{key}",
        environmentVariablesOverride=[{"name": "IMAGE_TAG", "value": tag, "type": "PLAINTEXT"}],
        # A repeated call within minutes gets the same build.
        idempotencyToken=tag,
    )["build"]
    logger.info("build started", extra={"image_tag": tag, "build_id": build["id"]})
    return {"started": True, "image_tag": tag, "build_id": build["id"]}


def _source(event: dict[str, Any]) -> tuple[str, str]:
    if "source_uri" in event:
        return split_uri(str(event["source_uri"]))
    if not event.get("bucket") or not event.get("key"):
        raise ValueError("want source_uri, or bucket and key")
    return str(event["bucket"]), str(event["key"])


def _exists(repository: str, tag: str) -> bool:
    ecr = client("ecr")
    try:
        ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except ecr.exceptions.ClientError as error:
        if error_code(error) == "ImageNotFoundException":
            return False
        raise
    return True
