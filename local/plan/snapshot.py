"""One run of the program as plain, comparable data: no secrets, and no made-up ids that look real.

Run as a module it writes a snapshot as JSON to standard output; `--against` has a second process do so.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from local.errors import LocalError
from policy.model import Finding, Stack, Subject, findings
from policy.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local.engine import Resource

Kind = Literal["resource", "component", "provider"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """A resource, component or provider of the program."""

    urn: str
    type: str
    name: str
    parent: str | None = None
    kind: Kind = "resource"
    component: str = ""
    """The part of the platform that it belongs to."""
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """As JSON. What a provider computes stands there as ${name.output}."""
    dependencies: tuple[str, ...] = ()
    """URNs, sorted; those behind inputs included."""
    property_dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    provider: str | None = None
    """URN."""
    protect: bool = False
    retain: bool = False
    read: bool = False
    """An existing resource that the program only looks at."""

    @property
    def key(self) -> str:
        """What stays the same from stack to stack: the URN after the stack's name."""
        return self.urn.split("::", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A stack as its program declares it."""

    stack: str
    items: Sequence[Item]
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """"namespace:key" to value."""
    findings: Sequence[Finding] = ()
    messages: Sequence[str] = ()
    """What the program logged: warnings and above."""

    def resources(self) -> list[Item]:
        """What would exist in the cloud or the cluster."""
        return [item for item in self.items if item.kind == "resource" and not item.read]

    def of(self, *types: str) -> list[Item]:
        """The resources of these types."""
        return [item for item in self.resources() if item.type in types]

    def counts(self) -> dict[str, int]:
        """Component to the number of its resources, in the order of declaration."""
        return dict(Counter(item.component for item in self.resources()))

    def by_urn(self) -> dict[str, Item]:
        """URN to item."""
        return {item.urn: item for item in self.items}

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Snapshot:
        """What `to_json` wrote; fields that this version does not know are left out."""
        return cls(
            stack=document["stack"],
            items=[_item(entry) for entry in document["items"]],
            settings=document["settings"],
            findings=[Finding(**entry) for entry in document["findings"]],
            messages=document["messages"],
        )


def take(project: Path, stack: str) -> Snapshot:
    """Run the program of `project` for `stack`.

    Raises:
        ProgramError: what the program had to say against its settings, or against itself.
    """
    from local.engine import run_program  # noqa: PLC0415  # brings Pulumi in
    from local.plan.plain import Plain  # noqa: PLC0415
    from local.stackfile import StackConfig  # noqa: PLC0415

    run = run_program(stack, project=project)
    resources = in_order(run.resources)
    plain = Plain(run.resources, project)
    components = component_names(run.resources)
    # What a component made elsewhere has inside can be depended on, and is not in the plan.
    known = {resource.urn for resource in run.resources}
    config = StackConfig.load(project, stack, {})
    return Snapshot(
        stack=stack,
        items=[
            Item(
                urn=resource.urn,
                type=resource.type,
                name=resource.name,
                parent=resource.parent if resource.parent in components else None,
                kind=_kind(resource),
                component=components[resource.urn],
                inputs=plain.inputs(resource),
                dependencies=tuple(sorted(known & {*resource.dependencies})),
                property_dependencies={
                    key: tuple(sorted(urns)) for key, urns in sorted(resource.property_dependencies.items())
                },
                provider=resource.provider.rpartition("::")[0] if resource.provider else None,
                protect=resource.protect,
                retain=resource.retain_on_delete,
                read=resource.read,
            )
            for resource in resources
        ],
        settings={key: _decoded(value) for key, value in sorted(config.values.items())},
        findings=[
            replace(finding, message=plain.text(finding.message))
            for finding in findings(RULES, _subjects(stack, run.resources))
        ],
        messages=[plain.text(message) for message in run.messages],
    )


def in_order(resources: Sequence[Resource]) -> list[Resource]:
    """Each below its parent, siblings by name: the same at every run, as the engine's order is not."""
    known = {resource.urn for resource in resources}
    children: dict[str, list[Resource]] = {}
    for resource in resources:
        children.setdefault(resource.parent if resource.parent in known else "", []).append(resource)
    found: list[Resource] = []
    left = children.pop("", [])
    left.sort(key=lambda r: (r.name, r.type), reverse=True)
    while left:
        found.append(left.pop())
        inside = children.pop(found[-1].urn, [])
        left += sorted(inside, key=lambda r: (r.name, r.type), reverse=True)
    return found


def component_names(resources: Sequence[Resource]) -> dict[str, str]:
    """URN to the name of the part it belongs to: the component below the program's outermost one."""
    known = {resource.urn: resource for resource in resources}
    names: dict[str, str] = {}
    for resource in resources:
        chain = [resource]
        while (parent := known.get(chain[-1].parent or "")) is not None and parent not in chain:
            chain.append(parent)
        components = [step for step in reversed(chain) if step.is_component]
        if not components:
            names[resource.urn] = resource.type.split(":")[0]
        elif len(components) == 1:
            names[resource.urn] = components[0].type.split(":")[-1].lower()
        else:
            names[resource.urn] = components[1].name.removeprefix(f"{components[0].name}-")
    return names


def _subjects(stack: str, resources: Sequence[Resource]) -> Stack:
    return Stack(
        name=stack,
        subjects=[
            Subject(urn=r.urn, type=r.type, name=r.name, props=r.inputs, protect=r.protect) for r in resources
        ],
    )


def _kind(resource: Resource) -> Kind:
    return "component" if resource.is_component else "provider" if resource.is_provider else "resource"


def _decoded(value: str) -> Any:  # noqa: ANN401  # any setting
    try:
        return json.loads(value)
    except ValueError:
        return value


def _item(entry: Mapping[str, Any]) -> Item:
    known = {of.name for of in fields(Item)}
    values = {key: value for key, value in entry.items() if key in known}
    values["dependencies"] = tuple(values["dependencies"])
    values["property_dependencies"] = {
        key: tuple(urns) for key, urns in values["property_dependencies"].items()
    }
    return Item(**values)


def main() -> int:
    """Write the snapshot of a stack to standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--stack", required=True)
    options = parser.parse_args()
    gc.disable()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            document = take(options.project, options.stack).to_json()
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(document, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
