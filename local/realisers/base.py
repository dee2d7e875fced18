"""What every realiser is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.engine import Realised, Resource

if TYPE_CHECKING:
    from local.emulators import Emulators
    from local.plausible import Plausible

Realiser = Callable[["Site", Resource], Realised]


@dataclass(frozen=True)
class Site:
    """Where things are made: the emulators, and the names of what has none given."""

    emulators: Emulators
    plausible: Plausible

    def client(self, service: str) -> Any:  # noqa: ANN401  # boto3 makes its clients at run time
        """A boto3 client of the emulated AWS."""
        return self.emulators.client(service)

    def name(self, resource: Resource) -> str:
        """The physical name."""
        return self.plausible.physical_name(resource)


__all__ = ["Realised", "Realiser", "Resource", "Site"]
