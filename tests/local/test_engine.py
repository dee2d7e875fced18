from __future__ import annotations

import os
from pathlib import Path

import pytest

from local import wire
from local.engine import ProgramRun, Realised, Resource, run_program
from local.errors import LocalError, ProgramError

SMALL = Path(__file__).parent / "programs" / "small"
ROOT = Path(__file__).parent.parent.parent
# The providers' packages define coroutines and annotations that newer Pythons warn about.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def small() -> ProgramRun:
    return run_program("dev", project=SMALL)


def one(run: ProgramRun, name: str, kind: str = "") -> Resource:
    found = [r for r in run.resources if r.name == name and r.type.endswith(kind)]
    assert len(found) == 1, (name, kind, found)
    return found[0]


def test_records_the_whole_registration(small: ProgramRun) -> None:
    component = one(small, "data")
    bucket = one(small, "data-bucket")
    file = one(small, "data-file")
    assert component.is_component
    assert not bucket.is_component
    assert bucket.parent == component.urn
    assert bucket.protect
    assert bucket.retain_on_delete
    assert not file.protect
    assert file.inputs["content"] == "hello"
    assert file.property_dependencies["bucket"] == (bucket.urn,)
    assert one(small, "data-versions").urn in file.dependencies
    deployment = one(small, "model")
    assert deployment.ignore_changes == ("spec.replicas",)
    assert deployment.deleted_with == one(small, "serving").urn
    assert deployment.provider is not None
    assert one(small, "objects").urn in deployment.provider
    assert one(small, "k").remote


def test_urns_are_those_of_the_real_engine(small: ProgramRun) -> None:
    assert one(small, "data").urn == "urn:pulumi:dev::small::small:store:Store::data"
    bucket = one(small, "data-bucket")
    assert bucket.urn == "urn:pulumi:dev::small::small:store:Store$aws:s3/bucket:Bucket::data-bucket"


def test_components_come_before_their_children(small: ProgramRun) -> None:
    order = [r.urn for r in small.resources]
    for resource in small.resources:
        if resource.parent in order:
            assert order.index(resource.parent) < order.index(resource.urn)


def test_exports_and_component_outputs(small: ProgramRun) -> None:
    bucket = one(small, "data-bucket").outputs["bucket"]
    assert small.outputs["bucket"] == bucket
    assert one(small, "data").outputs == {"bucket": bucket}
    assert small.outputs["size"] == 3
    assert small.outputs["nested"] == {"list": ["a", "b"], "deep": {"flag": True}}
    assert small.outputs["zones"] == ["us-east-1a", "us-east-1b", "us-east-1c"]
    assert small.outputs["clusterName"] == "small"
    assert str(small.outputs["issuer"]).startswith("https://oidc.eks.")
    assert str(small.outputs["queueUrl"]).endswith(".fifo")
    assert small.outputs["address"]


def test_a_secret_that_only_the_cli_could_decrypt_is_tolerated(small: ProgramRun) -> None:
    assert one(small, "password").inputs["secretString"].startswith("[secret]")


def test_what_is_made_up_is_the_same_at_every_run(small: ProgramRun) -> None:
    again = run_program("dev", project=SMALL)
    assert {r.urn: r for r in again.resources}.keys() == {r.urn: r for r in small.resources}.keys()
    ids = {r.urn: r.id for r in small.resources}
    assert {r.urn: r.id for r in again.resources} == ids
    assert again.outputs == small.outputs


def test_a_preview_has_the_same_resources_and_unknown_outputs(small: ProgramRun) -> None:
    preview = run_program("dev", project=SMALL, preview=True)
    assert {r.urn for r in preview.resources} == {r.urn for r in small.resources}
    assert preview.outputs["bucket"] is wire.UNKNOWN
    assert one(preview, "data-file").inputs["bucket"] is wire.UNKNOWN
    assert preview.outputs["size"] == 3
    assert list(wire.unknowns(preview.outputs))


def test_overrides_reach_the_program() -> None:
    run = run_program(
        "dev",
        project=SMALL,
        config_overrides={"size": "5", "nested.list.1": "z", "small:nested.deep.more": "[1]"},
    )
    assert run.outputs["size"] == 5
    assert run.outputs["nested"] == {"list": ["a", "z"], "deep": {"flag": True, "more": [1]}}


def test_counts_leave_components_and_providers_out(small: ProgramRun) -> None:
    counts = small.counts()
    assert counts["components"] == 1
    assert counts["declared"] == counts["declared_only"] == len(small.resources) - 2
    assert small.by_type()["aws:sqs/queue:Queue"] == (2, 0)


class Making:
    """Makes buckets, refuses one type if asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.seen: list[str] = []

    def __call__(self, resource: Resource) -> Realised | None:
        self.seen.append(resource.urn)
        if resource.type.endswith(":Bucket"):
            return Realised("made", {"bucket": "made", "arn": "arn:made"})
        if self.error is not None and resource.type.endswith(":BucketVersioning"):
            raise self.error
        return None


def test_a_realiser_makes_the_outputs_and_the_rest_is_declared() -> None:
    realise = Making()
    told: list[Resource] = []
    run = run_program("dev", project=SMALL, realise=realise, on_resource=told.append)
    assert one(run, "data-bucket").realised
    assert one(run, "data-versions").inputs["bucket"] == "made"
    assert run.outputs["bucket"] == "made"
    assert run.counts()["local"] == 1
    assert {r.urn for r in told} == {r.urn for r in run.resources}
    # Each resource comes after those that it depends on; components are nobody's to make.
    order = [r.urn for r in told]
    for resource in told:
        for dependency in resource.dependencies:
            assert order.index(dependency) < order.index(resource.urn)
    assert one(run, "data").urn not in realise.seen
    assert one(run, "k").urn in realise.seen


@pytest.mark.parametrize(
    ("error", "words"), [(LocalError("no such thing"), "no such thing"), (KeyError("x"), "KeyError: 'x'")]
)
def test_a_realiser_that_fails_ends_the_run_and_names_the_resource(error: Exception, words: str) -> None:
    with pytest.raises(ProgramError) as caught:
        run_program("dev", project=SMALL, realise=Making(error))
    text = str(caught.value)
    assert "aws:s3/bucketVersioning:BucketVersioning 'data-versions' could not be made: " in text
    assert words in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run-error", "size: want a number"),
        ("exit", "Pulumi.dev.yaml: size: want a number"),
        ("bug", "the program failed: KeyError: 'absent'\n  __main__.py:17 in <module>:"),
        ("unknown-invoke", "the program looks up aws:ec2/getAmi:getAmi, to which nothing here has an answer"),
        ("twice", "aws:s3/bucket:Bucket 'same' is declared twice"),
    ],
)
def test_what_a_program_says_against_itself_is_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setenv("SMALL_MODE", name)
    with pytest.raises(ProgramError) as caught:
        run_program("dev", project=SMALL)
    assert words in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_the_working_directory_and_path_are_put_back() -> None:
    before = Path.cwd()
    run_program("dev", project=SMALL)
    assert Path.cwd() == before


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no project there"),
        ({"Pulumi.yaml": "name: x\nruntime: python\n", "Pulumi.prod.yaml": ""}, "there are: prod"),
        (
            {"Pulumi.yaml": "name: x\nruntime: python\n", "Pulumi.dev.yaml": "a: [\n"},
            "Pulumi.dev.yaml cannot",
        ),
        (
            {"Pulumi.yaml": "name: x\nruntime: python\n", "Pulumi.dev.yaml": "- a\n"},
            "want a mapping, got list",
        ),
    ],
)
def test_stack_files_that_cannot_be_used(tmp_path: Path, files: dict[str, str], words: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ProgramError, match=words):
        run_program("dev", project=tmp_path)


def test_the_whole_program_declares_itself_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    run = run_program("dev", project=ROOT)
    preview = run_program("dev", project=ROOT, preview=True)
    assert {r.urn for r in run.resources} == {r.urn for r in preview.resources}
    assert run.counts()["declared"] > 90
    assert set(run.outputs["models"]) == {"flights"}
    assert not [r for r in run.resources if r.parent is None and not r.is_component]
