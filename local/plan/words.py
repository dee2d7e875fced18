"""How the plan says things, the same in each format."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_VALUE: Final = 90
_CONTROL: Final = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff\\ud800-\\udfff]"
)


def clean(text: object) -> str:
    """One line that does nothing to a terminal: control and direction characters are spelled out."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", str(text))


def kind(of: str) -> str:
    """A type as people say it: "ec2 Subnet", "apps/v1 Deployment"."""
    package, _, rest = of.partition(":")
    module, _, name = rest.rpartition(":")
    if package in {"aws", "eks"}:
        module = module.split("/")[0].replace("index", "") or package
    return clean(f"{module} {name}".strip() if rest else of)


def short(name: str, component: str) -> str:
    """A logical name without what its component's name says already."""
    _, _, rest = name.partition(f"-{component}-")
    return clean(rest or name)


def money(usd: float) -> str:
    """Dollars: $1,234 or $0.087."""
    if abs(usd) >= 100:
        return f"{'-' if usd < 0 else ''}${abs(usd):,.0f}"
    digits = 2 if abs(usd) >= 0.1 or usd == 0 else 3
    return f"{'-' if usd < 0 else ''}${abs(usd):,.{digits}f}"


def change_of(before: float, after: float) -> str:
    """The difference of two amounts, signed."""
    difference = after - before
    return f"+{money(difference)}" if difference > 0 else money(difference) if difference else "±$0"


def minutes(seconds: float) -> str:
    """A duration: 45 s, 10 min 37 s."""
    whole = round(seconds)
    return f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60:02d} s"


def value(of: Any) -> str:  # noqa: ANN401  # any JSON value
    """A value in one line, shortened."""
    text = of if isinstance(of, str) else json.dumps(of, sort_keys=True)
    text = clean(text)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 1]}…"


def listed(names: Iterable[str], width: int) -> str:
    """Names, as many as fit into `width` letters, and how many there are besides."""
    found, left = "", list(names)
    while left:
        more = f"{found}, {left[0]}" if found else left[0]
        if len(more) > width and found:
            return f"{found}, +{len(left)}"
        found = more
        left.pop(0)
    return found


def plural(count: int, noun: str) -> str:
    """3 resources, 1 resource."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
