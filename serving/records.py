"""Captured predictions in the layout of SageMaker's data capture: a JSON object a line."""

from __future__ import annotations

import secrets
from binascii import b2a_base64
from typing import TYPE_CHECKING, Final, Literal

import orjson

from serving.ids import Ids
from serving.responses import CSV, JSON

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Encoding = Literal["CSV", "JSON", "BASE64"]

_BINARY_BEHIND_JSON: Final = b"inference-header-content-length"
INFERENCE_ID: Final = b"x-amzn-sagemaker-inference-id"
CUSTOM_ATTRIBUTES: Final = b"x-amzn-sagemaker-custom-attributes"

_LINE_END: Final = b"\\n"  # as JSON has it
# A multiple of three: only then pieces of Base64 can be put together.
_PIECE: Final = 48 * 1024


class Form:
    """What the records of requests with one head, answered by one model in one content type, share.

    A record is `before`, the input, `between`, the output, `after`, the event's id and its `End`, where input
    and output are escaped in their encodings. `custom` is the attribute that the client gave.
    """

    __slots__ = ("after", "answers", "before", "between", "custom", "input", "output")

    def __init__(self, headers: Mapping[bytes, bytes], answers: bytes) -> None:
        self.answers = answers
        self.input: Encoding = input_encoding(headers)
        self.output: Encoding = output_encoding(answers)
        custom = headers.get(CUSTOM_ATTRIBUTES)
        self.custom = b",%b" % json_text(custom) if custom else b""
        observed = headers.get(b"content-type", JSON)
        self.before = b'{"captureData":{"endpointInput":%b' % _begin("INPUT", observed)
        self.between = b'%b,"endpointOutput":%b' % (_end(self.input), _begin("OUTPUT", answers))
        self.after = b'%b},"eventMetadata":{"eventId":"' % _end(self.output)

    @property
    def key(self) -> tuple[bytes, ...]:
        """All that sets it apart from other forms of one model."""
        return self.before, self.between, self.after, self.custom

    def pieces(self, body: bytes, answer: bytes, event: bytes, end: bytes) -> Iterator[bytes]:
        """Give a record, a little at a time."""
        yield self.before
        yield from escaped_pieces(body, self.input)
        yield self.between
        yield from escaped_pieces(answer, self.output)
        yield self.after + event + end


class End:
    """The end of a record, from after the event's id; with more attributes, if there are."""

    __slots__ = ("_after", "_before", "now", "whole")

    def __init__(self, now: bytes, attributes: list[str]) -> None:
        self.now = now
        # SageMaker has a list of texts for whatever else is to be said.
        self._before = b'","customAttributes":%b' % orjson.dumps(attributes)[:-1]
        self._after = b'],"inferenceTime":"%b"' % now
        self.whole = self.having(b"")

    def having(self, attributes: bytes, inference_id: bytes = b"") -> bytes:
        """Return the end with more attributes, each a JSON text after a comma."""
        inference = b',"inferenceId":%b' % json_text(inference_id) if inference_id else b""
        return b'%b%b%b%b},"eventVersion":"0"}\n' % (self._before, attributes, self._after, inference)


def event_ids() -> Ids:
    """Return where UUIDs of version 8 come from: random bits for this process, then a number."""
    text, variant = secrets.token_hex(9), "89ab"[secrets.randbelow(4)]
    return Ids(f"{text[:8]}-{text[8:12]}-8{text[12:15]}-{variant}{text[15:18]}-".encode(), digits=12)


def input_encoding(headers: Mapping[bytes, bytes]) -> Encoding:
    """Return how the body of a request that was answered is written."""
    media = _media(headers.get(b"content-type", b""))
    if media == CSV:
        return "CSV"
    if media.startswith(b"application/grpc") or _BINARY_BEHIND_JSON in headers:
        return "BASE64"
    # Whatever clients call it: what is neither of these has been read as JSON.
    return "JSON"


def output_encoding(content_type: bytes) -> Encoding:
    """Return how answers of a content type are written."""
    media = _media(content_type)
    return "CSV" if media == CSV else "JSON" if media == JSON else "BASE64"


def escaped_all(bodies: Sequence[bytes], encoding: Encoding) -> Sequence[bytes]:
    """Return bodies as JSON texts, without their quotation marks."""
    if encoding == "BASE64":
        return [b2a_base64(body, newline=False) for body in bodies]
    # Rows of CSV have nothing to escape: for many of them, one look at all is a quarter of the work.
    if _is_plain(bodies[0]) and _is_plain(b"".join(bodies)):
        return bodies
    return [orjson.dumps(body.decode())[1:-1] for body in bodies]


def escaped_answers(answers: Sequence[bytes], encoding: Encoding) -> Sequence[bytes]:
    """Return what `escaped_all` does, for answers made here: of CSV they are lines of numbers."""
    if encoding == "CSV":
        text = b"".join(answers)
        if text.count(b"\n") == len(answers):
            return text.replace(b"\n", _LINE_END + b"\n").split(b"\n")[:-1]
    return escaped_all(answers, encoding)


def _is_plain(body: bytes) -> bool:
    """Return whether a text has nothing to escape."""
    return len(orjson.dumps(body.decode())) == len(body) + 2


def escaped_pieces(data: bytes, encoding: Encoding) -> Iterator[bytes]:
    """Give a body as `escaped_all` returns it, a little at a time."""
    if encoding == "BASE64":
        for start in range(0, len(data), _PIECE):
            yield b2a_base64(data[start : start + _PIECE], newline=False)
    else:
        text = data.decode()
        for start in range(0, len(text), _PIECE):
            yield orjson.dumps(text[start : start + _PIECE])[1:-1]


def _begin(mode: str, content_type: bytes) -> bytes:
    return b'{"observedContentType":%b,"mode":"%b","data":"' % (json_text(content_type), mode.encode())


def _end(encoding: Encoding) -> bytes:
    return b'","encoding":"%b"}' % encoding.encode()


def json_text(header: bytes) -> bytes:
    """Return a header's value as a JSON text."""
    return orjson.dumps(header.decode("latin-1"))


def _media(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0].strip().lower()
