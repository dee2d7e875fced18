"""The small program made real: what the emulators then hold, and what the program learns from them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from local.errors import LocalError
from local.realisers.cluster import object_path
from local.realisers.convert import asset_bytes, object_bytes, request
from local.session import LocalSession, SessionOptions, check_port_free
from local.wire import Archive, Asset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.engine import Resource

SMALL = Path(__file__).parent / "programs" / "small"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in the providers' generated packages


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSession]:
    options = SessionOptions(project=SMALL, home=tmp_path_factory.mktemp("session"), port=0)
    with LocalSession(options) as up:
        up.bring_up()
        yield up


def one(session: LocalSession, name: str) -> Resource:
    (found,) = [r for r in session.program.resources if r.name == name and not r.is_component]
    return found


def test_outputs_are_those_of_the_emulator(session: LocalSession) -> None:
    outputs = session.program.outputs
    s3 = session.client("s3")
    assert s3.get_bucket_versioning(Bucket=outputs["bucket"])["Status"] == "Enabled"
    read = s3.get_object(Bucket=outputs["bucket"], Key="a/b.txt")
    assert read["Body"].read() == b"hello"
    assert read["VersionId"] == outputs["version"] == one(session, "data-file").outputs["versionId"]


def test_queues_keep_what_makes_them_special(session: LocalSession) -> None:
    url = session.program.outputs["queueUrl"]
    attributes = session.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])[
        "Attributes"
    ]
    assert attributes["FifoQueue"] == "true"
    assert attributes["ContentBasedDeduplication"] == "true"
    assert attributes["QueueArn"] == one(session, "work").outputs["arn"]
    redrive = json.loads(attributes["RedrivePolicy"])
    assert redrive == {"deadLetterTargetArn": one(session, "dead").outputs["arn"], "maxReceiveCount": 3}


def test_a_rules_target_has_its_message_group(session: LocalSession) -> None:
    events = session.client("events")
    rule = next(r for r in session.program.resources if r.type.endswith(":EventRule"))
    (target,) = events.list_targets_by_rule(Rule=rule.id)["Targets"]
    assert target["SqsParameters"] == {"MessageGroupId": "model"}
    assert target["Arn"] == one(session, "work").outputs["arn"]


def test_the_cluster_is_found_through_eks_and_holds_the_objects(session: LocalSession) -> None:
    found = session.client("eks").describe_cluster(name="small")["cluster"]
    assert found["endpoint"] == session.cluster.endpoint
    assert found["certificateAuthority"]["data"] == session.cluster.ca_data
    deployment = session.cluster.get(object_path("apps/v1", "Deployment", "model", "serving"))
    assert deployment["spec"]["replicas"] == 0
    assert one(session, "model").id == "serving/model"
    kubeconfig = json.loads(str(one(session, "objects").inputs["kubeconfig"]))
    assert kubeconfig["clusters"][0]["cluster"]["server"] == session.cluster.endpoint
    with pytest.raises(LocalError, match="404"):
        session.cluster.get(object_path("v1", "ConfigMap", "absent", "serving"))


def test_what_cannot_be_real_here_is_declared_only(session: LocalSession) -> None:
    declared = {
        r.name for r in session.program.resources if not r.realised and r.custom and not r.is_provider
    }
    assert declared == {"nat", "password"}
    counts = session.program.counts()
    assert counts["declared_only"] == len(declared)
    assert counts["local"] + counts["declared_only"] == counts["declared"]


def test_service_and_session_facts(session: LocalSession) -> None:
    assert session.service_url("model") == session.cluster.service
    with pytest.raises(LocalError, match="there are: model"):
        session.service_url("absent")
    facts = session.workspace.read_session()
    assert facts is not None
    assert facts["service"] == session.cluster.service
    assert session.workspace.session_file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(LocalError, match="is not free"):
        check_port_free(int(session.cluster.service.rpartition(":")[2]))


def test_an_omission_that_fits_nothing_is_an_error(tmp_path: Path) -> None:
    options = SessionOptions(project=SMALL, home=tmp_path, port=0, omit=frozenset({"Bucket::absent"}))
    with (
        LocalSession(options) as session,
        pytest.raises(LocalError, match="nothing to omit that is called Bucket::absent"),
    ):
        session.bring_up()
    assert not list((tmp_path / ".local").glob("run-*"))


@pytest.fixture(scope="module")
def clients() -> Any:
    session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1")
    return {name: session.client(name) for name in ("sagemaker", "codebuild", "lambda", "events")}


def test_a_training_job_in_the_services_spelling(clients: Any) -> None:
    inputs = {
        "trainingJobName": "j",
        "hyperParameters": {"max_depth": "6"},
        "inputDataConfigs": [{"channelName": "train", "dataSource": {"s3DataSource": {"s3Uri": "s3://b/k"}}}],
        "resourceConfig": {"volumeSizeInGb": 30, "instanceCount": "1"},
        "enableManagedSpotTraining": "true",
        "tags": {"a": "b"},
    }
    assert request(clients["sagemaker"], "create_training_job", inputs) == {
        "TrainingJobName": "j",
        "HyperParameters": {"max_depth": "6"},
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": "s3://b/k"}}}],
        "ResourceConfig": {"VolumeSizeInGB": 30, "InstanceCount": 1},
        "EnableManagedSpotTraining": True,
    }


def test_lists_and_single_objects_fit_either_way(clients: Any) -> None:
    made = request(clients["lambda"], "create_function", {"environment": [{"variables": {"A": "1"}}]})
    assert made == {"Environment": {"Variables": {"A": "1"}}}
    made = request(
        clients["codebuild"], "create_project", {"environment": {"environmentVariables": {"name": "A"}}}
    )
    assert made == {"environment": {"environmentVariables": [{"name": "A"}]}}


def test_an_input_without_a_place_is_named(clients: Any) -> None:
    with pytest.raises(LocalError, match="PutRule has no place for the input 'colour'"):
        request(clients["events"], "put_rule", {"name": "x", "colour": "red"})


def test_archives_are_the_same_bytes_for_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "c.txt").write_text("c")
    archive = Archive(
        assets={
            "b.py": Asset(text="b"),
            "a.py": Asset(path=str(tmp_path / "folder" / "c.txt")),
            "in": Archive(path=str(tmp_path / "folder")),
        }
    )
    first = asset_bytes(archive)
    assert first == asset_bytes(archive)
    with zipfile.ZipFile(io.BytesIO(first)) as opened:
        assert opened.namelist() == ["a.py", "b.py", "in/c.txt"]
        assert opened.read("in/c.txt") == b"c"


@pytest.mark.parametrize(
    ("inputs", "content"),
    [
        ({"content": "x"}, b"x"),
        ({"contentBase64": "eA=="}, b"x"),
        ({"source": Asset(text="y")}, b"y"),
        ({}, b""),
    ],
)
def test_object_content(inputs: dict[str, Any], content: bytes) -> None:
    assert object_bytes(inputs) == content
