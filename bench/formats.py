"""How each kind of client writes rows and reads predictions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.sample import FEATURES, NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.sample import Row


@dataclass(frozen=True, kw_only=True)
class Format:
    """A request's path and body, and the answer's meaning."""

    name: str
    path: str
    content_type: str
    encode: Callable[[Sequence[Row]], bytes]
    decode: Callable[[bytes], list[float]]

    def request(self, rows: Sequence[Row]) -> bytes:
        """Return a whole HTTP/1.1 request."""
        body = self.encode(rows)
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def _csv(rows: Sequence[Row]) -> bytes:
    return "\n".join(",".join(map(str, row)) for row in rows).encode()


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _tensor(rows: Sequence[Row]) -> bytes:
    data = [value for row in rows for value in row]
    tensor = {"name": "input-0", "shape": [len(rows), FEATURES], "datatype": "FP32", "data": data}
    return _compact({"inputs": [tensor]})


def _floats(values: Sequence[Any]) -> list[float]:
    return [float(value) for value in values]


CSV = Format(
    name="csv",
    path="/invocations",
    content_type="text/csv",
    encode=_csv,
    decode=lambda body: _floats(body.split()),
)
JSON = Format(
    name="json",
    path="/invocations",
    content_type="application/json",
    encode=lambda rows: _compact({"instances": rows}),
    decode=lambda body: _floats(json.loads(body)["predictions"]),
)
V2 = Format(
    name="v2",
    path=f"/v2/models/{NAME}/infer",
    content_type="application/json",
    encode=_tensor,
    decode=lambda body: _floats(json.loads(body)["outputs"][0]["data"]),
)
OURS = (CSV, JSON, V2)

PREDICT = Format(
    name="json", path="/predict", content_type=JSON.content_type, encode=JSON.encode, decode=JSON.decode
)
BENTOML = Format(
    name="json",
    path="/predict",
    content_type=JSON.content_type,
    encode=lambda rows: _compact({"rows": rows}),
    decode=lambda body: _floats(json.loads(body)),
)
