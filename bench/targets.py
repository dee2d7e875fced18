"""The figures to reach, and whether a run reached them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from bench.candidates import FAST, FLOOR, GRPC, GRPC_FLOOR, MLSERVER, XGBOOST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.results import Book, Summary

Outcome = Literal["reached", "missed", "not measured"]

ON, OFF = "trainserve, all switched on", "trainserve, all switched off"
MANY_MODELS = 20


@dataclass(frozen=True, kw_only=True)
class Target:
    """A figure to reach: at least `want`, or at most it when `at_most`; `aim` is more than is asked."""

    name: str
    want: float
    unit: str = ""
    at_most: bool = False
    aim: float | None = None
    found: float | None = None
    where: str = ""
    """Whose figure it is: of several the worst."""

    void: bool = False
    """The figure does not count, as `where` says."""

    @property
    def outcome(self) -> Outcome:
        """Whether it was reached."""
        if self.found is None:
            return "not measured"
        return "reached" if self.meets(self.want) else "missed"

    @property
    def aim_reached(self) -> bool | None:
        """Whether more than what is asked was reached; None where there is no aim, or no figure."""
        return None if self.aim is None or self.found is None else self.meets(self.aim)

    def meets(self, bound: float) -> bool:
        """Whether what was found is within `bound`."""
        if self.found is None or self.void:
            return False
        return self.found <= bound if self.at_most else self.found >= bound


def document(book: Book) -> dict[str, Any]:
    """Return what `bench.json` has of targets and comparisons."""
    summaries = book.summaries()
    # Those two were measured beside one another, and not beside a floor.
    ours = [
        item for item in summaries if item.kind == "ours" and item.rows == 1 and item.name not in {ON, OFF}
    ]
    floors = {item.format: item for item in summaries if item.name in {FLOOR, GRPC_FLOOR}}
    shares = [
        {
            "name": item.name,
            "format": item.format,
            "share": share,
            "cpu_share": floor.cpu_us_per_request / max(item.cpu_us_per_request, 1e-9),
        }
        for item in ours
        if (floor := floors.get(item.format)) and (share := book.ratio(item.key, floor.key)) is not None
    ]
    leads = [name for name in (XGBOOST, FAST) if name in {item.name for item in ours}]
    peers = dict.fromkeys(item.name for item in summaries if item.kind == "peer")
    return {
        "targets": [
            {**asdict(target), "outcome": target.outcome, "aim_reached": target.aim_reached}
            for target in evaluate(book)
        ],
        "shares_of_floor": shares,
        "times_peers": [
            {"name": lead, "peer": peer, "format": where.split(" ")[0], "times": times}
            for lead in leads
            for peer in peers
            for times, where in _peer_ratios(book, summaries, lead, peer)
        ],
    }


def evaluate(book: Book) -> list[Target]:
    """Return every target with what was found."""
    summaries = book.summaries()
    names = {summary.name for summary in summaries}
    lead = FAST if FAST in names else XGBOOST
    ones = [item for item in summaries if item.name == lead and item.rows == 1]
    many = [item for item in summaries if item.name == lead and item.rows == 32]
    p95 = Target(name="p95, 64 connections", want=3, unit="ms", at_most=True)
    p99 = Target(name="p99, 64 connections", want=5, unit="ms", at_most=True)
    rows = Target(name="32-row requests", want=200_000, unit="rows/s")
    default = Target(name="times MLServer's default", want=80, aim=120)
    return [
        _floor_share(book, summaries, XGBOOST, Target(name="share of an empty answer, XGBoost", want=0.35)),
        _floor_share(book, summaries, FAST, Target(name="share of an empty answer, fast", want=0.55)),
        _best_peer(book, summaries, lead),
        _pick(default, _peer_ratios(book, summaries, lead, MLSERVER)),
        *_paced(book, lead),
        _worst(ones, lambda item: item.p95_ms, p95),
        _worst(ones, lambda item: item.p99_ms, p99),
        _worst(many, lambda item: item.rps * 32, rows),
        _pair(book, GRPC, GRPC_FLOOR, "grpc", Target(name="share of an empty gRPC answer", want=0.5)),
        *_footprint(book, summaries),
        _pair(book, ON, OFF, "csv", Target(name="with capture, metrics, logs and traces on", want=0.8)),
    ]


def _with(target: Target, found: float | None, where: str = "") -> Target:
    return replace(target, found=found, where=where)


def _pick(target: Target, found: Sequence[tuple[float, str]]) -> Target:
    """Take the worst of what was found."""
    if not found:
        return _with(target, None)
    return _with(target, *(max(found) if target.at_most else min(found)))


def _worst(items: Sequence[Summary], figure: Callable[[Summary], float], target: Target) -> Target:
    return _pick(target, [(figure(item), f"{item.name}, {item.format}") for item in items])


def _floor_share(book: Book, summaries: Sequence[Summary], name: str, target: Target) -> Target:
    found = list[tuple[float, str]]()
    for item in summaries:
        if item.name == name and item.rows == 1:
            share = book.ratio((name, item.format, 1), (FLOOR, item.format, 1))
            if share is not None:
                found.append((share, item.format))
    return _pick(target, found)


def _peer_ratios(book: Book, summaries: Sequence[Summary], lead: str, peer: str) -> list[tuple[float, str]]:
    """Compare like with like: our answers in the peer's format, or in JSON where we lack that."""
    mine = {item.format for item in summaries if item.name == lead and item.rows == 1}
    found = list[tuple[float, str]]()
    for item in summaries:
        if item.name == peer and item.rows == 1:
            spoken = item.format if item.format in mine else "json"
            ratio = book.ratio((lead, spoken, 1), (peer, item.format, 1))
            if ratio is not None:
                found.append((ratio, f"{spoken} against {peer}"))
    return found


def _best_peer(book: Book, summaries: Sequence[Summary], lead: str) -> Target:
    target = Target(name="times the best peer", want=20, aim=30)
    peers = dict.fromkeys(item.name for item in summaries if item.kind == "peer")
    return _pick(target, [found for peer in peers for found in _peer_ratios(book, summaries, lead, peer)])


def _paced(book: Book, lead: str) -> list[Target]:
    found = next((x for x in book.paced_summaries() if x.name == lead and x.arrivals == "even"), None)
    # A server that falls behind is fast only with what it answers.
    kept_up = found is not None and not found.errors and found.rps >= 0.99 * found.rate
    where = "" if found is None else f"{lead}, csv" if kept_up else f"{lead} fell behind or failed"
    wanted = [
        (Target(name="p95 at 3,500 req/s", want=1.5, aim=0.5, unit="ms", at_most=True), "p95_ms"),
        (Target(name="CPU at 3,500 req/s", want=0.7, aim=0.25, unit="core", at_most=True), "core"),
    ]
    return [
        replace(target, found=getattr(found, key, None), where=where, void=found is not None and not kept_up)
        for target, key in wanted
    ]


def _footprint(book: Book, summaries: Sequence[Summary]) -> list[Target]:
    ours = [item for item in summaries if item.name in {XGBOOST, FAST} and item.rows == 1]
    cold = [(item.cold_s, item.name) for item in ours if item.cold_s is not None]
    memory = [(item.rss_mib, item.name) for item in ours if item.rss_mib is not None]
    many = book.models_rss_mib.get(MANY_MODELS)
    return [
        _pick(Target(name="cold start", want=1.5, aim=1.0, unit="s", at_most=True), cold),
        _pick(Target(name="memory, one model", want=180, unit="MiB", at_most=True), memory),
        _with(Target(name=f"memory, {MANY_MODELS} models", want=400, unit="MiB", at_most=True), many),
    ]


def _pair(book: Book, one: str, other: str, spoken: str, target: Target) -> Target:
    return _with(target, book.ratio((one, spoken, 1), (other, spoken, 1)))
