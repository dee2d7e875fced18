import json
from pathlib import Path
from typing import Any

import pytest

from bench import candidates, formats, sample
from bench.formats import Format
from bench.plan import FULL, QUICK, TINY, Plan
from bench.runner import Cores, Runner

ROWS = [[0.5] * sample.FEATURES, [1.5] * sample.FEATURES]
ALL = [*formats.OURS, *(peer.formats[0] for peer in candidates.peers())]


@pytest.mark.parametrize("spoken", ALL, ids=lambda spoken: f"{spoken.name}{spoken.path}")
def test_a_request_is_whole_and_has_every_value(spoken: Format) -> None:
    head, _, body = spoken.request(ROWS).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert head.startswith(f"POST {spoken.path} HTTP/1.1\r\n".encode())
    assert body.count(b"0.5") == body.count(b"1.5") == sample.FEATURES


def test_answers_are_read() -> None:
    assert formats.CSV.decode(b"0.25\n0.5\n") == [0.25, 0.5]
    assert formats.JSON.decode(b'{"predictions":[0.25]}') == [0.25]
    assert formats.V2.decode(json.dumps({"outputs": [{"data": [0.25]}]}).encode()) == [0.25]
    assert formats.BENTOML.decode(b"[0.25]") == [0.25]


def test_formats_of_one_name_and_path_have_requests_of_their_own(tmp_path: Path) -> None:
    made = sample.Sample(bundle=tmp_path, rows=ROWS, expected=[0.0, 0.0])
    place = candidates.Place(work=tmp_path, serving_python=tmp_path, environments={}, sample=made)
    notes = list[Any]()
    runner = Runner(
        place,
        TINY,
        Cores(server=0, load=0),
        "wrk",
        settings=frozenset(),
        note=notes.append,
        live=notes.append,
    )
    one, other = (runner._requests(spoken, 1) for spoken in (formats.BENTOML, formats.PREDICT))
    assert b'{"rows"' in one.read_bytes()
    assert b'{"instances"' in other.read_bytes()


@pytest.mark.parametrize("plan", [FULL, QUICK, TINY])
def test_a_run_is_expected_to_end_in_time(plan: Plan) -> None:
    assert plan.expected_s(ours=2, peers=7) < plan.limit_s
    assert sum(plan.has_peers(number) for number in range(plan.rounds)) == plan.peer_rounds
    assert plan.peer_rounds == 0 or plan.has_peers(0)
