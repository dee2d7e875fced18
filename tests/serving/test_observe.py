"""What observers are told: everything, once, in columns that fit together, and soon."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from serving import columns
from serving.context import Context
from serving.observe import Answers, Audience, Turn
from tests.serving.capture_support import captured, data
from tests.serving.serving_support import Client, csv_body, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.serving.serving_support import Made, Served

CSV, JSON = b"text/csv", b"application/json"


class Asked:
    """A request, as far as `Answers` looks at it."""

    def __init__(self, body: bytes, context: Context | None = None) -> None:
        self.body = body
        self.head = "head"
        self.context = context
        self.answer = b"head\n" + body


class Keeper:
    """An observer that keeps what it is told."""

    def __init__(self, *, fails: bool = False) -> None:
        self.told: list[Answers] = []
        self.fails = fails

    def observe(self, answers: Answers) -> None:
        self.told.append(answers)
        if self.fails:
            raise ZeroDivisionError


def take(audience: Audience, *bodies: bytes, rows: int = 1, kind: bytes = CSV, own: str = "") -> None:
    requests = [Asked(body, Context({}) if body.decode() in own.split() else None) for body in bodies]
    audience.take(
        requests,
        [rows] * len(bodies),
        [b"answer to " + body for body in bodies],
        Turn(0.5, 1.0, 2.0, rows * len(bodies)),
        kind,
    )


def test_turns_are_told_together_and_soon() -> None:
    keeper = Keeper()

    async def run() -> None:
        audience = Audience([Keeper(fails=True), keeper])
        take(audience, b"a", b"b")
        take(audience, b"c", kind=JSON)
        take(audience, b"d", b"e", rows=3, own="e")
        assert not keeper.told
        await asyncio.sleep(0.1)
        assert len(keeper.told) == 2  # one observer's defect costs no other
        take(audience, *[b"e"] * 1023)
        assert len(keeper.told) == 2
        take(audience, b"f")
        assert len(keeper.told) == 3  # so many are told at once
        audience.flush()
        await asyncio.sleep(0.1)
        assert len(keeper.told) == 3

    asyncio.run(run())
    first, second, third = keeper.told
    assert (first.content_type, second.content_type) == (CSV, JSON)
    assert first.asked == [b"a", b"b", b"d", b"e"]
    assert first.answered == [b"answer to a", b"answer to b", b"answer to d", b"answer to e"]
    assert first.sizes == [1, 1, 3, 3]
    assert first.sent == [6, 6, 6, 6]
    assert [first.turn(number).rows for number in range(4)] == [2, 2, 6, 6]
    assert first.contexts.keys() == {3}
    assert first.heads == ["head"] * 4
    assert len(third) == len(third.asked) == 1024
    assert not third.contexts
    assert not third.requests
    some = first.only([3, 0])
    assert len(some) == 2
    assert some.asked == [b"e", b"a"]
    assert some.contexts == {0: first.contexts[3]}
    assert [some.turn(number).rows for number in (0, 1)] == [6, 2]
    assert third.only([1023]).answered == [b"answer to f"]


def test_what_must_be_told_at_once_is() -> None:
    keeper = Keeper()

    async def run() -> None:
        audience = Audience([keeper], at_once=True)
        take(audience, b"a")
        assert len(keeper.told) == 1
        assert [request.body for request in keeper.told[0].requests] == [b"a"]

    asyncio.run(run())


@given(st.lists(st.lists(st.binary(max_size=5), min_size=3, max_size=3), max_size=6), st.binary(max_size=5))
def test_columns_become_lines(lines: list[list[bytes]], constant: bytes) -> None:
    one, two, three = ([line[place] for line in lines] for place in range(3))
    expected = b"".join(b"".join((line[0], constant, line[1], line[2], constant)) for line in lines)
    assert columns.joined(len(lines), one, constant, two, three, constant) == expected


def test_each_of_many_at_once_is_written_down(
    serve: Callable[..., Served], plain: Made, tmp_path: Path
) -> None:
    """With an id and without, in three forms, on many connections: each record and line is of its request."""
    served = serve(plain.directory, capture_to=tmp_path / "to", log_requests="on")
    served.wait_for("ready")
    sent: dict[str, tuple[bytes, bytes]] = {}
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(served.port)) for _ in range(30)]
        asked: list[list[tuple[str, bytes]]] = []
        for number, client in enumerate(clients):
            row = [number, 2.5, 7]
            forms = [csv_body([row]), json.dumps({"instances": [row]}).encode(), csv_body([row, row])]
            asked.append([(f"own-{number}-{turn}", forms[(number + turn) % 3]) for turn in range(20)])
            for turn, (name, body) in enumerate(asked[-1]):
                own = {"X_Request_Id": name} if turn % 2 else {}
                kind = "application/json" if body.startswith(b"{") else "text/csv"
                client.send(request("POST", "/invocations", body, kind, **own))
        for client, bodies in zip(clients, asked, strict=True):
            for turn, (name, body) in enumerate(bodies):
                answer = client.receive()
                assert answer.status == 200
                assert answer.headers.get("x-request-id", "") == (name if turn % 2 else "")
                if turn % 2:
                    sent[name] = body, answer.body
    assert served.terminate() == 0
    records = captured(tmp_path / "to")
    assert len({record["eventMetadata"]["eventId"] for record in records}) == len(records) == 600
    named = {record["eventMetadata"]["customAttributes"][-1]: record for record in records}
    for name, (body, answer_body) in sent.items():
        record = named[f"request={name}"]
        assert data(record, "endpointInput") == body
        assert data(record, "endpointOutput") == answer_body
    lines = {line["request_id"]: line for line in served.events("request")}
    assert len(lines) == 600
    assert lines.keys() >= sent.keys()
    assert Counter(line["rows"] for line in lines.values()) == {1: 400, 2: 200}
    assert all(0 < line["seconds"] < 20 for line in lines.values())
    for name, (body, _) in sent.items():
        assert lines[name]["request_bytes"] == len(body)
        assert lines[name]["rows"] == body.count(b"\n") + 1
