"""Every wrong setting is refused by name, with the file and the accepted values; all at once."""

import json
import re
from typing import Any

import pydantic
import pytest
import yaml

from components.environment import parse, raw_settings
from components.settings import Settings
from tests.unit.setting_files import REMOVED, ROOT, refusal, values


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_the_stack_files_are_right(stack: str) -> None:
    settings = parse(values(stack), stack=stack, region="us-east-1")
    assert settings.models.keys() == {"flights"}
    assert settings.environment.production == (stack == "prod")


FIELDS: list[tuple[str, Any, str]] = [
    (
        "workload.replicas",
        "two",
        'trainserve:workload.replicas: want a whole number from 1 to 100, got "two"',
    ),
    ("workload.replicas", 2.5, "trainserve:workload.replicas: want a whole number from 1 to 100, got 2.5"),
    ("workload.replicas", True, "trainserve:workload.replicas: want a whole number from 1 to 100, got true"),
    ("workload.maxReplicas", 0, "trainserve:workload.maxReplicas: want a whole number from 1 to 100, got 0"),
    (
        "workload.cpuLimit",
        1,
        "trainserve:workload.cpuLimit: want a CPU quantity like 100m or 2, got 1 (a number",
    ),
    ("workload.memoryLimit", "256MB", "workload.memoryLimit: want a memory quantity like 128Mi or 1Gi, got"),
    (
        "workload.replica",
        2,
        "trainserve:workload.replica is not a setting: did you mean replicas? known here are",
    ),
    (
        "workload.targetCpuPercent",
        100,
        "workload.targetCpuPercent: want a whole number from 10 to 95, got 100",
    ),
    (
        "workload.namespace",
        "My_Space",
        "trainserve:workload.namespace: want at most 63 lower-case letters, digits",
    ),
    ("workload", "many", "trainserve:workload: want a section with capture, compute, cpuLimit, "),
    ("netwrok", {}, "trainserve:netwrok is not a setting: did you mean network? known here are cluster, "),
    (
        "network",
        REMOVED,
        "trainserve:network is missing: want a section with availabilityZones, cidr, flowLogs, ",
    ),
    (
        "network.cidr",
        "10.0.0.0",
        'trainserve:network.cidr: want an IPv4 network like 10.0.0.0/16, got "10.0.0.0"',
    ),
    (
        "network.availabilityZones",
        ["us-east-1a"],
        "trainserve:network.availabilityZones: want a list of 2 to 3, each ",
    ),
    (
        "network.availabilityZones",
        "us-east-1a",
        "trainserve:network.availabilityZones: want a list of 2 to 3, each ",
    ),
    (
        "network.availabilityZones",
        ["us-east-1a", "east"],
        "availabilityZones[1]: want an availability zone like",
    ),
    ("network.natPerZone", "yes", 'trainserve:network.natPerZone: want true or false, got "yes"'),
    ("environment.production", REMOVED, "trainserve:environment.production is missing: want true or false"),
    (
        "environment.logRetentionDays",
        8,
        "trainserve:environment.logRetentionDays: want one of 1, 3, 5, 7, 14, ",
    ),
    ("environment.alarmEmail", "nobody", "trainserve:environment.alarmEmail: want an e-mail address, got"),
    (
        "cluster.version",
        1.36,
        "trainserve:cluster.version: want one of 1.35, 1.36, got 1.36 (a number: put it in quotes)",
    ),
    ("cluster.version", "1.29", 'trainserve:cluster.version: want one of 1.35, 1.36, got "1.29"'),
    (
        "cluster.logTypes",
        ["api", "audits"],
        "trainserve:cluster.logTypes[1]: want one of api, audit, authenticator, ",
    ),
    ("cluster.admins", ["me"], 'trainserve:cluster.admins[0]: want the ARN of an IAM role or user, got "me"'),
    (
        "storage.noncurrentDays",
        0,
        "trainserve:storage.noncurrentDays: want a whole number from 1 to 3650, got 0",
    ),
    (
        "training.instanceType",
        "m5.large",
        "training.instanceType: want a SageMaker instance type like ml.m5.large",
    ),
    (
        "training.bootstrapData",
        ["a.csv"],
        "trainserve:training.bootstrapData: want a map from model to list of files, got",
    ),
    (
        "retraining.batchDelaySeconds",
        901,
        "retraining.batchDelaySeconds: want a whole number from 0 to 900, got 901",
    ),
    ("models", {}, "trainserve:models: want a map from 1 to 20 models' names to their settings, got {}"),
    (
        "models.Flights",
        {"target": "x", "task": "binary"},
        "trainserve:models.Flights: want at most 20 lower-case letters, digits and single hyphens",
    ),
    ("models.a--b", {"target": "x", "task": "binary"}, "trainserve:models.a--b: want at most 20 lower-case"),
    (
        "models.flights.task",
        "rank",
        'models.flights.task: want one of binary, multiclass, regression, got "rank"',
    ),
    ("models.flights.target", REMOVED, "trainserve:models.flights.target is missing: want a column's name"),
    ("models.flights.target", "a,b", "trainserve:models.flights.target: want a column's name"),
    ("models.flights.gateMargin", -0.1, "models.flights.gateMargin: want a number of at least 0, got -0.1"),
    (
        "models.flights.holdoutFraction",
        0.95,
        "holdoutFraction: want a number above 0 and below 0.9, got 0.95",
    ),
    (
        "models.flights.steps",
        [{"op": "sqrt"}],
        "trainserve:models.flights.steps[0].op: want one of clip, default, difference, log1p, ",
    ),
    (
        "models.flights.steps",
        [{"column": "a"}],
        "trainserve:models.flights.steps[0].op: want one of clip, default, ",
    ),
    (
        "models.flights.steps",
        [{"op": "timestamp_parts", "column": "t", "parts": ["month", "week"]}],
        "trainserve:models.flights.steps[0].parts[1]: want one of year, month, day, ",
    ),
    (
        "models.flights.steps",
        [{"op": "ratio", "column": "a", "output": "r"}],
        "trainserve:models.flights.steps[0].by is missing: want a column's name",
    ),
    (
        "models.flights.steps",
        [{"op": "clip", "column": "a", "low": 1}],
        "trainserve:models.flights.steps[0].low is not a setting: known here are column, max, min, ",
    ),
    (
        "models.flights.hyperparameters",
        {"eta": [1]},
        "flights.hyperparameters.eta: want text, a number, true or false",
    ),
    (
        "models.flights.hyperparameters",
        {"max-depth": 1},
        "hyperparameters.max-depth: want a parameter of XGBoost's",
    ),
    ("tags", {"Team!": "x"}, "trainserve:tags.Team!: want a tag's name of at most 128 letters"),
    ("tags", {"Team": 7}, "trainserve:tags.Team: want at most 256 letters, digits, spaces or any of"),
]


@pytest.mark.parametrize(("path", "value", "said"), FIELDS, ids=[f"{p}={v!r:.20}" for p, v, _ in FIELDS])
def test_a_wrong_field_is_named(path: str, value: Any, said: str) -> None:
    message = refusal({path: value})
    assert message.startswith("Pulumi.dev.yaml: 1 setting(s) cannot be used:\n  - ")
    assert said in message
    assert message.count("\n") == 1


def test_everything_is_said_at_once() -> None:
    message = refusal({"workload.replicas": "two", "netwrok": {}, "models.flights.task": "rank"})
    assert "3 setting(s)" in message
    for key in ("workload.replicas", "netwrok", "models.flights.task"):
        assert f"trainserve:{key}" in message


def test_no_word_of_the_library_reaches_the_user() -> None:
    messages = [refusal({path: value}) for path, value, _ in FIELDS]
    jargon = re.compile(
        r"pydantic|validation error|literal|tuple|type=|input_|dict|str\b|model_type|extra_forb",
        re.IGNORECASE,
    )
    for message in messages:
        assert not jargon.search(message), message


def test_settings_cannot_be_changed() -> None:
    settings = parse(values("dev"), stack="dev", region="us-east-1")
    with pytest.raises(pydantic.ValidationError):
        settings.workload.replicas = 7  # pyright: ignore[reportAttributeAccessIssue]


def test_only_this_programs_values_are_read() -> None:
    config = {
        "aws:region": "us-east-1",
        "trainserve:workload": json.dumps({"replicas": 2}),
        "trainserve:models": "no JSON",
        "other:key": "1",
    }
    assert raw_settings(config) == {"workload": {"replicas": 2}, "models": "no JSON"}


def test_the_project_file_declares_every_section_and_key() -> None:
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
    assert project["runtime"] == {"name": "python", "options": {"toolchain": "uv", "virtualenv": ".venv"}}
    schema = Settings.model_json_schema(by_alias=True)
    declared = project["config"]
    assert {key.removeprefix("trainserve:") for key in declared} == schema["properties"].keys()
    for name, section in schema["properties"].items():
        definition = schema["$defs"].get(section.get("$ref", "").rsplit("/", 1)[-1], {})
        if name == "models":
            definition = schema["$defs"]["Model"]
        for key in definition.get("properties", {}):
            assert key in declared[f"trainserve:{name}"]["description"], f"{name}.{key}"
        # Without it the CLI complains of a missing section before the program can say all that is wrong.
        assert declared[f"trainserve:{name}"]["default"] == {}
