"""`python -m local plan` as it is typed, on the project's own stacks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.plan import snapshot
from local.plan.plain import SECRET

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = Path(__file__).parent / "programs" / "small"
# Where nothing is compiled yet, and other tests run too, it takes a minute or two.
pytestmark = pytest.mark.timeout(330)


def plan(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-m", "local", "plan", *arguments],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def prod() -> dict[str, Any]:
    done = plan("prod", "--format", "json", "--against", "dev")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_prod_as_json_against_dev(prod: dict[str, Any]) -> None:
    resources = [one for one in prod["resources"] if one["kind"] == "resource"]
    assert len(resources) == prod["counts"]["resources"] == sum(prod["counts"]["by_component"].values()) > 100
    urns = {one["urn"] for one in prod["resources"]}
    assert all(one["parent"] in urns for one in resources)
    assert all(dependency in urns for one in resources for dependency in one["dependencies"])
    changes = prod["changes"]
    assert changes["against"] == "stack dev"
    assert min(changes["added"], changes["changed"], len(changes["settings"])) > 0
    assert changes["monthly_after"] == prod["cost"]["monthly"]


def test_the_critical_path_of_prod_goes_through_the_cluster(prod: dict[str, Any]) -> None:
    path = prod["critical_path"]
    assert any(step["type"] == "eks:index:Cluster" for step in path["steps"])
    assert sum(step["seconds"] for step in path["steps"]) == pytest.approx(path["seconds"])
    assert path["seconds"] < path["sum_seconds"]
    assert all(step["because"] for step in path["steps"][1:])


def test_the_bill_of_prod_adds_up_and_knows_every_type(prod: dict[str, Any]) -> None:
    cost = prod["cost"]
    assert sum(line["monthly"] for line in cost["lines"]) == pytest.approx(cost["monthly"], abs=0.01)
    assert cost["by_component"]["cluster"] >= 73
    assert cost["unknown_counted_as_zero"] == []
    assert cost["monthly"] < cost["always_on_demand_monthly"]


def test_nothing_made_up_looks_real(prod: dict[str, Any]) -> None:
    text = json.dumps(prod["resources"])
    assert "123456789012" not in text
    assert "${trainserve-network-vpc.id}" in text


def test_dev_on_a_terminal() -> None:
    done = plan("dev", "--requests-per-second", "50", "--region-factor", "1.1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("trainserve: what stack dev would be")
    assert "50 predictions a second" in done.stdout
    assert "\x1b" not in done.stdout


def test_formats_go_to_files(tmp_path: Path) -> None:
    page = tmp_path / "new" / "plan.html"
    done = plan("dev", "--project", str(SMALL), "--format", "html", "--output", str(page))
    assert (done.returncode, done.stdout) == (0, "")
    assert page.read_text().startswith("<!doctype html>")


def test_a_mandatory_finding_fails_if_asked() -> None:
    done = plan("dev", "--project", str(SMALL), "--fail-on", "mandatory")
    assert done.returncode == 2
    assert "policy finding(s)" in done.stderr
    assert "mandatory" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["staging-x"], "no stack 'staging-x': Pulumi.staging-x.yaml does not exist; there are: dev"),
        (["dev", "--against", "no-such"], "neither a stack (there are: dev) nor a git revision"),
        (["dev", "--against", "--upload-pack=x"], "expected one argument"),
        (["dev", "--requests-per-second", "0"], "want a number above 0, got '0'"),
        (["dev", "--region-factor", "nan"], "want a number above 0, got 'nan'"),
    ],
)
def test_what_cannot_be_used_is_said(arguments: list[str], words: str) -> None:
    done = plan(*arguments, "--project", str(SMALL))
    assert done.returncode in {1, 2}
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_settings_error_shows_as_the_program_shows_it() -> None:
    done = plan("dev", "--project", str(SMALL), SMALL_MODE="exit")
    assert done.returncode == 1
    assert done.stderr == "error: Pulumi.dev.yaml: size: want a number\n"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m local plan dev --project {SMALL} --format json | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{", "")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (">&-", "error: standard output is closed, so the plan has nowhere to go: want --output FILE\n"),
        ("> /dev/full", "error: standard output takes no plan: No space left on device\n"),
    ],
)
def test_a_plan_that_cannot_be_written_is_an_error(where: str, said: str) -> None:
    command = f"{sys.executable} -m local plan dev --project {SMALL} {where}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, said)


def test_what_the_program_prints_is_not_in_the_plan() -> None:
    done = plan("dev", "--project", str(SMALL), "--format", "json", SMALL_MODE="prints")
    assert json.loads(done.stdout)["stack"] == "dev"
    assert "hello from the program" in done.stderr


def test_against_a_revision(tmp_path: Path) -> None:
    project = tmp_path / "small"
    shutil.copytree(SMALL, project, ignore=shutil.ignore_patterns("__pycache__", ".local"))
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    program = project / "__main__.py"
    program.write_text(program.read_text().replace('content="hello"', 'content="changed"'))
    done = plan("dev", "--project", str(project), "--against", "HEAD", "--format", "json")
    assert done.returncode == 0, done.stderr
    (change,) = json.loads(done.stdout)["changes"]["resources"]
    assert (change["action"], change["name"]) == ("changed", "data-file")
    assert [(d["path"], d["after"]) for d in change["differences"]] == [("content", "changed")]
    left = [path.name for path in (project / ".local").glob("*")] if (project / ".local").exists() else []
    assert not [name for name in left if name.startswith("plan-")]
    status = subprocess.run(
        ["git", "worktree", "list"], cwd=project, capture_output=True, text=True, check=True
    )
    assert len(status.stdout.splitlines()) == 1


def test_secrets_are_not_in_a_snapshot(tmp_path: Path) -> None:
    project = tmp_path / "secret"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: secret\nruntime: python\n")
    (project / "Pulumi.dev.yaml").write_text("config:\n  aws:region: us-east-1\n")
    (project / "__main__.py").write_text(
        "import pulumi, pulumi_aws as aws, pulumi_kubernetes as k8s\n"
        "word = pulumi.Output.secret('hunter2-\"x')\n"
        "aws.ssm.Parameter('p', type='SecureString', value=word)\n"
        "aws.secretsmanager.SecretVersion('v', secret_id='s', secret_string='swordfish-1')\n"
        "aws.sns.Topic('q', display_name='in passing: swordfish-1')\n"
        "longer = word.apply(lambda w: 'x' + w)\n"
        "aws.sns.Topic('f', display_name=longer)\n"
        "k8s.core.v1.Secret('s', string_data={'k': 'plain-secret-2'}, opts=pulumi.ResourceOptions(\n"
        "    provider=k8s.Provider('k', kubeconfig='{}')))\n"
    )
    taken = snapshot.take(project, "dev")
    text = json.dumps(taken.to_json())
    assert "hunter2" not in text
    assert "swordfish" not in text
    assert "plain-secret" not in text
    inputs = {item.name: item.inputs for item in taken.items if item.kind == "resource"}
    assert inputs["p"]["value"] == SECRET
    assert inputs["v"]["secretString"] == SECRET
    assert inputs["q"]["displayName"] == f"in passing: {SECRET}"
    assert inputs["s"]["stringData"] == SECRET or inputs["s"]["stringData"] == {"k": SECRET}
