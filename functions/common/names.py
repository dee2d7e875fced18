"""Names that carry meaning: training jobs and the state table's records."""

import hashlib
import re
from dataclasses import dataclass

_WORD = r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
_JOB = re.compile(
    rf"ts-(?P<stack>{_WORD})--(?P<model>{_WORD})-(?P<hash>[a-z0-9]{{8}})-(?P<suffix>[A-Za-z0-9]+)"
)
_MODEL = re.compile(_WORD)
_SORT_KEY_BYTES = 1024

ACCEPTED = "accepted"
CHAMPION = "champion"
COUNTER = "counter"
LEASE = "lease"
RELEASES = "release#"
REFUSALS = "refused#"


@dataclass(frozen=True)
class JobName:
    """The parts of `ts-<stack>--<model>-<first 8 of the data-set hash>-<suffix>`."""

    stack: str
    model: str
    hash8: str
    suffix: str

    def __str__(self) -> str:
        return f"ts-{self.stack}--{self.model}-{self.hash8}-{self.suffix}"


def parse_job(name: str) -> JobName | None:
    """Return the parts of a training job's name; None for jobs that are not of any trainserve stack."""
    match = _JOB.fullmatch(name)
    return JobName(match["stack"], match["model"], match["hash"], match["suffix"]) if match else None


def job_prefix(stack: str, model: str) -> str:
    """Return what the names of a model's jobs begin with (and those of models that extend its name)."""
    return f"ts-{stack}--{model}-"


def is_model(name: object) -> bool:
    """Say whether this can be a model's name."""
    return isinstance(name, str) and len(name) <= 20 and _MODEL.fullmatch(name) is not None


def dataset(digest: str) -> str:
    """Return the record of a data set's training: attempts and how they ended."""
    return f"dataset#{digest}"


def job(name: str) -> str:
    """Return the record by which one execution claims a finished job."""
    return f"job#{name}"


def release(number: int) -> str:
    """Return the record of a release; sorts by number."""
    return f"{RELEASES}{number:06d}"


def refusal(key: str, version: str) -> str:
    """Return the record of an upload that must not be trained on."""
    record = f"{REFUSALS}{key}#{version}"
    if len(record.encode()) <= _SORT_KEY_BYTES:
        return record
    # An object's key may be as long as a sort key; the record's own fields have it in full.
    return f"{REFUSALS}sha256-{hashlib.sha256(key.encode()).hexdigest()}#{version}"
