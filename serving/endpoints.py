"""SageMaker's runtime API, for clients that call an endpoint: boto3's `invoke_endpoint` against this server.

The endpoint may have any name, for the server is one endpoint. Refusals have the form and the status that
SageMaker gives them, so that clients raise what they always raise. Credentials are not looked at.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from serving import formats
from serving.errors import RequestError
from serving.responses import CSV
from serving.routes import POST, Route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serving.batch import Batch, RowReply
    from serving.exchange import Exchange, Head
    from serving.metrics import Histogram
    from serving.models import Entry, Models
    from serving.routes import Plan
    from serving.sagemaker import SageMaker

_PREFIX: Final = b"x-amzn-sagemaker-"
_TARGETS: Final = (
    _PREFIX + b"target-model",
    _PREFIX + b"target-variant",
    _PREFIX + b"inference-component",
    b"x-model",
)
_ATTRIBUTES: Final = _PREFIX + b"custom-attributes"
# To ignore these would be to answer something else than was asked.
_REFUSED: Final = tuple(
    _PREFIX + name for name in (b"enable-explanations", b"session-id", b"target-container-hostname")
)
HEADERS: Final = frozenset((*_TARGETS, _ATTRIBUTES, *_REFUSED))
"""The headers that this protocol looks at."""

_PATH: Final = re.compile("/endpoints/[^/]+/(invocations|async-invocations|invocations-response-stream)")
_ATTRIBUTE_TEXT: Final = re.compile(rb"[\x20-\x7e]{0,1024}")


class EndpointError(RequestError):
    """A refusal as SageMaker's runtime words it; `kind` is the name of its exception."""

    def __init__(self, kind: str, status: int, cause: RequestError, more: Mapping[str, Any]) -> None:
        headers = b"x-amzn-ErrorType: %b\r\n%b" % (kind.encode(), cause.headers)
        super().__init__(status, cause.reason, row=cause.row, column=cause.column, headers=headers)
        self._more = more

    def body(self) -> bytes:
        """Return the JSON answer: what SageMaker's has, and what this server's has."""
        return orjson.dumps({**orjson.loads(super().body()), **self._more})


def as_runtime(error: RequestError) -> RequestError:
    """Return a refusal as SageMaker's runtime has it: the model's own are `ModelError`, status 424."""
    if isinstance(error, EndpointError):
        return error
    reason: str = orjson.loads(error.body())["error"]
    if error.status == 503:
        return EndpointError("ServiceUnavailable", 503, error, {"Message": reason})
    if error.status == 404:
        return EndpointError("ValidationError", 400, error, {"Message": reason})
    more = {
        "Message": f'The model answered {error.status} with message "{reason}".',
        "OriginalStatusCode": error.status,
        "OriginalMessage": error.body().decode(),
    }
    return EndpointError("ModelError", 424, error, more)


class EndpointReply:
    """Answers with the predictions; the head is made anew, for it has what the request brought."""

    def __init__(self, seconds: Histogram, content_type: bytes) -> None:
        self.seconds = seconds
        self.content_type = content_type

    def send(self, request: Exchange, batch: Batch, start: int, stop: int) -> bytes:
        """Answer."""
        body = self._body(batch.tokens[start:stop])
        request.respond(200, self.content_type, body)
        return body

    def send_rows(self, requests: Sequence[Exchange], batch: Batch, start: int) -> Sequence[bytes]:
        """Answer requests of one row each."""
        bodies = [self._body([token]) for token in batch.tokens[start : start + len(requests)]]
        for request, body in zip(requests, bodies, strict=True):
            request.respond(200, self.content_type, body)
        return bodies

    def _body(self, tokens: Sequence[bytes]) -> bytes:
        return formats.csv_answer(tokens) if self.content_type is CSV else formats.json_answer(tokens)


class Endpoints:
    """The route of `InvokeEndpoint`."""

    def __init__(self, models: Models, sagemaker: SageMaker) -> None:
        self._models = models
        self._sagemaker = sagemaker

    def route(self, path: str) -> Route | None:
        """Return the route of a path, if it is one of this protocol."""
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        return Route("invocations", {POST: partial(self._plan, match[1])})

    def _plan(self, operation: str, head: Head) -> Plan:
        head.translate = as_runtime
        if operation != "invocations":
            raise _invalid("only InvokeEndpoint is offered: answers come whole and at once")
        for name in _REFUSED:
            if name in head.headers:
                raise _invalid(f"{name.decode()}: is not offered")
        attributes = head.headers.get(_ATTRIBUTES, b"")
        if not _ATTRIBUTE_TEXT.fullmatch(attributes):
            raise _invalid("CustomAttributes: want up to 1024 characters of ASCII")
        names = {head.headers[header] for header in _TARGETS if header in head.headers}
        if len(names) > 1:
            raise _invalid("TargetModel, TargetVariant, InferenceComponentName: name different models")
        entry = self._models.get(names.pop().decode("latin-1")) if names else self._models.default()
        if entry is not None:
            head.identity = _identity(entry, attributes)
            return self._sagemaker.plan(head, entry, _reply)
        plans = {
            name: (_identity(entry, attributes), self._sagemaker.plan(head, entry, _reply))
            for name, entry in self._models.entries.items()
        }

        def run(exchange: Exchange) -> None:
            exchange.identity, plan = plans[self._models.draw().name]
            plan(exchange)

        return run


def _invalid(reason: str) -> EndpointError:
    return EndpointError("ValidationError", 400, RequestError(400, reason), {"Message": reason})


def _identity(entry: Entry, attributes: bytes) -> bytes:
    lines = b"x-Amzn-Invoked-Production-Variant: %b\r\n" % entry.name.encode()
    if attributes:
        # SageMaker's use of it: whoever sends an id finds it in the answer.
        lines += b"X-Amzn-SageMaker-Custom-Attributes: %b\r\n" % attributes
    return entry.identity + lines


def _reply(entry: Entry, content_type: bytes) -> RowReply:
    key = "endpoint", content_type
    if key not in entry.replies:
        entry.replies[key] = EndpointReply(entry.metrics.seconds("sagemaker"), content_type)
    return cast("RowReply", entry.replies[key])
