"""The Open Inference Protocol, version 2, over REST, with the extension for binary tensors."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from urllib.parse import unquote

import orjson

from serving import inference, tensors
from serving.batch import FULL
from serving.errors import RequestError
from serving.exchange import deliver_all
from serving.inference import OUTPUT, Inference
from serving.large import LARGE, Large
from serving.responses import JSON, RETRY
from serving.routes import GET, POST, Route, at_once
from serving.texts import Frames, may_be_row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serving.batch import Batch, Reply
    from serving.exchange import Exchange, Head
    from serving.formats import Row
    from serving.metrics import Histogram
    from serving.models import Entry, Models
    from serving.routes import Plan
    from serving.server import Server

_AnyReply = TypeVar("_AnyReply", bound="Reply")

_MODEL_PATH: Final = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(/infer|/ready)?")
_HEADER_LENGTH: Final = b"inference-header-content-length"
_OCTETS: Final = b"application/octet-stream"
# What clients send who mean JSON; curl's own default is the third.
_MEDIA: Final = frozenset((b"", JSON, b"application/x-www-form-urlencoded", _OCTETS))


class JsonReply:
    """Answers with the predictions in JSON."""

    __slots__ = ("_before", "_heads", "seconds")
    content_type: bytes = JSON

    def __init__(self, seconds: Histogram, heads: dict[int, bytes], before: bytes) -> None:
        self.seconds = seconds
        self._heads = heads
        self._before = before + b'"outputs":[{"name":"%b","datatype":"FP32","shape":[' % OUTPUT.encode()

    def send_rows(self, requests: Sequence[Exchange], batch: Batch, start: int) -> Sequence[bytes]:
        """Answer requests of one row each."""
        shape = b",".join([b"1", *(b"%d" % size for size in batch.predictions.shape[1:])])
        before = self._before + shape + b'],"data":['
        # Not `between`: to copy so long a text twice takes longer.
        bodies = [before + token + b"]}]}" for token in batch.tokens[start : start + len(requests)]]
        deliver_all(requests, self._heads, JSON, bodies)
        return bodies

    def send(self, request: Exchange, batch: Batch, start: int, stop: int) -> bytes:
        """Answer."""
        data = b",".join(batch.tokens[start:stop])
        sizes = (stop - start, *batch.predictions.shape[1:])
        shape = b"1" if sizes == (1,) else b",".join([b"%d" % size for size in sizes])
        return request.deliver(self._heads, JSON, b'%b%b],"data":[%b]}]}' % (self._before, shape, data))


class BinaryReply:
    """Answers with the predictions as bytes behind the JSON."""

    __slots__ = ("_before", "seconds")
    content_type: bytes = _OCTETS

    def __init__(self, seconds: Histogram, before: bytes) -> None:
        self.seconds = seconds
        self._before = before

    def send(self, request: Exchange, batch: Batch, start: int, stop: int) -> bytes:
        """Answer."""
        part = batch.predictions[start:stop]
        output = {
            "name": OUTPUT,
            "datatype": "FP32",
            "shape": list(part.shape),
            "parameters": {"binary_data_size": part.size * 4},
        }
        head = b'%b"outputs":[%b]}' % (self._before, orjson.dumps(output))
        extra = b"Inference-Header-Content-Length: %d\r\n" % len(head)
        body = head + part.astype("<f4").tobytes()
        request.respond(200, _OCTETS, body, extra)
        return body


class V2:
    """The routes under /v2."""

    def __init__(self, models: Models, server: Server) -> None:
        self._models = models
        self._server = server
        self._large = Large()
        self._fixed = {
            "/v2": Route("v2", {GET: at_once(_show_server)}),
            "/v2/health/live": Route("v2_live", {GET: at_once(_live)}),
            "/v2/health/ready": Route("v2_ready", {GET: at_once(self._ready)}),
            "/v2/repository/index": Route("v2_index", {POST: at_once(self._index)}),
        }

    def route(self, path: str) -> Route | None:
        """Return the route of a path, if it is one of this protocol."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed
        match = _MODEL_PATH.fullmatch(path)
        if match is None:
            return None
        name, version = unquote(match[1]), None if match[2] is None else unquote(match[2])
        if match[3] == "/infer":
            return Route("v2_infer", {POST: partial(self._infer, name, version)})
        plan = self._plan_model_ready if match[3] else self._plan_model
        return Route("v2_model_ready" if match[3] else "v2_model", {GET: partial(plan, name, version)})

    def _find(self, head: Head, name: str, version: str | None) -> Entry:
        entry = inference.find(self._models, name, version)
        head.identity = entry.identity
        return entry

    def _infer(self, name: str, version: str | None, head: Head) -> Plan:
        headers = head.headers
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() not in _MEDIA:
            raise RequestError(415, "Content-Type: want application/json or application/octet-stream")
        length = headers.get(_HEADER_LENGTH)
        if length is not None and not (length.isdigit() and len(length) < 20):
            raise RequestError(400, "Inference-Header-Content-Length: want a number")
        infer = Infer(self._find(head, name, version), self._server, self._large)
        return infer.plan(head) if length is None else partial(infer.binary, int(length))

    def _plan_model(self, name: str, version: str | None, head: Head) -> Plan:
        text = orjson.dumps(inference.described(self._find(head, name, version)))
        return lambda exchange: exchange.respond(200, JSON, text)

    def _plan_model_ready(self, name: str, version: str | None, head: Head) -> Plan:
        text = orjson.dumps({"name": self._find(head, name, version).name, "ready": True})

        def run(exchange: Exchange) -> None:
            self._check()
            exchange.respond(200, JSON, text)

        return run

    def _ready(self, exchange: Exchange) -> None:
        self._check()
        exchange.respond(200, JSON, b'{"ready":true}')

    def _check(self) -> None:
        if self._server.draining:
            raise RequestError(503, "draining", headers=RETRY)
        self._models.check_everywhere()

    def _index(self, exchange: Exchange) -> None:
        entries = self._models.entries.values()
        found = [{"name": entry.name, "version": entry.model.version, "state": "READY"} for entry in entries]
        exchange.respond(200, JSON, orjson.dumps(found))


class Infer:
    """Answers inference requests from one model."""

    def __init__(self, entry: Entry, server: Server, large: Large) -> None:
        self._entry = entry
        self._batcher = entry.batcher
        self._inference = Inference(entry, large)
        self._heads = server.heads.usual(JSON, entry.identity)
        self._seconds = entry.metrics.seconds("v2")
        names = orjson.dumps({"model_name": entry.name, "model_version": entry.model.version})
        self._before = names[:-1] + b","
        self._width = len(entry.model.columns)
        self._most = min(FULL, server.settings.max_rows) if entry.model.plain else 0
        # One for all that ask for nothing special, so that what it answers is counted at once.
        self._usual = self._shared("v2", lambda: JsonReply(self._seconds, self._heads, self._before))
        self._usual_binary = self._shared("v2 binary", lambda: BinaryReply(self._seconds, self._before))

    def plan(self, head: Head) -> Plan:
        """Plan to answer requests that are JSON and nothing else."""
        if not self._most or self._batcher.shadow is not None or not may_be_row(head, self._width):
            return self.json
        layout = Frames(self._width, self._only_rows)
        return self._batcher.queue(self._usual, layout, head.route, self.json)

    def _only_rows(self, body: bytes) -> Sequence[Row] | None:
        """Return the rows of a request that brings nothing else, or None."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        rows = tensors.quick_rows(document, self._width, self._most)
        return rows if rows is not None and len(document) == 1 else None

    def json(self, exchange: Exchange) -> None:
        """Answer a request that is JSON and nothing else."""
        document = self._parse(exchange.body)
        rows = tensors.quick_rows(document, self._width, self._most)
        if rows is not None:
            reply = self._usual if len(document) == 1 else self._reply(document)
            if self._batcher.take_numbers(exchange, reply, rows):
                return
        self._take(exchange, document, None)

    def binary(self, length: int, exchange: Exchange) -> None:
        """Answer a request of so many bytes of JSON, with binary tensors behind them."""
        body = exchange.body
        if length > len(body):
            raise RequestError(400, "Inference-Header-Content-Length: is larger than the body")
        self._take(exchange, self._parse(body[:length]), body[length:])

    def _parse(self, body: bytes) -> Any:  # noqa: ANN401  whatever it is
        if len(body) >= LARGE:
            self._entry.model.reader.check_nesting(body)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RequestError(400, f"malformed JSON: {error}") from error

    def _take(self, exchange: Exchange, document: object, binary: bytes | None) -> None:
        found = tensors.read(document, binary)
        self._inference.take(exchange, self._reply(cast("dict[str, object]", document)), found)

    def _reply(self, document: dict[str, object]) -> Reply:
        """Return what answers as the request asks; raises `RequestError`."""
        binary = _wants_binary(document)
        name = document.get("id")
        if name is None:
            return self._usual_binary if binary else self._usual
        if not isinstance(name, str):
            raise RequestError(400, "id: want a text")
        before = b'%b"id":%b,' % (self._before, orjson.dumps(name))
        if binary:
            return BinaryReply(self._seconds, before)
        return JsonReply(self._seconds, self._heads, before)

    def _shared(self, key: str, make: Callable[[], _AnyReply]) -> _AnyReply:
        replies = self._entry.replies
        if key not in replies:
            replies[key] = make()
        return cast("_AnyReply", replies[key])


def _show_server(exchange: Exchange) -> None:
    answer = {"name": inference.SERVER, "version": inference.VERSION, "extensions": ["binary_tensor_data"]}
    exchange.respond(200, JSON, orjson.dumps(answer))


def _live(exchange: Exchange) -> None:
    exchange.respond(200, JSON, b'{"live":true}')


def _wants_binary(document: dict[str, object]) -> bool:
    """Return whether the answer's tensor is to be binary; raises `RequestError`."""
    binary = _flag(document, "binary_data_output")
    outputs = document.get("outputs")
    if outputs is None or outputs == []:
        return bool(binary)
    if not isinstance(outputs, list):
        raise RequestError(400, "outputs: want an array")
    if len(cast("list[object]", outputs)) > 1:
        raise RequestError(400, f"outputs: there is one, {OUTPUT!r}")
    output = cast("list[object]", outputs)[0]
    if not isinstance(output, dict) or cast("dict[str, object]", output).get("name") != OUTPUT:
        raise RequestError(400, f"outputs: the only one is {OUTPUT!r}")
    own = _flag(cast("dict[str, object]", output), "binary_data")
    return bool(binary if own is None else own)


def _flag(members: dict[str, object], name: str) -> bool | None:
    parameters = members.get("parameters")
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        raise RequestError(400, "parameters: want an object")
    found = cast("dict[str, object]", parameters).get(name)
    if found is not None and not isinstance(found, bool):
        raise RequestError(400, f"parameters: {name}: want true or false")
    return found
