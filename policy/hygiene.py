"""Tags, pins, retention and budgets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from policy.model import Complaint, Rule, Stack, Subject, each

_TAGS: Final = ("Project", "Environment", "ManagedBy")
_DIGEST: Final = re.compile(r"@sha256:[0-9a-f]{64}$")
_HASH_TAG: Final = re.compile(r":[0-9a-f]{12,64}$")
_VERSION: Final = re.compile(r"^v?\d+\.\d+\.\d+([-+.].*)?$")
_FLOATING: Final = re.compile(r":latest$|^[^:@]+$")


def _untagged(stack: Stack) -> Iterable[Complaint]:
    """Resources whose tags lack one of ours; types that take no tags have no such property."""
    for subject in stack.subjects:
        tags = subject.props.get("tags")
        if isinstance(tags, Mapping) and subject.type.startswith(("aws:", "eks:")):
            missing = [tag for tag in _TAGS if tag not in tags]
            if missing:
                yield subject, f"lacks the tags {', '.join(missing)}"


def containers(subject: Subject) -> Iterator[Mapping[str, Any]]:
    """The containers of anything that makes pods, init containers included."""
    spec = pod_spec(subject)
    for key in ("initContainers", "containers"):
        yield from (spec or {}).get(key, [])


def pod_spec(subject: Subject) -> Mapping[str, Any] | None:
    """The pod's spec of a Pod, a workload with a template, or a CronJob."""
    for path in ("spec.jobTemplate.spec.template.spec", "spec.template.spec", "spec"):
        spec = subject.at(path)
        if isinstance(spec, Mapping) and "containers" in spec:
            return spec
    return None


def _images(stack: Stack) -> Iterable[Complaint]:
    for subject in stack.subjects:
        if not subject.type.startswith("kubernetes:"):
            continue
        for container in containers(subject):
            image = container.get("image")
            # The one exception: the first Deployment names the immutable tag of its source's hash.
            if isinstance(image, str) and not (_DIGEST.search(image) or _HASH_TAG.search(image)):
                yield subject, f"the container {container.get('name')} runs {image}"


@each("aws:codebuild/project:Project")
def _build_image(subject: Subject) -> Iterable[str]:
    image = subject.at("environment.image")
    if isinstance(image, str) and _FLOATING.search(image):
        yield f"builds in {image}"


@each("aws:ecr/repository:Repository")
def _tags_move(subject: Subject) -> Iterable[str]:
    if subject.props.get("imageTagMutability") != "IMMUTABLE":
        yield "its tags can be moved to other images"


@each("kubernetes:helm.sh/v3:Release", "kubernetes:helm.sh/v4:Chart", "aws:eks/addon:Addon")
def _versions(subject: Subject) -> Iterable[str]:
    key = "addonVersion" if subject.type.endswith(":Addon") else "version"
    version = subject.props.get(key)
    if version is None or (isinstance(version, str) and not _VERSION.match(version)):
        yield f"{key} is {version or 'not set'}"


@each("kubernetes:karpenter.k8s.aws/v1:EC2NodeClass")
def _machine_images(subject: Subject) -> Iterable[str]:
    for term in subject.at("spec.amiSelectorTerms") or []:
        alias = str(term.get("alias", ""))
        if alias.endswith("@latest"):
            yield f"its machine image is {alias}"


@each("aws:cloudwatch/logGroup:LogGroup")
def _retention(subject: Subject) -> Iterable[str]:
    if not subject.props.get("retentionInDays"):
        yield "keeps logs for ever"


def _budget(stack: Stack) -> Iterable[Complaint]:
    budgets = stack.of("aws:budgets/budget:Budget")
    if not budgets:
        yield None, "has no budget"
    for budget in budgets:
        if not budget.props.get("notifications"):
            yield budget, "tells nobody when it is spent"


RULES: Final = (
    Rule(
        id="tagged",
        level="mandatory",
        advice=f"Let components/tagging.py add {', '.join(_TAGS)}.",
        check=_untagged,
    ),
    Rule(
        id="image-by-digest",
        level="mandatory",
        advice="Name the image by digest (repository@sha256:…).",
        check=_images,
    ),
    Rule(
        id="build-image-pinned",
        level="mandatory",
        advice="Name a version of the build image.",
        check=_build_image,
    ),
    Rule(
        id="image-tags-immutable",
        level="mandatory",
        advice="Set imageTagMutability to IMMUTABLE.",
        check=_tags_move,
    ),
    Rule(
        id="version-pinned",
        level="mandatory",
        advice="Take the version from components/versions.py.",
        check=_versions,
    ),
    Rule(
        id="machine-image-pinned",
        level="mandatory",
        advice="Pin the alias to a dated version, like al2023@v20261101.",
        check=_machine_images,
    ),
    Rule(
        id="logs-retained",
        level="mandatory",
        advice="Set retentionInDays.",
        check=_retention,
    ),
    Rule(
        id="budget",
        level="mandatory",
        advice="Set trainserve:environment.monthlyBudgetUsd and a recipient.",
        check=_budget,
    ),
)
