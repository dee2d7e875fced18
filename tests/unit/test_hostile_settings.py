"""What a stack file holds by mistake, by YAML's own ideas, or on purpose: each refused, in words."""

import json
from typing import Any

import pytest
import yaml

from components.environment import SettingsError, parse, raw_settings
from components.sagemaker_extras import GREATER_IS_BETTER
from components.training import METRICS
from configuration import GREATER_IS_BETTER as SCRIPT_GREATER
from configuration import METRICS as SCRIPT_METRICS
from tests.unit.setting_files import changed, refusal

CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
PEER = {"peerVpcId": "vpc-0a1b2c3d", "peerCidr": "10.99.0.0/16"}
DEVELOPER = "arn:aws:iam::123456789012:role/x"


def host(name: str) -> dict[str, Any]:
    return {"loadBalancer.host": name, "loadBalancer.certificateArn": CERTIFICATE}


def step(**fields: Any) -> dict[str, Any]:
    return {"models.flights.steps": [fields]}


# What is written in the file, after the key and its colon.
YAML: list[tuple[str, str, str]] = [
    ("workload.replicas", "1_000", "workload.replicas: want a whole number from 1 to 100, got 1000"),
    ("workload.replicas", "2.0", "workload.replicas: want a whole number from 1 to 100, got 2.0"),
    ("workload.replicas", "0x7f", "workload.replicas: want a whole number from 1 to 100, got 127"),
    ("workload.replicas", "~", "workload.replicas: want a whole number from 1 to 100, got null"),
    ("workload.gracePeriodSeconds", "10:30", "want a whole number from 5 to 600, got 630"),
    ("workload.cpuLimit", "0.5", "want a CPU quantity like 100m or 2, got 0.5 (a number: put it in quotes)"),
    ("workload.namespace", "no", "trainserve:workload.namespace: want at most 63 lower-case letters"),
    ("workload", "", "trainserve:workload: want a section with capture, compute, "),
    ("workload", "[]", "trainserve:workload: want a section with capture, compute, "),
    ("network", "~", "trainserve:network: want a section with availabilityZones, "),
    ("network.natPerZone", '"true"', 'trainserve:network.natPerZone: want true or false, got "true"'),
    ("network.peering", "{}", "trainserve:network.peering.peerVpcId is missing: want a VPC's id"),
    ("cluster.version", "1.36", "got 1.36 (a number: put it in quotes)"),
    ("environment.alarmEmail", "2026-01-01", 'alarmEmail: want an e-mail address, got "2026-01-01"'),
    ("environment.monthlyBudgetUsd", "1e3", 'want a whole number from 1 to 10000000, got "1e3"'),
    ("observability.driftPsi", ".inf", "driftPsi: want a number above 0 and below 10, got Infinity"),
    ("observability.driftPsi", ".nan", "driftPsi: want a number above 0 and below 10, got NaN"),
    ("training.volumeGb", "-1", "training.volumeGb: want a whole number from 1 to 16384, got -1"),
    ("tags", "{x: yes}", "trainserve:tags.x: want at most 256 letters, "),
    ("tags", "{x: yes}", "got true (put it in quotes)"),
    ("tags", "[x]", 'trainserve:tags: want a map of at most 40 tags, got ["x"]'),
    ("models", "~", "trainserve:models: want a map from 1 to 20 models' names to their settings, got null"),
    ("models.flights", "~", "trainserve:models.flights: want a section with categorical, "),
    ("models", "{1: {target: x, task: binary}}", "trainserve:models.1: want at most 20 lower-case letters"),
    ("models.flights.steps", "[~]", "steps[0]: want a section with op, one of clip, default, "),
    ("models.flights.steps", "{op: log1p}", "steps: want a list, each a section with op, one of clip, "),
]


@pytest.mark.parametrize(("path", "text", "said"), YAML)
def test_what_yaml_makes_of_it_is_named(path: str, text: str, said: str) -> None:
    document = changed("dev", {path: yaml.safe_load(text)})
    # As the engine hands it over: each section as JSON, dates as text.
    handed = {f"trainserve:{key}": json.dumps(value, default=str) for key, value in document.items()}
    with pytest.raises(SettingsError) as caught:
        parse(raw_settings(handed), stack="dev", region="us-east-1")
    assert str(caught.value).startswith("Pulumi.dev.yaml: ")
    assert said in str(caught.value)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"network.cidr": "127.0.0.0/16"}, "network.cidr: want a private network from /16 to /20, got 127.0"),
    ({"network.cidr": "169.254.0.0/16"}, "network.cidr: want a private network from /16 to /20, got 169.254"),
    ({"network.cidr": "240.0.0.0/16"}, "network.cidr: want a private network from /16 to /20, got 240"),
    ({"network.cidr": "10.300.0.0/16"}, "10.300.0.0/16 is not a network: want numbers from 0 to 255"),
    (
        {"network.cidr": "10.0.0.0/33"},
        "10.0.0.0/33 is not a network: want numbers from 0 to 255 and a length",
    ),
    ({"network.cidr": "\u0661\u0660.0.0.0/16"}, "is not a network: want numbers from 0 to 255"),
    ({"network.cidr": "10.0.0.0/16\n"}, r'want an IPv4 network like 10.0.0.0/16, got "10.0.0.0/16\n"'),
    ({"network.peering": {**PEER, "peerCidr": "127.0.0.0/16"}}, "peering.peerCidr: want a private network"),
    ({"network.peering": {**PEER, "peerVpcId": "vpc-0a1b2c3d4e"}}, "peering.peerVpcId: want a VPC's id like"),
    ({"cluster.publicAccessCidrs": ["10.0.0.0/8"]}, "publicAccessCidrs[0]: 10.0.0.0/8 is private"),
    (
        {"cluster.publicAccessCidrs": [f"203.0.{i}.0/24" for i in range(41)]},
        "cluster.publicAccessCidrs: want a list",
    ),
    (
        {"cluster.developers": [DEVELOPER], "cluster.developerNamespaces": ["serving"]},
        "cluster.developerNamespaces: want each once, got serving, serving",
    ),
    ({"cluster.admins": ["arn:aws:iam::123456789012:role/*"]}, "cluster.admins[0]: want the ARN of an IAM"),
    (
        {"cluster.admins": ["arn:aws:iam::123456789012:root"]},
        "cluster.admins[0]: want the ARN of an IAM role",
    ),
    ({"workload.namespace": "kube-flannel"}, "workload.namespace: want a namespace of its own, got kube-"),
    ({"workload.namespace": "x" * 64}, "workload.namespace: want at most 63 lower-case letters"),
    ({"workload.cpuRequest": "0"}, "workload.cpuRequest: want a CPU quantity like 100m or 2, got"),
    ({"workload.cpuRequest": "0m"}, "workload.cpuRequest: want a CPU quantity like 100m or 2, got"),
    (
        {"workload.cpuRequest": "16", "workload.cpuLimit": "16"},
        "workload.cpuRequest: want at most 15, for no node",
    ),
    ({"workload.memoryRequest": "0Mi"}, "workload.memoryRequest: want a memory quantity like 128Mi or 1Gi"),
    ({"loadBalancer.inboundCidrs": ["0.0.0.0/1", "128.0.0.0/1"]}, "inboundCidrs[0]: 0.0.0.0/1 is everybody"),
    ({"loadBalancer.inboundCidrs": ["10.0.0.0/8"] * 2}, "loadBalancer.inboundCidrs: want each once"),
    (host("-a.example"), "loadBalancer.host: want a host name in lower case"),
    (host("a" * 64 + ".example"), "loadBalancer.host: want a host name in lower case"),
    (host("10.0.0.1"), 'loadBalancer.host: want a host name in lower case like models.example.com, got "10.'),
    (host("*.example.com"), "loadBalancer.host: want a host name in lower case"),
    ({"nodePools.onDemand.instanceFamilies": ["p3"]}, "p3 is no family of general machines, like m7i"),
    ({"nodePools.onDemand.instanceFamilies": ["inf2"]}, "inf2 is no family of general machines, like m7i"),
    ({"nodePools.onDemand.instanceFamilies": ["a1"]}, "a1 is arm64, and the serving image is amd64"),
    ({"nodePools.onDemand": None}, "trainserve:nodePools.onDemand: want a section with instanceFamilies"),
    ({"training.bootstrapData": {"flights": ["/etc/hostname"]}}, "want a .csv or .parquet file, got /etc/"),
    ({"training.bootstrapData": {"flights": ["../x.csv"]}}, "there is no file ../x.csv"),
    ({"training.bootstrapData": {"flights": ["a" * 500 + ".csv"]}}, "printable characters, 255 each part"),
    ({"training.bootstrapData": {"flights": ["a" * 5000 + ".csv"]}}, "want a path of at most 1000 printable"),
    (
        {"training.bootstrapData": {"flights": ["a\0.csv"]}},
        "want a path of at most 1000 printable",
    ),
    ({"training.tuning": {"maxJobs": 1}}, "training.tuning.parallelJobs: want at most maxJobs (1), got 2"),
    ({"models.flights.target": "la\x1bte"}, r"models.flights.target: want a column's name without control"),
    ({"models.flights.drop": ["a\tb"]}, r"models.flights.drop: want a column's name without control"),
    (
        step(op="log1p", column="a\u2028b"),
        r"steps[0]: want a column's name without control characters, got 'a\u",
    ),
    ({"models.flights.metric": "AUC!"}, "models.flights.metric: want a metric of XGBoost's like auc, got"),
    (
        {"models.flights.metric": "rmse"},
        "models.flights.metric: want one of auc, logloss, accuracy, brier wh",
    ),
    ({"models.flights.drop": ["x", "x"]}, "models.flights.drop: want each column once, got x, x"),
    ({"models.flights.categorical": ["origin"] * 2}, "models.flights.categorical: want each column once"),
    (step(op="clip", column="distance"), "steps[0]: want min, max or both: without them, clip does nothing"),
    (step(op="clip", column="distance", min=5, max=1), "steps[0].min: want at most max (1), got 5"),
    (
        step(op="timestamp_parts", column="time_hour", parts=["month", "month"]),
        "steps[0].parts: want each part once, got month, month",
    ),
    ({"models.flüge": {"target": "x", "task": "binary"}}, "models.flüge: want at most 20 lower-case letters"),
    (
        {"models.": {"target": "x", "task": "binary"}},
        "at most 20 lower-case letters, digits and single hyphens",
    ),
    ({"tags": {"aws:team": "x"}}, "tags.aws:team: tags like aws:, eks:, kubernetes.io/cluster/, "),
    ({"tags": {"karpenter.sh/nodepool": "x"}}, "tags.karpenter.sh/nodepool: tags like aws:, eks:, "),
    ({"tags": {"environment": "x"}}, "tags.environment: the program sets this tag itself (Environment, "),
    ({"tags": {"team": "x", "Team": "y"}}, "tags.Team: IAM does not tell it from a tag that differs in case"),
    ({"tags": {f"t{i}": "x" for i in range(41)}}, "trainserve:tags: want a map of at most 40 tags, got"),
    ({"tags": {"x": "a\n"}}, "trainserve:tags.x: want at most 256 letters, digits, spaces or any of"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=[said[:60] for _, said in WRONG])
def test_what_cannot_be_meant_is_named(changes: dict[str, Any], said: str) -> None:
    message = refusal(changes)
    assert message.startswith("Pulumi.dev.yaml: ")
    assert said in message


@pytest.mark.parametrize("stack", ["prod", "eu-prod", "production"])
def test_a_stack_called_production_is_production(stack: str) -> None:
    said = f"trainserve:environment.production: want true for a stack that is called {stack}"
    assert said in refusal({}, name=stack)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("mars", "aws:region: want a region like us-east-1, got mars"),
        ("us-east-1a", "aws:region: want a region like us-east-1, got us-east-1a"),
        ("us-iso-east-1", "aws:region: want a commercial region, got us-iso-east-1"),
    ],
)
def test_a_region_that_cannot_be_is_named(region: str, said: str) -> None:
    assert said in refusal({}, region=region)


def test_an_own_training_image_has_metrics_of_its_own() -> None:
    image = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/own@sha256:{'a' * 64}"
    changes = {"training.image": image, "models.flights.metric": "ndcg"}
    parse(changed("dev", changes), stack="dev", region="us-east-1")


def test_the_metrics_are_those_of_the_training_script() -> None:
    assert dict(METRICS) == dict(SCRIPT_METRICS)
    assert GREATER_IS_BETTER == SCRIPT_GREATER
