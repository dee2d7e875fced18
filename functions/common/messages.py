"""What asks for a training: messages as pure data, and the one that functions send themselves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote_plus

from common import names
from common.aws import Client

SOURCE = "trainserve"
REQUESTED = "Training Requested"
INCOMING = "incoming/"


class BadMessageError(ValueError):
    """A message that is not an EventBridge envelope."""


@dataclass(frozen=True)
class Request:
    """That a model may need training; `dataset_hash` names a data set whose training is to be repeated."""

    model: str
    reason: str
    dataset_hash: str | None = None


def parse(body: str | Mapping[str, Any]) -> Request | None:
    """Return what an envelope asks for; None for what concerns no model. Raises BadMessageError."""
    try:
        envelope: Any = json.loads(body) if isinstance(body, str) else body
    except ValueError as error:
        raise BadMessageError(f"not JSON: {error}") from error
    if not isinstance(envelope, Mapping):
        raise BadMessageError("not an event: want a JSON object")
    event = cast("Mapping[str, Any]", envelope)
    found: Any = event.get("detail")
    detail = cast("Mapping[str, Any]", found if isinstance(found, Mapping) else {})
    match event.get("source"), event.get("detail-type"):
        case "aws.s3", "Object Created":
            return _upload(detail)
        case "trainserve", "Training Requested":
            return _request(detail)
        case _:
            return None


def envelope(request: Request) -> str:
    """Return a request as the body of a queue message."""
    detail = {"model": request.model, "reason": request.reason}
    if request.dataset_hash:
        detail["dataset_hash"] = request.dataset_hash
    return json.dumps({"version": "0", "source": SOURCE, "detail-type": REQUESTED, "detail": detail})


def send(client: Client, queue_url: str, request: Request, deduplication: str) -> None:
    """Put a request into the model's message group; the same `deduplication` within minutes counts once."""
    client.send_message(
        QueueUrl=queue_url,
        MessageBody=envelope(request),
        MessageGroupId=request.model,
        MessageDeduplicationId=deduplication,
    )


def _upload(detail: Mapping[str, Any]) -> Request | None:
    entry: Any = detail.get("object")
    quoted: Any = cast("Mapping[str, Any]", entry).get("key") if isinstance(entry, Mapping) else None
    # Keys in S3's events are quoted as in a form: a space is a plus sign.
    key = unquote_plus(quoted) if isinstance(quoted, str) else ""
    model, slash, _ = key.removeprefix(INCOMING).partition("/")
    if not key.startswith(INCOMING) or not slash or not names.is_model(model):
        return None
    return Request(model, f"upload {key}")


def _request(detail: Mapping[str, Any]) -> Request | None:
    model: Any = detail.get("model")
    digest: Any = detail.get("dataset_hash")
    if not names.is_model(model):
        return None
    return Request(model, str(detail.get("reason", "")), digest if isinstance(digest, str) else None)
