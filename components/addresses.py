"""IPv4 networks as settings write them."""

from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import Final

__all__ = ["PRIVATE", "IPv4Network", "fault", "is_everybody", "is_private", "network", "service_network"]

PRIVATE: Final = tuple(
    IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
"""What a VPC may have without taking addresses that are somebody's, or nobody's."""

_SERVICES: Final = (IPv4Network("172.20.0.0/16"), IPv4Network("10.100.0.0/16"))
"""Where a cluster's Services may have their addresses: the two that EKS itself would choose from."""


def network(text: str) -> IPv4Network | None:
    """The network, or None where `fault` says what is wrong with it."""
    try:
        return IPv4Network(text)
    except ValueError:
        return None


def fault(text: str) -> str:
    """Why a text is no network, as the end of a sentence."""
    try:
        IPv4Network(text, strict=False)
    except ValueError:
        return f"{text} is not a network: want numbers from 0 to 255 and a length from 0 to 32"
    return f"{text} is not a network: its host bits must be zero"


def is_private(found: IPv4Network) -> bool:
    """Whether all of it may lie within a VPC."""
    return any(found.subnet_of(private) for private in PRIVATE)


def is_everybody(found: IPv4Network) -> bool:
    """Whether so much lies in it that two or some such networks are the whole internet."""
    return found.prefixlen < 8 and not is_private(found)  # a /8 is the largest ever given


def service_network(taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """Where Services lie so that pods still reach what is `taken`; None if it leaves neither choice."""
    networks = list(taken)
    return next((free for free in _SERVICES if not any(free.overlaps(other) for other in networks)), None)
