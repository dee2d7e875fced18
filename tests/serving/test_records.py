"""The parts of capture: records, their ids, the collecting in memory, and the files."""

import asyncio
import base64
import json
import mmap
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import records, stores
from serving import writer as writer_module
from serving.formats import csv_answer
from serving.records import Form, escaped_all, escaped_answers
from serving.writer import Writer
from tests.serving.capture_support import captured

CSV, JSON = b"text/csv", b"application/json"


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    async def put(self, key: str, pages: memoryview, size: int) -> None:
        assert len(pages) % mmap.PAGESIZE == 0
        assert 0 <= len(pages) - size < mmap.PAGESIZE
        self.objects[key] = bytes(pages[:size])


_LONG = st.sampled_from([49_151, 49_152, 49_153, 98_305]).map(
    lambda size: "ä\n" * (size // 2) + "x" * (size % 2)
)


@settings(max_examples=80)
@given(
    content_type=st.sampled_from([CSV, JSON, b"application/grpc", 'text/csv; x="ß%s"'.encode("latin-1")]),
    body=st.one_of(st.text().map(str.encode), _LONG.map(str.encode), st.binary()),
    answer=st.tuples(st.sampled_from([CSV, JSON]), st.text().map(str.encode))
    | st.tuples(st.just(b"application/octet-stream"), st.binary()),
    inference=st.binary(max_size=50),
)
def test_a_record_says_what_was_sent(
    content_type: bytes, body: bytes, answer: tuple[bytes, bytes], inference: bytes
) -> None:
    headers = {b"content-type": content_type}
    try:
        body.decode()
    except UnicodeDecodeError:
        headers[b"content-type"] = content_type = b"application/grpc"
    form = Form(headers, answer[0])
    event = b"01234567-89ab-8cde-8f01-23456789abcd"
    end = records.End(b"2026-01-31T00:00:00Z", ["model=m"]).having(b"", inference)
    line = b"".join(form.pieces(body, answer[1], event, end))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    [data], [prediction] = escaped_all([body], form.input), escaped_all([answer[1]], form.output)
    assert b"".join((form.before, data, form.between, prediction, form.after, event, end)) == line
    record: dict[str, Any] = json.loads(line)
    assert list(record) == ["captureData", "eventMetadata", "eventVersion"]
    for side, observed, sent in (
        ("endpointInput", content_type, body),
        ("endpointOutput", answer[0], answer[1]),
    ):
        part = record["captureData"][side]
        assert part["observedContentType"].encode("latin-1") == observed
        found = base64.b64decode(part["data"]) if part["encoding"] == "BASE64" else part["data"].encode()
        assert found == sent
    assert record["eventMetadata"]["eventId"] == event.decode()
    named = record["eventMetadata"].get("inferenceId")
    assert (named or "").encode("latin-1") == inference


_PIECES = st.sampled_from(["\0", "\\", "\\n", '"', "\n", "\r", "\x7f", "é", "1.5,-2e3", "0.5\n", ""])


@settings(max_examples=300)
@given(st.lists(st.lists(_PIECES, max_size=4).map("".join) | st.text(max_size=9), min_size=1, max_size=5))
def test_bodies_are_escaped_together_as_each_would_be(texts: list[str]) -> None:
    found = escaped_all([text.encode() for text in texts], "JSON")
    assert [json.loads(b'"%b"' % one) for one in found] == texts


@given(st.lists(st.lists(st.floats(width=32) | st.just(0.5), min_size=1, max_size=3), min_size=1, max_size=4))
def test_answers_are_escaped_together_as_each_would_be(answers: list[list[float]]) -> None:
    bodies = [csv_answer([repr(number).encode() for number in rows]) for rows in answers]
    found = escaped_answers(bodies, "CSV")
    assert [json.loads(b'"%b"' % one).encode() for one in found] == bodies


def test_ids_are_never_the_same() -> None:
    first, second = records.event_ids(), records.event_ids()
    taken = [first.one() for _ in range(5000)] + [second.one() for _ in range(5000)]
    for count in (1, 4096, 3000, 1096, 4097, 1):
        begin, ends = first.many(count)
        assert len(ends) == count
        taken += [begin + end for end in ends]
    assert len({*taken}) == len(taken)
    assert {len(one) for one in taken} == {36}


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("size", [1, 4096, 4097, 5_000_000])
def test_files_are_whole_on_any_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, refused: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    if refused:
        monkeypatch.setattr(stores, "_write_pages", refuse)
    pages = mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
    pages[:] = b"not of the object\n".ljust(len(pages), b"x")
    pages[:size] = data = (b"of the object\n" * size)[:size]
    asyncio.run(stores.Directory(tmp_path).put("a/b/one.jsonl", memoryview(pages), size))
    assert (tmp_path / "a/b/one.jsonl").read_bytes() == data
    assert (tmp_path / "a/b/one.jsonl").stat().st_mode & 0o777 == 0o600
    assert len(list((tmp_path / "a/b").iterdir())) == 1


def test_records_are_cut_into_objects_that_are_large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_SLACK", 2000)
    store = Kept()
    sent: list[bytes] = []

    async def write() -> None:
        writer = Writer(store, flush_seconds=60, flush_bytes=10_000, most_bytes=60_000)
        spool = writer.spool("m/v")
        # Ends exactly, leaves room, does not fit behind the others, is larger than what is kept for all.
        for size in (10_000, 9_999, 1999, 9000, 4000, 30_000, 3):
            data = bytes([65 + len(sent)]) * (size - 1) + b"\n"
            sent.append(data)
            writer.add(spool, data, 1)
            await asyncio.sleep(0.01)
        await writer.close(5)
        assert (writer.waiting, writer.written, sum(writer.dropped.values())) == (0, len(store.objects), 0)

    asyncio.run(write())
    objects = list(store.objects.values())
    assert b"".join(objects) == b"".join(sent)
    assert [len(one) for one in objects] == [10_000, 11_998, 9000, 4000, 30_000, 3]


def test_memory_is_used_again_by_who_needs_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer that a busy model has filled is in memory wholly; one with a few records must not get it."""
    made: list[int] = []
    mapped = mmap.mmap

    def counted(fileno: int, size: int, **options: int) -> mmap.mmap:
        made.append(size)
        if len(made) > 3:
            raise OSError(12, "Cannot allocate memory")
        return mapped(fileno, size, **options)

    monkeypatch.setattr(writer_module.mmap, "mmap", counted)

    async def write() -> None:
        writer = Writer(Kept(), flush_seconds=60, flush_bytes=10_000, most_bytes=60_000)
        busy, slow = writer.spool("busy/v"), writer.spool("slow/v")
        for _ in range(3):
            writer.add(busy, b"x" * 10_000, 1)
            await asyncio.sleep(0.01)
        assert len(made) == 1
        writer.add(slow, b"x", 1)
        assert len(made) == 2
        writer.add(busy, b"x", 1)
        assert len(made) == 2
        writer.add(busy, b"x" * 3_000_000, 1)  # is larger than all that may wait
        assert writer.dropped["memory"] == 1
        writer.add(writer.spool("other/v"), b"x", 1)
        writer.add(writer.spool("last/v"), b"x", 7)  # there is no memory
        assert writer.dropped["memory"] == 8
        await writer.close(5)
        assert (writer.waiting, writer.written) == (0, 6)

    asyncio.run(write())


def test_an_object_is_of_one_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_769_860_799.25  # 2026-01-31T11:59:59.25Z
    store = Kept()

    async def write() -> None:
        nonlocal now
        monkeypatch.setattr(time, "time", lambda: now)
        writer = Writer(store, flush_seconds=60, flush_bytes=10_000, most_bytes=20_000)
        spool = writer.spool("flights/AllTraffic")
        for data in (b"before\n", b"too\n"):
            writer.add(spool, data, 1)
        now += 1
        writer.add(spool, b"after\n", 1)
        await writer.close(5)
        assert (writer.waiting, writer.written, sum(writer.dropped.values())) == (0, 2, 0)

    asyncio.run(write())
    (first, one), (second, two) = sorted(store.objects.items())
    assert first.startswith("flights/AllTraffic/2026/01/31/11/59-59-250-")
    assert second.startswith("flights/AllTraffic/2026/01/31/12/00-00-250-")
    assert (one, two) == (b"before\ntoo\n", b"after\n")


def test_what_is_put_together_later_counts_at_once() -> None:
    store = Kept()

    async def write() -> None:
        writer = Writer(store, flush_seconds=60, flush_bytes=100, most_bytes=1000)
        spool = writer.spool("m/v")
        writer.add_large(spool, 900, iter([b"a" * 300, b"b\n"]))
        writer.add_large(spool, 101, iter([b"never\n"]))
        writer.add(spool, b"x" * 101, 1)
        assert (writer.waiting, writer.dropped["memory"]) == (900, 2)
        await writer.close(5)
        assert writer.waiting == 0

    asyncio.run(write())
    assert list(store.objects.values()) == [b"a" * 300 + b"b\n"]
    assert captured(Path("/nonexistent")) == []
