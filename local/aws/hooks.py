"""How a function of moto is replaced: by name, and only if it still looks as it did."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class HookError(RuntimeError):
    """Moto no longer has the function that a hook replaces, or has changed its parameters."""


class Hook(NamedTuple):
    """A function of moto, `module:Class.name`, and the names of its parameters.

    `parameters` is None for a function that moto lacks and that a hook adds.
    """

    target: str
    parameters: str | None

    def check(self) -> tuple[Any, str, Any]:
        """Return the owner, the attribute's name and its present value; raise HookError if it differs."""
        module_name, _, path = self.target.partition(":")
        *owners, name = path.split(".")
        owner: Any = importlib.import_module(module_name)
        for part in owners:
            if not hasattr(owner, part):
                raise HookError(f"{self.target}: moto has no {part!r} any more")
            owner = getattr(owner, part)
        present = getattr(owner, name, None)
        if self.parameters is None:
            if present is not None:
                raise HookError(f"{self.target}: moto has its own now")
            return owner, name, None
        if present is None:
            raise HookError(f"{self.target}: moto has no such function any more")
        found = " ".join(inspect.signature(present).parameters)
        if found != self.parameters:
            raise HookError(f"{self.target}: parameters are now {found!r}, expected {self.parameters!r}")
        return owner, name, present

    def install(self, replacement: Callable[..., Any]) -> Any:
        """Put `replacement` in its place and return what was there."""
        owner, name, present = self.check()
        setattr(owner, name, replacement)
        return present
