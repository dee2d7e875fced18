"""What a rule sees and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias


class Unknown:
    """A value that only the cloud knows, at preview: it is set, and nothing more can be said of it."""

    def get(self, *_: object) -> Unknown:
        """What is inside is not known either."""
        return self


UNKNOWN: Final = Unknown()

Level: TypeAlias = Literal["mandatory", "advisory"]
"""A mandatory finding stops `pulumi up`; an advisory one is shown."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One resource: its inputs as the provider gets them (camelCase), and the options rules ask about."""

    urn: str
    type: str
    name: str
    props: Mapping[str, Any] = field(default_factory=dict[str, Any])
    protect: bool = False

    def at(self, path: str) -> Any:
        """The value at a dotted path, list indexes included; None where there is none."""
        value: Any = self.props
        for part in path.split("."):
            if isinstance(value, Mapping | Unknown):
                value = value.get(part)
            elif isinstance(value, Sequence) and not isinstance(value, str) and part.isdigit():
                value = value[int(part)] if int(part) < len(value) else None
            else:
                return None
        return value


@dataclass(frozen=True, kw_only=True)
class Stack:
    """All resources of one stack."""

    name: str
    subjects: Sequence[Subject]

    def of(self, *types: str) -> list[Subject]:
        """The resources of these types."""
        return [subject for subject in self.subjects if subject.type in types]

    @property
    def production(self) -> bool:
        """Production environments are called prod or production, alone or as the last part of a name."""
        return self.name.rsplit("-", 1)[-1] in {"prod", "production"}


Complaint: TypeAlias = tuple[Subject | None, str]
"""The resource (None: the stack as a whole) and what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: a pure function over the stack."""

    id: str
    level: Level
    advice: str
    """What to do, as a sentence."""
    check: Callable[[Stack], Iterable[Complaint]]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule that a resource breaks."""

    rule: str
    level: Level
    urn: str
    """Empty for the stack as a whole."""
    name: str
    message: str
    advice: str


def findings(rules: Iterable[Rule], stack: Stack) -> list[Finding]:
    """Every finding, mandatory ones first, then by rule and resource."""
    found = [
        Finding(
            rule=rule.id,
            level=rule.level,
            urn=subject.urn if subject else "",
            name=subject.name if subject else stack.name,
            message=message,
            advice=rule.advice,
        )
        for rule in rules
        for subject, message in rule.check(stack)
    ]
    return sorted(found, key=lambda f: (f.level != "mandatory", f.rule, f.urn, f.message))


def each(
    *types: str,
) -> Callable[[Callable[[Subject], Iterable[str]]], Callable[[Stack], Iterable[Complaint]]]:
    """Make a rule's check from a function over one resource of the given types."""

    def over(check: Callable[[Subject], Iterable[str]]) -> Callable[[Stack], Iterable[Complaint]]:
        def checked(stack: Stack) -> Iterable[Complaint]:
            for subject in stack.of(*types):
                for message in check(subject):
                    yield subject, message

        return checked

    return over


def statements(document: Any) -> list[Mapping[str, Any]]:
    """The statements of a policy document, given as text or as a mapping; none if it is not known yet."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            return []
    if not isinstance(document, Mapping):
        return []
    found: Any = document.get("Statement", [])
    return [found] if isinstance(found, Mapping) else list(found)


def listed(value: Any) -> list[Any]:
    """A value that may be one or several, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
