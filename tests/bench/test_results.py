import pytest

from bench import targets
from bench.candidates import FAST, FLOOR, MLSERVER, XGBOOST
from bench.results import Book
from bench.targets import Target
from tests.bench.bench_support import add, add_paced, load


def found(book: Book, name: str) -> Target:
    return next(target for target in targets.evaluate(book) if target.name == name)


@pytest.fixture
def book() -> Book:
    book = Book()
    for spoken in ("csv", "json"):
        add(book, FLOOR, spoken, [100_000, 50_000, 100_000], kind="floor")
        add(book, XGBOOST, spoken, [40_000, 20_000, 30_000])
    add(book, "FastAPI", "json", [1_000], kind="peer")
    add(book, MLSERVER, "v2", [400], kind="peer")
    return book


def test_medians_of_the_rounds(book: Book) -> None:
    lines = {(line.name, line.format): line for line in book.summaries()}
    line = lines[XGBOOST, "csv"]
    assert (line.rps, line.rounds, line.errors) == (30_000, 3, 0)
    assert line.cold_s is None


def test_failed_answers_do_not_count() -> None:
    assert load(100, errors=50).rps == 100


def test_a_ratio_pairs_the_rounds(book: Book) -> None:
    # A disturbed round disturbs both: 0.4, 0.4 and 0.3, though the medians' ratio is 0.3.
    assert book.ratio((XGBOOST, "csv", 1), (FLOOR, "csv", 1)) == 0.4
    assert book.ratio((XGBOOST, "csv", 1), (FLOOR, "v2", 1)) is None


def test_the_worst_format_decides(book: Book) -> None:
    assert found(book, "share of an empty answer, XGBoost").outcome == "reached"
    add(book, FLOOR, "v2", [100_000], kind="floor")
    add(book, XGBOOST, "v2", [34_000])
    target = found(book, "share of an empty answer, XGBoost")
    assert (target.outcome, target.where) == ("missed", "v2")


def test_peers_are_compared_in_their_own_format_where_we_speak_it(book: Book) -> None:
    best = found(book, "times the best peer")
    assert (best.found, best.outcome, best.aim_reached) == (40.0, "reached", True)
    default = found(book, "times MLServer's default")
    assert (default.found, default.aim_reached) == (100.0, False)
    assert default.where.startswith("json")


def test_a_faster_predictor_leads_where_there_is_one(book: Book) -> None:
    add(book, FAST, "json", [60_000])
    assert found(book, "times the best peer").found == 60.0


def test_a_server_that_falls_behind_has_not_carried_the_load(book: Book) -> None:
    assert found(book, "p95 at 3,500 req/s").outcome == "not measured"
    add_paced(book, XGBOOST, rps=3_000, p95=0.4, core=0.2)
    assert found(book, "p95 at 3,500 req/s").outcome == "missed"
    book.paced.clear()
    add_paced(book, XGBOOST, rps=3_499, p95=0.4, core=0.3)
    assert found(book, "p95 at 3,500 req/s").aim_reached is True
    assert found(book, "CPU at 3,500 req/s").outcome == "reached"


def test_a_bound_from_above() -> None:
    assert Target(name="cold", want=1.5, at_most=True, found=1.5).outcome == "reached"
    assert Target(name="cold", want=1.5, at_most=True, found=1.6).outcome == "missed"
