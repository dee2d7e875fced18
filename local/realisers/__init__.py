"""Makes the program's resources real on this machine, one small function per resource type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.errors import LocalError
from local.plausible import Plausible
from local.realisers import cluster, functions, identity, messaging, models, s3
from local.realisers.base import Realiser, Site

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from local.emulators import Emulators
    from local.engine import Realised, Resource

REALISERS: Mapping[str, Realiser] = {
    **cluster.REALISERS,
    **functions.REALISERS,
    **identity.REALISERS,
    **messaging.REALISERS,
    **models.REALISERS,
    **s3.REALISERS,
}
"""Resource type to its realiser; Kubernetes objects are told by their kind instead."""


class Realisers:
    """Realises what can be real here, against the emulators.

    `omit` leaves resources out that the program declares: whatever has one of these texts in its URN, such as
    "EventTarget::platform-retraining-target", is recorded as declared only. It serves one purpose: tests that
    show that the loop runs through the program's own wiring, and stops where one piece of it is missing.
    """

    def __init__(self, emulators: Emulators, *, omit: Collection[str] = ()) -> None:
        self._site = Site(emulators, Plausible(region=emulators.region))
        self._unused = set(omit)
        self._omit = frozenset(omit)

    def check_omissions(self) -> None:
        """Raise a LocalError if a text of `omit` fits no resource: a test with it would prove nothing."""
        if self._unused:
            raise LocalError(f"nothing to omit that is called {', '.join(sorted(self._unused))}")

    def __call__(self, resource: Resource) -> Realised | None:
        """Make the resource; None if it stays declared only."""
        left_out = {text for text in self._omit if text in resource.urn}
        if left_out:
            self._unused -= left_out
            return None
        if resource.type.startswith("kubernetes:"):
            return cluster.realise_object(self._site, resource)
        realiser = REALISERS.get(resource.type)
        return None if realiser is None else realiser(self._site, resource)
