"""Default tags and labels for everything in the stack, added by one transformation.

A transformation works the same under the real engine, under mocks and for explicit providers; a provider's
default tags are invisible to a plan, and an explicit AWS provider does not suit pulumi-eks.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import pulumi

MANAGED_BY: Final = "trainserve"
RESERVED: Final = frozenset({"Project", "Environment", "ManagedBy"})
"""Tags that this program sets itself; settings cannot override them."""

_OBJECT: Final = "aws:s3/bucketObjectv2:BucketObjectv2"
"""An object in a bucket takes ten tags at the most; the settings may have forty."""


FOREIGN: Final = (
    "aws:",
    "eks:",
    "kubernetes.io/cluster/",
    "karpenter.",
    "elbv2.k8s.aws/",
    "ingress.k8s.aws/",
)
"""Beginnings of tags that AWS refuses from others, or that controllers know their own by."""


def default_tags(stack: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The tags of every taggable resource in the stack."""
    return {**extra, "Project": pulumi.get_project(), "Environment": stack, "ManagedBy": MANAGED_BY}


def default_labels(stack: str) -> dict[str, str]:
    """The labels of every Kubernetes object in the stack."""
    return {"app.kubernetes.io/managed-by": MANAGED_BY, "app.kubernetes.io/part-of": f"{MANAGED_BY}-{stack}"}


def takes_tags(resource: pulumi.Resource) -> bool:
    """Whether a resource's type has `tags`, judged by the class that the provider's package generated."""
    return isinstance(getattr(type(resource), "tags", None), property)


def _merged(defaults: Mapping[str, str], own: Any) -> Any:  # noqa: ANN401  # plain or an output
    if own is None:
        return dict(defaults)
    if isinstance(own, pulumi.Output):
        given = cast("pulumi.Output[dict[str, str] | None]", own)
        return given.apply(lambda tags: {**defaults, **(tags or {})})
    return {**defaults, **own}


def register(stack: str, extra: Mapping[str, str]) -> None:
    """Adds the default tags and labels to every resource that is registered after this call."""
    tags, fewest = default_tags(stack, extra), default_tags(stack, {})
    labels = default_labels(stack)

    def add(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        props: dict[str, Any] = dict(args.props)
        if args.type_.startswith("kubernetes:helm.sh/"):
            return None  # a chart's objects carry the chart's labels
        if args.type_.startswith("kubernetes:"):
            metadata = props.get("metadata") or {}
            if not isinstance(metadata, Mapping):  # typed args or an output: nothing of ours is written so
                raise TypeError(f"{args.name}: write metadata as a plain dictionary")
            props["metadata"] = {**metadata, "labels": _merged(labels, metadata.get("labels"))}
        elif args.type_ == _OBJECT:
            props["tags"] = _merged(fewest, props.get("tags"))
        elif args.type_ == "eks:index:Cluster" or takes_tags(args.resource):
            props["tags"] = _merged(tags, props.get("tags"))
        else:
            return None
        return pulumi.ResourceTransformationResult(props=props, opts=args.opts)

    pulumi.runtime.register_stack_transformation(add)
