"""How long what is measured, so that a run ends when it said it would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PAPER_RATE: Final = 3500.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Times in seconds. Peers, far behind and slow to start, take part in some rounds only."""

    rounds: int
    peer_rounds: int
    warm_s: int
    one_s: int
    many_s: int
    floor_s: int
    paced_s: float
    paced_rounds: int
    cold_runs: int
    switch_rounds: int
    grpc_rounds: int
    limit_s: float
    formats: tuple[str, ...] = ("csv", "json", "v2")
    sizes: tuple[int, ...] = (1, 32)
    """Rows of a request."""

    def has_peers(self, number: int) -> bool:
        """Whether peers take part in round `number` (from 0): evenly spread, the first one included."""
        if not self.peer_rounds:
            return False
        return number in {round(index * self.rounds / self.peer_rounds) for index in range(self.peer_rounds)}

    def expected_s(self, ours: int, peers: int) -> float:
        """Return about how long it takes with so many candidates; starts of peers are guesses."""
        each = 0.5  # seconds around every measurement
        warm = self.warm_s + each
        spoken = self.floor_s + each + ours * (warm + self.one_s)
        if len(self.sizes) > 1:
            spoken += ours * (warm + self.many_s)
        rounds = self.rounds * (len(self.formats) * spoken + 2 * self.floor_s + ours)
        per_peer = 2 * warm + self.one_s + self.many_s + 8
        paced = ours * (self.paced_rounds + 1) * (self.paced_s + min(2.0, self.paced_s) + 1)
        others = 5 + ours * self.cold_runs + self.switch_rounds * 2 * (1 + each) + 2 * warm
        calls = warm + self.floor_s + len(self.sizes) * (warm + each) + self.one_s + self.many_s + 2
        others += self.grpc_rounds * calls
        install = 5 * peers if self.peer_rounds else 0
        return install + rounds + self.peer_rounds * peers * per_peer + paced + others


FULL: Final = Plan(
    rounds=5, peer_rounds=3, warm_s=1, one_s=3, many_s=2, floor_s=2, paced_s=8.0, paced_rounds=3, cold_runs=5,
    switch_rounds=20, grpc_rounds=5, limit_s=20 * 60.0,
)  # fmt: skip
QUICK: Final = Plan(
    rounds=2, peer_rounds=0, warm_s=1, one_s=1, many_s=1, floor_s=1, paced_s=3.0, paced_rounds=1, cold_runs=2,
    switch_rounds=8, grpc_rounds=2, limit_s=4 * 60.0,
)  # fmt: skip
# For tests: everything is touched, nothing is measured well.
TINY: Final = Plan(
    rounds=1, peer_rounds=0, warm_s=0, one_s=1, many_s=1, floor_s=1, paced_s=0.3, paced_rounds=0, cold_runs=1,
    switch_rounds=0, grpc_rounds=1, limit_s=60.0, formats=("csv",), sizes=(1,),
)  # fmt: skip
