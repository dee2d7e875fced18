"""Label selectors, in the form of query strings and of `spec.selector`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from local.cluster.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Labels = Mapping[str, str]

_SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^)]*)\)$")
_EQUAL = re.compile(r"^([^=!\s]+)\s*(==|=|!=)\s*(\S*)$")
_EXISTS = re.compile(r"^(!?)\s*([^=!\s(),]+)$")
_OUTSIDE_PARENTHESES = re.compile(r",(?![^(]*\))")


def parse(text: str) -> Callable[[Labels], bool]:
    """A test for `a=b,c!=d,e in (f,g),h,!i`; ApiError 400 if it cannot be read."""
    tests = [_requirement(part.strip()) for part in _OUTSIDE_PARENTHESES.split(text) if part.strip()]
    return lambda labels: all(test(labels) for test in tests)


def _requirement(text: str) -> Callable[[Labels], bool]:
    if found := _SET.match(text):
        key, operator, values = found.groups()
        return _member(key, {value.strip() for value in values.split(",")}, wanted=operator == "in")
    if found := _EQUAL.match(text):
        key, operator, value = found.groups()
        return _member(key, {value}, wanted=operator != "!=")
    if found := _EXISTS.match(text):
        absent, key = found.groups()
        return lambda labels: (key in labels) != bool(absent)
    raise ApiError(400, f"unable to parse requirement: {text!r}")


def _member(key: str, values: set[str], *, wanted: bool) -> Callable[[Labels], bool]:
    return lambda labels: (labels.get(key) in values) == wanted


def matches(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether `labels` fit a `matchLabels`/`matchExpressions` selector."""
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_expressions(selector, labels))


def _expressions(selector: Mapping[str, Any], labels: Labels) -> Iterator[bool]:
    for expression in selector.get("matchExpressions") or ():
        key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
        if operator in {"Exists", "DoesNotExist"}:
            yield (key in labels) == (operator == "Exists")
        else:
            yield (labels.get(key) in values) == (operator == "In")
