"""YAML as the Pulumi CLI reads it: JSON's types only, text as keys, and no key twice.

PyYAML follows YAML 1.1, where `no` is false and 10:30 is a number, and takes the last of two equal keys; the
CLI's parser does not. What the program would never get from the CLI must not work here either.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import TYPE_CHECKING, Any, Final

import yaml

from local.errors import ProgramError

if TYPE_CHECKING:
    from pathlib import Path

_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"
_TYPES: Final = frozenset({_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map")})
_DEEPEST: Final = 100
_LONGEST_QUOTE: Final = 40
_LARGEST_INT: Final = 1 << 64
_EXACT: Final = 1e21
"""Below it, Go writes a whole number without fraction or exponent."""

_NULL: Final = re.compile(r"^(~|null|Null|NULL|)$")
_BOOL: Final = re.compile(r"^(true|True|TRUE|false|False|FALSE)$")
_OCTAL: Final = re.compile(r"^[-+]?0[0-7]+$")
_NUMBER: Final = re.compile(
    r"^([-+]?(0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|\.(inf|Inf|INF)"
    r"|(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?)|\.(nan|NaN|NAN))$"
)


def read(path: Path) -> dict[str, Any]:
    """The mapping that a file holds; empty if there is no file, or nothing in it.

    Raises:
        ProgramError: the CLI would not read it either; says where.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        loader.name = path.name
        content = loader.get_single_data()
    except FileNotFoundError:
        return {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}" if mark else None
        said = ": ".join(part for part in (where, error.context, error.problem) if part)
        raise ProgramError(f"{path.name} cannot be read: {said}") from error
    except yaml.reader.ReaderError as error:
        said = f"character {error.character:#x}: {error.reason}"
        raise ProgramError(f"{path.name} cannot be read: {said}") from error
    except (OSError, ValueError) as error:
        raise ProgramError(f"{path.name} cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ProgramError(f"{path.name}: want a mapping, got {kind(content)}")
    return content


def kind(value: object) -> str:
    """What a value is, in the words of whoever wrote it."""
    names: dict[type, str] = {bool: "true or false", dict: "mapping", list: "list", str: "text"}
    return names.get(type(value), "number")


class _Loader(yaml.SafeLoader):
    """Checks each node as it is composed, before merged keys (`<<`) are mixed with the node's own."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401  # as PyYAML has it
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            known = self.anchors.get(event.anchor)
            if known is not None and known.end_mark is None:
                raise _error(event, f"&{event.anchor} contains itself")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _error(event, f"nested too deeply: want at most {_DEEPEST} levels")
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        place = (
            f"{index.value}: " if isinstance(index, yaml.ScalarNode) else ""
        )  # the key, of a mapping's value
        if node.tag not in _TYPES and node.tag != _MERGE:
            tag = node.tag.replace(_TAG, "!!")
            raise _error(node, f"{place}want text, a number, true or false, got something of type {tag}")
        if isinstance(node, yaml.ScalarNode) and not _is_utf8(node.value):
            raise _error(node, f"{place}want text, got half a character: {node.value!a}")
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:  # noqa: ANN401
        node = super().compose_mapping_node(anchor)
        seen: dict[str, yaml.Mark] = {}
        for index, (key, value) in enumerate(node.value):
            if not isinstance(key, yaml.ScalarNode):
                raise _error(key, "want text as a key, got a mapping or a list")
            if key.tag == _MERGE:
                continue
            if key.value in seen:
                line = seen[key.value].line + 1
                raise _error(
                    key, f"the key {key.value} is there twice: it has a value in line {line} already"
                )
            seen[key.value] = key.start_mark
            # Whatever a key looks like, it is a name.
            text = yaml.ScalarNode(f"{_TAG}str", key.value, key.start_mark, key.end_mark)
            node.value[index] = text, value
        return node


def _error(node: Any, problem: str) -> yaml.MarkedYAMLError:  # noqa: ANN401  # an event or a node
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _boolean(_loader: _Loader, node: yaml.ScalarNode) -> bool:
    if not _BOOL.match(node.value):
        raise _error(node, f"want true or false, got {node.value}")
    return node.value.lower() == "true"


def _number(_loader: _Loader, node: yaml.ScalarNode) -> int | float:
    """As it comes through the CLI's JSON: 2.0 and 1e3 are whole numbers there, and 017 is 15."""
    text = node.value.replace("_", "")
    with contextlib.suppress(ValueError):  # a fraction, an exponent, or thousands of digits
        whole = int(text, 8 if _OCTAL.match(text) else 0)
        if abs(whole) < _LARGEST_INT:
            return whole
    number = math.nan
    with contextlib.suppress(ValueError):
        number = float(text)
    if not math.isfinite(number):
        shown = node.value if len(node.value) <= _LONGEST_QUOTE else f"{node.value[:_LONGEST_QUOTE]}…"
        raise _error(node, f"want a number that JSON can hold, got {shown}")
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's
_Loader.add_implicit_resolver(f"{_TAG}null", _NULL, ["~", "n", "N", ""])
_Loader.add_implicit_resolver(f"{_TAG}bool", _BOOL, list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}float", _NUMBER, list("-+.0123456789"))
_Loader.add_implicit_resolver(_MERGE, re.compile("^<<$"), ["<"])
_Loader.add_constructor(f"{_TAG}bool", _boolean)
_Loader.add_constructor(f"{_TAG}int", _number)
_Loader.add_constructor(f"{_TAG}float", _number)
