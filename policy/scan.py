"""Holds a second opinion against the stacks: checkov's rules, over everything that a plan declares.

Kubernetes objects are scanned as they are, AWS resources as Terraform would have them (`terraform.py` here);
what charts bring is not the program's, and is not scanned. checkov's open edition knows no severities, so
every finding counts: it is repaired, or stands with its reason in `exceptions.yaml`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import yaml

from policy.terraform import configuration

EXCEPTIONS: Final = Path(__file__).with_name("exceptions.yaml")
_CHART: Final = "kubernetes:helm.sh/v3:Release"


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A check that failed on a resource."""

    check: str
    title: str
    resource: str
    """The logical name; of a Kubernetes object namespace and name."""


@dataclass(frozen=True, kw_only=True)
class Excepted:
    """A check that may fail on some resources (names, with * for any text), and why."""

    check: str
    resources: Sequence[str]
    reason: str
    stacks: Sequence[str] = ("*",)

    def covers(self, stack: str, found: Failed) -> bool:
        """Whether this is about that finding."""
        return (
            found.check == self.check
            and any(fnmatchcase(stack, pattern) for pattern in self.stacks)
            and any(fnmatchcase(found.resource, pattern) for pattern in self.resources)
        )


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """What checkov said of one stack."""

    passed: int
    failed: Sequence[Failed]


def exceptions(path: Path = EXCEPTIONS) -> list[Excepted]:
    """What is written down."""
    return [Excepted(**entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]


def manifests(resources: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The Kubernetes objects among the `resources` of a plan."""
    return [
        resource["inputs"]
        for resource in resources
        if resource["type"].startswith("kubernetes:") and resource["type"] != _CHART
    ]


def read(reports: Any) -> Scanned:
    """What checkov wrote as JSON, of one framework or of several.

    Raises:
        ValueError: it could not read something, or found nothing to look at.
    """
    failed: list[Failed] = []
    passed = 0
    for report in reports if isinstance(reports, list) else [reports]:
        if "results" not in report or report["summary"]["parsing_errors"]:
            raise ValueError(f"checkov could not read what it was given: {json.dumps(report)[:500]}")
        passed += report["summary"]["passed"]
        failed += [
            Failed(
                check=entry["check_id"],
                title=entry["check_name"],
                resource=entry["resource"].partition(".")[2],
            )
            for entry in report["results"]["failed_checks"]
        ]
    return Scanned(passed=passed, failed=failed)


def plan(stack: str) -> list[dict[str, Any]]:
    """The stack's resources, as its plan has them."""
    command = [sys.executable, "-m", "local", "plan", stack, "--format", "json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["resources"]


def scan(checkov: str, resources: Sequence[Mapping[str, Any]]) -> Scanned:
    """Runs checkov over a stack; nothing is asked of the network."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "objects.yaml").write_text(yaml.safe_dump_all(manifests(resources)), encoding="utf-8")
        (Path(folder) / "main.tf.json").write_text(json.dumps(configuration(resources)), encoding="utf-8")
        frameworks = ["--framework", "kubernetes", "terraform_json"]
        answer = subprocess.run(
            [checkov, "-d", folder, *frameworks, "-o", "json", "--compact", "--skip-download"],
            stdout=subprocess.PIPE,
            check=False,  # it ends with 1 where a check failed
        )
    return read(json.loads(answer.stdout))


def complaints(stacks: Mapping[str, Scanned], known: Sequence[Excepted]) -> Iterator[str]:
    """What is found and not excepted, and what is excepted and no longer found."""
    everything = [(stack, found) for stack, scanned in stacks.items() for found in scanned.failed]
    for stack, found in everything:
        if not any(excepted.covers(stack, found) for excepted in known):
            yield f"{stack}: {found.check} {found.resource}: {found.title}"
    for excepted in known:
        if not any(excepted.covers(stack, found) for stack, found in everything):
            yield f"{EXCEPTIONS.name}: {excepted.check} is no longer found: take it out"


def main() -> int:
    """Scan the stacks that are named; 1 where something is found that is not excepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkov", default="checkov", help="the program to run")
    parser.add_argument("stacks", nargs="+")
    options = parser.parse_args()
    stacks = {stack: scan(options.checkov, plan(stack)) for stack in options.stacks}
    for stack, scanned in stacks.items():
        print(f"{stack}: {scanned.passed} checks passed, {len(scanned.failed)} failed")
    wrong = list(complaints(stacks, exceptions()))
    print("\n".join(wrong) or f"Every finding stands in {EXCEPTIONS.name} with its reason.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
