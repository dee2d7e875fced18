"""Makes the program's resources real on this machine, one small function per resource type."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from local.emulators import Emulators
    from local.engine import Realised, Resource


class Realisers:
    """Realises what can be real here, against the emulators."""

    def __init__(self, emulators: Emulators, *, omit: Collection[str] = ()) -> None:
        self._emulators = emulators
        self._omit = omit

    def __call__(self, resource: Resource) -> Realised | None:
        """Make it, or None."""
        del resource
