"""SageMaker's protocol: /ping, /invocations, and /models for several models in one process."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, unquote

import orjson

from bundle.format import BundleError
from serving import formats, log
from serving.errors import RequestError
from serving.exchange import deliver_all
from serving.formats import choose_answer, request_type
from serving.large import LARGE, Large, read_csv, read_json
from serving.model import NoModelError
from serving.responses import CSV, JSON
from serving.routes import GET, POST, Route, at_once
from serving.settings import MODEL_NAME
from serving.texts import Frames, Lines, may_be_row

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from serving.batch import Batch, RowReply
    from serving.exchange import Exchange, Head
    from serving.metrics import Histogram
    from serving.models import Entry, Models
    from serving.responses import Heads
    from serving.routes import Plan
    from serving.settings import Settings

_MODEL_PATH: Final = re.compile(r"/models/([^/]+)(/invoke)?")
_NUMBER: Final = re.compile("[0-9]{1,9}")
_PAGE: Final = 100


class CsvReply:
    """Answers with a line for each row."""

    content_type: bytes = CSV

    def __init__(self, seconds: Histogram, heads: dict[int, bytes]) -> None:
        self.seconds = seconds
        self._heads = heads

    def send_rows(self, requests: Sequence[Exchange], batch: Batch, start: int) -> Sequence[bytes]:
        """Answer requests of one row each."""
        bodies = batch.between(b"", b"\n", start, len(requests))
        deliver_all(requests, self._heads, CSV, bodies)
        return bodies

    def send(self, request: Exchange, batch: Batch, start: int, stop: int) -> bytes:
        """Answer."""
        return request.deliver(self._heads, CSV, formats.csv_answer(batch.tokens[start:stop]))


class JsonReply:
    """Answers with `{"predictions": […]}`."""

    content_type: bytes = JSON

    def __init__(self, seconds: Histogram, heads: dict[int, bytes]) -> None:
        self.seconds = seconds
        self._heads = heads

    def send_rows(self, requests: Sequence[Exchange], batch: Batch, start: int) -> Sequence[bytes]:
        """Answer requests of one row each."""
        nested = batch.predictions.ndim > 1
        before, after = (b'{"predictions":[[', b"]]}") if nested else (b'{"predictions":[', b"]}")
        bodies = batch.between(before, after, start, len(requests))
        deliver_all(requests, self._heads, JSON, bodies)
        return bodies

    def send(self, request: Exchange, batch: Batch, start: int, stop: int) -> bytes:
        """Answer."""
        return request.deliver(self._heads, JSON, formats.json_answer(batch.tokens[start:stop]))


class SageMaker:
    """The routes of SageMaker's contract for containers of one and of several models."""

    def __init__(self, models: Models, settings: Settings, heads: Heads) -> None:
        self._models = models
        self._heads = heads
        # From where models may be loaded by request, if at all.
        self._root = settings.models_dir if settings.models_api else None
        self._large = Large()
        self._tasks: set[asyncio.Task[None]] = set()

    def route(self, path: str) -> Route | None:
        """Return the route of a path, if it is one of this protocol."""
        if path == "/invocations":
            return Route("invocations", {POST: self._invocations})
        if path == "/models":
            return Route("models", {GET: self._list, POST: at_once(self._load)})
        match = _MODEL_PATH.fullmatch(path)
        if match is None:
            return None
        name = unquote(match[1])
        if match[2]:
            return Route("invoke", {POST: partial(self._invoke_named, name)})
        show, unload = partial(self._show, name), partial(self._unload, name)
        return Route("models", {GET: at_once(show), b"DELETE": at_once(unload)})

    def _invocations(self, head: Head) -> Plan:
        headers = head.headers
        name = headers.get(b"x-amzn-sagemaker-target-model") or headers.get(b"x-model")
        entry = self._models.default() if name is None else self._models.get(name.decode("latin-1"))
        if entry is not None:
            return self._invoke(head, entry)
        plans = {name: self.plan(head, entry) for name, entry in self._models.entries.items()}
        draw = self._models.draw

        def run(exchange: Exchange) -> None:
            entry = draw()
            exchange.identity = entry.identity
            plans[entry.name](exchange)

        return run

    def _invoke_named(self, name: str, head: Head) -> Plan:
        return self._invoke(head, self._models.get(name))

    def _invoke(self, head: Head, entry: Entry) -> Plan:
        head.identity = entry.identity
        return self.plan(head, entry)

    def plan(
        self, head: Head, entry: Entry, replies: Callable[[Entry, bytes], RowReply] | None = None
    ) -> Plan:
        """Plan to answer the requests with this head from one model; raises `RequestError`.

        `replies` gives the reply of a model and a content type, if it is to be another than usual.
        """
        headers = head.headers
        content_type = request_type(headers.get(b"content-type", b""))
        wanted = choose_answer(content_type, headers.get(b"accept", b""))
        reply = (replies or self._reply)(entry, wanted)
        batcher, reader = entry.batcher, entry.model.reader
        quick, careful = (
            (reader.quick_csv, reader.csv) if content_type is CSV else (reader.quick_json, reader.json)
        )
        read = read_csv if content_type is CSV else read_json
        take_numbers, take, large = batcher.take_numbers, batcher.take, self._large

        def run(exchange: Exchange) -> None:
            if len(exchange.body) >= LARGE:
                large.take(exchange, reply, batcher, read(batcher, exchange.body))
                return
            rows = quick(exchange.body)
            if rows is None or not take_numbers(exchange, reply, rows):
                take(exchange, reply, careful(exchange.body))

        if not reader.numeric or batcher.shadow is not None or not may_be_row(head, batcher.model.width):
            return run
        layout = Lines() if content_type is CSV else Frames(entry.model.width, reader.quick_json)
        return batcher.queue(reply, layout, head.route, run)

    def _reply(self, entry: Entry, content_type: bytes) -> CsvReply | JsonReply:
        """Return the reply of a model and a format: one, so that what it answers is counted at once."""
        if content_type not in entry.replies:
            kind = CsvReply if content_type is CSV else JsonReply
            heads = self._heads.usual(content_type, entry.identity)
            entry.replies[content_type] = kind(entry.metrics.seconds("sagemaker"), heads)
        return cast("CsvReply | JsonReply", entry.replies[content_type])

    # The models themselves.

    def _list(self, head: Head) -> Plan:
        query = parse_qs(head.target.partition(b"?")[2].decode("latin-1"))
        token, limit = query.get("next_page_token", ["0"])[-1], query.get("limit", [str(_PAGE)])[-1]
        if not (_NUMBER.fullmatch(token) and _NUMBER.fullmatch(limit) and int(limit)):
            raise RequestError(400, "limit, next_page_token: want numbers")
        start, stop = int(token), int(token) + int(limit)

        def run(exchange: Exchange) -> None:
            entries = list(self._models.entries.values())
            answer: dict[str, Any] = {"models": [_described(entry) for entry in entries[start:stop]]}
            if stop < len(entries):
                answer["nextPageToken"] = str(stop)
            exchange.respond(200, JSON, orjson.dumps(answer))

        return run

    def _show(self, name: str, exchange: Exchange) -> None:
        exchange.respond(200, JSON, orjson.dumps(_described(self._models.get(name))))

    def _unload(self, name: str, exchange: Exchange) -> None:
        self._writable()
        exchange.respond(200, JSON, orjson.dumps(_described(self._models.unload(name))))

    def _load(self, exchange: Exchange) -> None:
        root = self._writable()
        name, url = _wanted(exchange.body)
        self._start(self._load_later(exchange, name, _within(root, url), url))

    async def _load_later(self, exchange: Exchange, name: str, directory: Path, url: str) -> None:
        try:
            entry = await self._models.load(name, directory, url)
            exchange.respond(200, JSON, orjson.dumps(_described(entry)))
        except RequestError as error:
            exchange.fail(error)
        except NoModelError:
            exchange.fail(RequestError(404, f"url: there is no bundle in {url}"))
        except BundleError as error:
            exchange.fail(RequestError(400, f"the bundle is refused: {error}"))
        except Exception as error:  # noqa: BLE001  whatever it is, the request gets an answer
            log.error("internal error", error, route="models")
            exchange.fail(RequestError(500, "internal error"))

    def _writable(self) -> Path:
        if self._root is None:
            reason = "to load and unload models by request needs SERVING_MODELS_API=on and SERVING_WORKERS=1"
            raise RequestError(403, reason)
        return self._root

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _within(root: Path, url: str) -> Path:
    """Return the directory that is meant, links followed; raises `RequestError` unless it is in the root."""
    try:
        directory = Path(url).resolve()
        there = directory.is_dir()
    except (OSError, RuntimeError):  # too long a path, or links that go in circles
        directory, there = root, False
    if not directory.is_relative_to(root.resolve()):
        raise RequestError(400, "url: want a directory in that of the models, SERVING_MODELS_DIR")
    if not there:
        raise RequestError(404, "url: there is no such directory")
    return directory


def _described(entry: Entry) -> dict[str, str]:
    return {"modelName": entry.name, "modelUrl": entry.url}


def _wanted(body: bytes) -> tuple[str, str]:
    """Read a request to load a model: its name, and the directory that SageMaker calls its URL."""
    try:
        document: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"malformed JSON: {error}") from error
    found = cast("dict[str, object]", document) if isinstance(document, dict) else {}
    name, url = found.get("model_name"), found.get("url")
    if not isinstance(name, str) or not MODEL_NAME.fullmatch(name):
        raise RequestError(400, "model_name: want up to 256 letters, digits, '.', '_' and '-'")
    if not isinstance(url, str) or not url or "\0" in url:
        raise RequestError(400, "url: want the directory of a bundle")
    return name, url
