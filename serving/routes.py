"""What a protocol consists of: routes, which plan how the requests with one head are answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from serving.exchange import Exchange, Head

GET: Final = b"GET"
POST: Final = b"POST"

PREDICTIONS: Final = frozenset(("invocations", "invoke", "v2_infer", "grpc_infer"))
"""The routes that answer with predictions: what succeeds there has come from a batch."""

PROBES: Final = frozenset(
    (
        *("ping", "metrics", "v2_live", "v2_ready", "v2_model_ready"),
        *("grpc_live", "grpc_ready", "grpc_model_ready", "grpc_health"),
    )
)
"""The routes that ask, every few seconds, how the server is."""

Plan = Callable[[Exchange], None]
"""Answers a request, at once or later; may raise `RequestError`."""


class Route(NamedTuple):
    """A path: its name in the metrics, and for each method what plans (GET also serves HEAD).

    All that follows from the head is worked out, and refused with `RequestError`, when the plan is made:
    it is kept for the requests to come with the same head, until a model comes or goes.
    """

    name: str
    methods: Mapping[bytes, Callable[[Head], Plan]]


def at_once(plan: Plan) -> Callable[[Head], Plan]:
    """Return a planner for requests of which the head says nothing more."""
    return lambda _: plan


class Routes(Protocol):
    """A protocol."""

    def route(self, path: str) -> Route | None:
        """Return the route of a path without its query, or None if it is not one of this protocol."""
        ...
