"""What holds state survives a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from policy.model import Complaint, Rule, Stack, Subject, each

if TYPE_CHECKING:
    from collections.abc import Iterable

_STATEFUL: Final = (
    "aws:s3/bucket:Bucket",
    "aws:dynamodb/table:Table",
    "aws:ecr/repository:Repository",
    "aws:kms/key:Key",
    "eks:index:Cluster",
)

_REFUSING: Final = {
    "aws:dynamodb/table:Table": "deletionProtectionEnabled",
    "aws:eks/cluster:Cluster": "deletionProtection",
    "eks:index:Cluster": "deletionProtection",
}
"""What AWS itself refuses to delete, by whatever way it is asked, and the property that tells it to."""


def _protected(stack: Stack) -> Iterable[Complaint]:
    if stack.production:
        for subject in stack.of(*_STATEFUL):
            if not subject.protect:
                yield subject, "can be deleted by a mistake"
        for subject in stack.of(*_REFUSING):
            if subject.props and not subject.props.get(_REFUSING[subject.type]):
                yield subject, f"{_REFUSING[subject.type]} is not true, so AWS deletes it when asked"


def _not_forced(stack: Stack) -> Iterable[Complaint]:
    if stack.production:
        for subject in stack.of("aws:s3/bucket:Bucket", "aws:ecr/repository:Repository"):
            if subject.props.get("forceDestroy") or subject.props.get("forceDelete"):
                yield subject, "would be deleted with all that is in it"


def _versioned(stack: Stack) -> Iterable[Complaint]:
    versions = stack.of("aws:s3/bucketVersioning:BucketVersioning")
    for bucket in stack.of("aws:s3/bucket:Bucket"):
        enabled = [
            v
            for v in versions
            if (v.name.startswith(f"{bucket.name}-") or v.props.get("bucket") == bucket.name)
            and v.at("versioningConfiguration.status") == "Enabled"
        ]
        if not enabled:
            yield bucket, "keeps no versions"


@each("aws:kms/key:Key")
def _rotation(subject: Subject) -> Iterable[str]:
    if not subject.props.get("enableKeyRotation"):
        yield "is never rotated"


@each("aws:dynamodb/table:Table")
def _recovery(subject: Subject) -> Iterable[str]:
    if not subject.at("pointInTimeRecovery.enabled"):
        yield "cannot be restored to a point in time"


@each("aws:sqs/queue:Queue")
def _dead_letters(subject: Subject) -> Iterable[str]:
    holds_failures = any(word in subject.name for word in ("dead", "undelivered", "interruption"))
    if not subject.props.get("redrivePolicy") and not holds_failures:
        yield "has no dead-letter queue"


RULES: Final = (
    Rule(
        id="production-protected",
        level="mandatory",
        advice="Set trainserve:environment.protect to true.",
        check=_protected,
    ),
    Rule(
        id="production-not-forced",
        level="mandatory",
        advice="Set trainserve:storage.forceDestroy to false.",
        check=_not_forced,
    ),
    Rule(
        id="bucket-versioned",
        level="mandatory",
        advice="Enable versioning: data sets name object versions.",
        check=_versioned,
    ),
    Rule(
        id="key-rotated",
        level="mandatory",
        advice="Set enableKeyRotation.",
        check=_rotation,
    ),
    Rule(
        id="table-recoverable",
        level="mandatory",
        advice="Enable point-in-time recovery.",
        check=_recovery,
    ),
    Rule(
        id="dead-letters",
        level="mandatory",
        advice="Give the queue a redrive policy.",
        check=_dead_letters,
    ),
)
