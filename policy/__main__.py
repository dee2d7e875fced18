"""The rules as a CrossGuard pack for the real engine: `pulumi preview --policy-pack policy`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    StackValidationArgs,
    StackValidationPolicy,
)

# The engine runs this folder as a program of its own; the package is found from the folder above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from policy.model import UNKNOWN, Rule, Stack, Subject, findings
from policy.rules import RULES


def plain(value: Any) -> Any:
    """A plain copy of a property; what is unknown at preview becomes UNKNOWN."""
    if isinstance(value, Mapping):
        return {key: plain(_known(value, key)) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(_known(value, index)) for index in range(len(value))]
    return value


def _known(container: Any, key: Any) -> Any:
    try:
        return container[key]
    except Exception:  # noqa: BLE001  # the SDK's proxies raise a private error for unknown values
        return UNKNOWN


def subject(resource: Any) -> Subject:
    """A resource as the rules see it."""
    return Subject(
        urn=resource.urn,
        type=resource.resource_type,
        name=resource.name,
        props=plain(resource.props) or {},
        protect=bool(resource.opts and resource.opts.protect),
    )


def policy(rule: Rule) -> StackValidationPolicy:
    """One rule as a policy of the pack."""

    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        # Of a remote component the engine shows outputs only; the cluster in it is a resource of its own.
        subjects = [subject(r) for r in args.resources if not r.resource_type.startswith("eks:")]
        stack = Stack(name=pulumi.get_stack(), subjects=subjects)
        for finding in findings([rule], stack):
            report(f"{finding.name} {finding.message}. {finding.advice}", finding.urn or None)

    return StackValidationPolicy(
        name=rule.id,
        description=rule.advice,
        enforcement_level=EnforcementLevel(rule.level),
        validate=validate,
    )


PolicyPack(name="trainserve", policies=[policy(rule) for rule in RULES])
