"""A stack file means here what it means to the Pulumi CLI; what the CLI would refuse is refused, in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from local.errors import ProgramError
from local.plan import against
from local.stackfile import StackConfig, stack_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: trainserve\nruntime: python\n")
    return tmp_path


def load(project: Path, text: str, **overrides: str) -> dict[str, str]:
    (project / "Pulumi.dev.yaml").write_text(text)
    return dict(StackConfig.load(project, "dev", overrides).values)


REFUSED: list[tuple[str, str]] = [
    (
        "config:\n  a: 1\n  b: 2\n  a: 3\n",
        "Pulumi.dev.yaml cannot be read: line 4: the key a is there twice: it has a value in",
    ),
    ("config:\n  a: {x: 1, x: 1}\n", "line 2: the key x is there twice"),
    ("config: {}\nconfig: {}\n", "line 2: the key config is there twice: it has a value in line 1 already"),
    (
        "config:\n  a: !!binary aGVsbG8=\n",
        "line 2: a: want text, a number, true or false, got something of type !!b",
    ),
    (
        "config:\n  a: !!set {x, y}\n",
        "line 2: a: want text, a number, true or false, got something of type !!set",
    ),
    ("config:\n  a: !!timestamp 2026-13-45\n", "got something of type !!timestamp"),
    ("config:\n  a: !own x\n", "got something of type !own"),
    ("config:\n  a: !!int abc\n", "line 2: want a number that JSON can hold, got abc"),
    ("config:\n  a: !!bool on\n", "line 2: want true or false, got on"),
    (f"config:\n  a: {'9' * 5000}\n", f"line 2: want a number that JSON can hold, got {'9' * 40}…"),
    ("config:\n  a: .inf\n", "line 2: want a number that JSON can hold, got .inf"),
    ("config: [a]\n", "Pulumi.dev.yaml: config: want a mapping from key to value, got list"),
    ("config: text\n", "Pulumi.dev.yaml: config: want a mapping from key to value, got text"),
    ("config: 7\n", "Pulumi.dev.yaml: config: want a mapping from key to value, got number"),
    ("- a\n", "Pulumi.dev.yaml: want a mapping, got list"),
    ("config:\n  a: &a [*a]\n", "line 2: &a contains itself"),
    ("config:\n  a: &a {b: {c: *a}}\n", "line 2: &a contains itself"),
    (f"config:\n  a: {'[' * 3000}{']' * 3000}\n", "line 2: nested too deeply: want at most 100 levels"),
    ("config:\n  [a]: b\n", "line 2: want text as a key, got a mapping or a list"),
    ('config:\n  tags: {x: "\\ud800"}\n', r"line 2: x: want text, got half a character: '\ud800'"),
    (
        "config:\n  a: [\n",
        "Pulumi.dev.yaml cannot be read: line 3: while parsing a flow node: expected the node content",
    ),
    (
        "config:\n  a: \x07\n",
        "Pulumi.dev.yaml cannot be read: character 0x7: special characters are not allowed",
    ),
    (
        "config:\n  trainserv:network: {}\n",
        "Pulumi.dev.yaml: trainserv:network: did you mean trainserve:network? No program reads trainserv",
    ),
]


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[text[:40] for text, _ in REFUSED])
def test_what_the_cli_would_not_read_is_said_in_a_line(project: Path, text: str, said: str) -> None:
    with pytest.raises(ProgramError) as caught:
        load(project, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_said(project: Path) -> None:
    (project / "Pulumi.dev.yaml").write_bytes(b"config: \xff")
    with pytest.raises(ProgramError, match=r"Pulumi\.dev\.yaml cannot be read: "):
        StackConfig.load(project, "dev", {})


MEANT: list[tuple[str, object]] = [
    ("[no, yes, on, off, y, n]", ["no", "yes", "on", "off", "y", "n"]),
    ("[true, True, TRUE, false, False, FALSE]", [True] * 3 + [False] * 3),
    ("[~, null, Null, NULL, nULL]", [None, None, None, None, "nULL"]),
    ("[2026-01-01, 2026-13-45, 2026-01-01T00:00:00Z]", ["2026-01-01", "2026-13-45", "2026-01-01T00:00:00Z"]),
    ("[10:30, 1.36.2, 0x, '7', \"true\"]", ["10:30", "1.36.2", "0x", "7", "true"]),
    ("[1_000, 0x1F, 0o17, 017, 0b11, -3, +4]", [1000, 31, 15, 15, 3, -3, 4]),
    ("[2.0, 1e3, 089, .5, 1.5e-3]", [2, 1000, 89, 0.5, 0.0015]),
    ("{5: a, true: b, 2026-01-01: c, no: d}", {"5": "a", "true": "b", "2026-01-01": "c", "no": "d"}),
    (
        "{x: &m {a: 1, b: 2}, y: {<<: *m, b: 3}, z: *m}",
        {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": {"a": 1, "b": 2}},
    ),
    ("[\n  a, {\n  },\n  []\n  ]", ["a", {}, []]),
]


@pytest.mark.parametrize(("text", "value"), MEANT, ids=[text for text, _ in MEANT])
def test_a_value_is_what_the_cli_makes_of_it(project: Path, text: str, value: object) -> None:
    found = load(project, f"config:\n  a: {text}\n")["trainserve:a"]
    assert found == json.dumps(value)  # 1 is not 1.0, and not true


def test_texts_are_as_they_are_written(project: Path) -> None:
    found = load(project, "config:\n  aws:region: us-east-1\n  5: 2026-01-01\n  trainserve:on: off\n")
    assert found == {"aws:region": "us-east-1", "trainserve:5": "2026-01-01", "trainserve:on": "off"}


@pytest.mark.parametrize("text", ["", "config:\n", "config: ~\n", "encryptionsalt: v1:x\n"])
def test_a_stack_without_settings_has_none(project: Path, text: str) -> None:
    assert load(project, text) == {}


def test_a_secret_says_why_it_is_not_taken(project: Path) -> None:
    found = load(project, "config:\n  environment: {alarmEmail: {secure: v1:abc}}\n")
    email = json.loads(found["trainserve:environment"])["alarmEmail"]
    assert email == "[secret]: only the Pulumi CLI can read it; here it must be plain"


@pytest.mark.parametrize("name", ["x" * 300, "no-such", "a/b", "a\0b"])
def test_a_stack_that_has_no_file_is_named(project: Path, name: str) -> None:
    (project / "Pulumi.two.dots.yaml").write_text("")
    with pytest.raises(ProgramError, match=r"no stack .* does not exist; there are: two\.dots"):
        StackConfig.load(project, name, {})
    assert stack_file(project, name) is None


def test_what_a_plan_is_against_may_have_any_length(project: Path) -> None:
    for name in ("x" * 300, "x" * 200_000):
        with pytest.raises(against.LocalError, match="neither a stack"):
            against.resolve(project, "dev", name)


@pytest.mark.parametrize("path", ["a.b.c", "l.7", "l.x", "region.x", "n.x.y"])
def test_an_override_of_what_is_not_there_is_named(project: Path, path: str) -> None:
    with pytest.raises(ProgramError, match=f"trainserve:{path}: no such place"):
        load(project, "config:\n  a: {b: 1}\n  l: [1]\n  n: 5\n  region: us-east-1\n", **{path: "1"})


def test_an_override_may_be_any_text(project: Path) -> None:
    deep = "[" * 100_000
    assert json.loads(load(project, "config: {}", **{"a.b": deep})["trainserve:a"]) == {"b": deep}
