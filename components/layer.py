"""What the layers of the platform share: the environment that they build, and what they are made under."""

from dataclasses import dataclass

import pulumi

from components import teardown
from components.base import PlatformComponent
from components.environment import Stack


@dataclass(frozen=True, kw_only=True)
class Site:
    """One environment, before anything stands in it."""

    platform: PlatformComponent
    name: str
    stack: Stack
    account_id: pulumi.Output[str]
    order: teardown.Order


class Layer:
    """Makes some of the platform's components, all of them children of the platform itself."""

    def __init__(self, site: Site) -> None:
        self._platform = site.platform
        self._name = site.name
        self._stack = site.stack
        self._account_id = site.account_id
        self._order = site.order

    def child(self) -> pulumi.ResourceOptions:
        """Options of one component of this layer."""
        return self._platform.child()
