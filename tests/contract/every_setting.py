"""Every field of the settings, another valid value for each, and what of the program shows the difference.

Many fields are changed in one run, and each of them in other runs than all others: a place in the program
that differs from the base in one field's runs only is that field's. So a dozen runs show what
a hundred would.
"""

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, get_args

import yaml
from pulumi.runtime import rpc
from pydantic.fields import FieldInfo

from components.environment import parse
from components.section import Section
from components.settings import Settings
from tests.contract.recorder import Program, run_file, stack_config

Place = tuple[str, ...]
Document = dict[str, Any]
Rendering = Mapping[Place, Any]

ID = "0a1b2c3d-0a1b-4a1b-8a1b-0a1b2c3d4e5f"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/own@sha256:" + "a" * 64
BALANCER = "app/k8s-serving/50dc6c495c0c9188"
REGION = "us-east-1"
ADDED = yaml.safe_load(f"""
network:
  peering: {{peerVpcId: vpc-0a1b2c3d4e5f60718, peerCidr: 10.99.0.0/16, peerRegion: eu-west-1}}
  interfaceEndpoints: [sts, logs]
cluster:
  admins: ["arn:aws:iam::123456789012:role/admin"]
  developers: ["arn:aws:iam::123456789012:role/developer"]
  publicAccessCidrs: [203.0.113.0/24]
training: {{tuning: {{}}, modelMonitor: {{}}}}
nodePools:
  gpu:
    slices: {{instanceTypes: [g5.xlarge], sharing: time-sliced, replicas: 4}}
    parts: {{instanceTypes: [p4d.24xlarge], sharing: mig, migProfile: 1g.5gb, maxGpus: 8}}
loadBalancer:
  host: models.example.com
  certificateArn: arn:aws:acm:us-east-1:123456789012:certificate/{ID}
observability: {{loadBalancer: {BALANCER}}}
models:
  flights:
    steps:
      - {{op: timestamp_parts, column: time_hour, parts: [month, hour]}}
      - {{op: log1p, column: distance, output: a}}
      - {{op: clip, column: distance, min: 0, max: 9, output: b}}
      - {{op: ratio, column: distance, by: air_time, output: c}}
      - {{op: difference, column: distance, minus: air_time, output: d}}
      - {{op: map, column: carrier, values: {{UA: 1}}, default: 0, output: e}}
      - {{op: default, column: distance, value: 0, output: f}}
""")
"""What dev's file lacks of what can be set."""

OTHER: dict[str, Any] = {
    # Field → another value, valid beside whatever other fields are changed to; where none can be derived.
    "Environment.alarm_email": "on-call@example.com",
    "Network.cidr": "10.12.0.0/16",
    "Network.availability_zones": ["us-east-1a", "us-east-1b", "us-east-1c"],
    "Network.flow_logs": "arn:aws:s3:::central-flow-logs",
    "Peering.peer_vpc_id": "vpc-0a1b2c3d4e5f60719",
    "Peering.peer_cidr": "10.98.0.0/16",
    "Peering.peer_account": "210987654321",
    "Peering.peer_region": "eu-west-2",
    "Cluster.public_access_cidrs": ["198.51.100.0/24"],
    "Cluster.admins": ["arn:aws:iam::123456789012:role/other"],
    "Cluster.developers": ["arn:aws:iam::123456789012:role/somebody"],
    "Cluster.developer_namespaces": ["team-a"],
    "Training.image": IMAGE,
    "Training.instance_type": "ml.c7i.large",
    "Training.bootstrap_data": {"flights": ["data/flights/2013-01.csv"]},
    "ModelMonitor.instance_type": "ml.c7i.large",
    "Retraining.drift_schedule": "rate(2 hours)",
    "Workload.namespace": "models",
    "Workload.image_digest": "sha256:" + "c" * 64,
    "Workload.grpc_port": 9000,
    "Workload.min_replicas": 1,
    "Workload.cpu_request": "110m",
    "Workload.cpu_limit": "2",
    "Workload.memory_request": "160Mi",
    "Workload.memory_limit": "320Mi",
    "OnDemand.instance_families": ["m7i"],
    "Spot.instance_families": ["m7i", "m7a", "c7i", "c7a", "r7i"],
    "Gpu.instance_types": ["g6.xlarge"],
    "Gpu.sharing": "exclusive",
    "Gpu.mig_profile": "2g.10gb",
    "NodePools.gpu": {},
    "LoadBalancer.host": "other.example.com",
    "LoadBalancer.certificate_arn": f"arn:aws:acm:us-east-1:123456789012:certificate/{ID[::-1]}",
    "LoadBalancer.waf_acl_arn": f"arn:aws:wafv2:us-east-1:123456789012:regional/webacl/a/{ID}",
    "LoadBalancer.inbound_cidrs": ["10.0.0.0/8"],
    "LoadBalancer.deregistration_seconds": 4,
    "Observability.load_balancer": BALANCER.replace("serving", "others"),
    "KubeBench.schedule": "0 4 * * 0",
    "Settings.models": {"second": {"target": "y", "task": "binary"}},
    "Settings.tags": {"Team": "models"},
    "Model.target": "dest",
    "Model.drop": ["tailnum"],
    "Model.categorical": ["carrier", "origin"],
    "Model.steps": [],
    "Model.metric": "logloss",
    "Model.hyperparameters": {"eta": 0.3},
    "TimestampParts.column": "other_hour",
    "Map.values": {"UA": 2},
    "Map.default": 1,
    "Default.value": 1,
    **{f"{step}.column": "day" for step in ("Log1p", "Clip", "Ratio", "Difference", "Map", "Default")},
    **{f"{step}.output": "z" for step in ("Log1p", "Clip", "Ratio", "Difference", "Map", "Default")},
    "Ratio.by": "day",
    "Difference.minus": "day",
}
TOGETHER: dict[str, Document] = {
    # Field → what must be set with it; such a field is changed in a run of its own.
    "Gpu.sharing": {"nodePools.gpu.slices.replicas": None},
    "Workload.capture": {"training.modelMonitor": None},
    "Workload.compute": {
        "training.modelMonitor": None,
        "workload.capture": None,
        "security.networkPolicies": False,
        "security.subjectKey": False,
        "nodePools.gpu": {},
    },
    "Model.task": {"models.flights.metric": None},
    "Model.target": {"models.flights.categorical": ["carrier", "origin"]},
}
ALONE = {"Workload.tls", *TOGETHER}
"""Fields that others cannot be changed beside."""

COVERING = {"Training.spot", "Workload.grpc_port", "Settings.models", "Model.steps", "NodePools.gpu"}
"""Fields that much of the program comes or goes with, as with sections that are switched off."""

REFUSED = {"Environment.production": "production"}
"""Fields that decide only what else is accepted, and what the refusal names."""

FIXED = {
    f"{step}.op" for step in ("TimestampParts", "Log1p", "Clip", "Ratio", "Difference", "Map", "Default")
}
"""Not a choice, but the name of the step."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Another value of one field, as it stands in the stack file."""

    field: str
    place: Place
    value: Any

    @property
    def covering(self) -> bool:
        """Whether other changes cannot be seen beside it."""
        return self.field in COVERING or self.value is None


def full() -> Document:
    """Dev's settings and what they lack, with every default written out."""
    found = {k.removeprefix("trainserve:"): v for k, v in stack_config("dev").items() if ":region" not in k}
    return accepted(merged(found, ADDED)).model_dump(mode="json", by_alias=True)


def accepted(document: Document) -> Settings:
    return parse(document, stack="dev", region=REGION)


def merged(one: Document, two: Document) -> Document:
    both = {key: merged(one[key], two[key]) for key in one.keys() & two.keys() if isinstance(two[key], dict)}
    return {**one, **two, **both}


def sections(kind: Any = Settings) -> set[type[Section]]:
    """Every kind of section that the settings are made of."""
    if isinstance(kind, type) and issubclass(kind, Section):
        inner = [sections(field.annotation) for field in kind.model_fields.values()]
        return {kind}.union(*inner)
    return set[type[Section]]().union(*(sections(part) for part in get_args(kind)))


def fields() -> set[str]:
    return {
        f"{kind.__name__}.{name}"
        for kind in sections()
        for name, info in kind.model_fields.items()
        if not _is_section(info)
    }


def _is_section(info: FieldInfo) -> bool:
    """Whether a field is a section that is always there: nothing but its own fields to change."""
    return isinstance(info.annotation, type) and issubclass(info.annotation, Section)


def changes(document: Document) -> dict[str, Change]:
    """Field → its change, at the first place where the document has a value of it."""
    found: dict[str, Change] = {}
    for field, place, info in _leaves(accepted(document), ()):
        if field in FIXED or (field in found and _at(document, found[field].place) is not None):
            continue
        found[field] = Change(field=field, place=place, value=_other(field, info, _at(document, place)))
    return found


def _leaves(section: Section, place: Place) -> Iterator[tuple[str, Place, FieldInfo]]:
    """Fields with a value of their own, and those that can be switched off as a whole."""
    for name, info in type(section).model_fields.items():
        here, value = (*place, info.alias or name), getattr(section, name)
        inner: list[tuple[Place, Any]] = [(here, value)]
        if isinstance(value, Mapping):
            inner = [((*here, str(key)), item) for key, item in value.items()]
        elif isinstance(value, tuple):
            inner = [((*here, str(index)), item) for index, item in enumerate(value)]
        nested = [(where, item) for where, item in inner if isinstance(item, Section)]
        if not _is_section(info):
            yield f"{type(section).__name__}.{name}", here, info
        for where, item in nested:
            yield from _leaves(item, where)


def _other(field: str, info: FieldInfo, value: Any) -> Any:
    """Another value, derived from the field's type and bounds."""
    if field in OTHER:
        return OTHER[field]
    if isinstance(value, dict):
        return None  # a section that can be switched off
    if isinstance(value, bool):
        return not value
    schema = _schema(field, info)
    if isinstance(value, int | float) and "enum" not in schema:
        step = 1 if isinstance(value, int) else 0.01
        return value - step if value == schema.get("maximum") else value + step
    choices = schema.get("enum") or schema.get("items", {}).get("enum") or []
    unused = [choice for choice in choices if choice not in (value if isinstance(value, list) else [value])]
    if isinstance(value, list) and (unused or len(value) > 1):
        return [*value, unused[0]] if unused else value[:-1]
    assert unused, f"say in OTHER of {__file__} what else {field} can be"
    return unused[0]


def _schema(field: str, info: FieldInfo) -> Document:
    """The field as JSON schema has it, without what it refers to."""
    kind = next(kind for kind in sections() if kind.__name__ == field.partition(".")[0])
    schema = kind.model_json_schema()["properties"][info.alias]
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    return options[0]


def _at(document: Any, place: Place) -> Any:
    for part in place:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def changed(document: Document, *wanted: Change) -> Document:
    """The document with these changes, and with what they need."""
    found = deepcopy(document)
    for change in wanted:
        _put(found, change.place, change.value)
        for place, value in TOGETHER.get(change.field, {}).items():
            _put(found, tuple(place.split(".")), value)
    return found


def _put(document: Document, place: Place, value: Any) -> None:
    holder, last = _at(document, place[:-1]), place[-1]
    if isinstance(value, dict) and value and last == "models":
        value = {**holder[last], **value}
    holder[last] = value


def rendering(document: Document) -> Rendering:
    """Every single value of the program that the settings make."""
    config = {f"trainserve:{name}": section for name, section in document.items()}
    return dict(values(run_file("dev", {"aws:region": REGION, **config})))


def values(program: Program) -> Iterator[tuple[Place, Any]]:
    for resource in program.resources:
        options = {"protect": resource.protect, "retain": resource.retain, "ignored": resource.ignore_changes}
        yield from _values((resource.urn,), {**resource.inputs, "options": options})


def _values(place: Place, value: Any) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, str) and value[:1] in {"{", "["}:
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, Mapping) and rpc._special_sig_key in value:
        yield place, "a secret"  # drawn anew by every run
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _values((*place, str(key)), item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            yield from _values((*place, str(index)), item)
    else:
        yield place, value if isinstance(value, str | int | float | bool | None) else repr(type(value))


def unseen(before: Rendering, base: Document, wanted: Sequence[Change]) -> list[Change]:
    """Those of the changes that no place of the program shows, when many are made at once."""
    runs = next(n for n in range(2, 20) if len(_codes(n)) >= len(wanted))
    codes = dict(zip((change.field for change in wanted), _codes(runs), strict=False))
    after = [
        rendering(changed(base, *(change for change in wanted if run in codes[change.field])))
        for run in range(runs)
    ]
    shown: set[str] = set()
    for place in set(before).union(*after):
        there = {run for run in range(runs) if place in after[run]}
        gone = set(range(runs)) - there
        shown |= _only(codes, gone if place in before else there, {*range(runs)})
        if place in before:  # where another change took the place away, it says nothing
            shown |= _only(codes, {run for run in there if after[run][place] != before[place]}, there)
    return [change for change in wanted if change.field not in shown]


def _only(codes: Mapping[str, frozenset[int]], differing: set[int], telling: set[int]) -> set[str]:
    """The field, if there is but one, whose runs are those that differ."""
    fitting = {field for field, code in codes.items() if telling & code == differing}
    return fitting if len(fitting) == 1 else set()


def _codes(runs: int) -> list[frozenset[int]]:
    """In which of the runs a change is made: no field's runs are all among another's."""
    return [frozenset(code) for code in itertools.combinations(range(runs), runs // 2)]
