"""Whole releases through the state machine: every outcome, and that it is recorded once."""

import json
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from bundle import format as bundle_format
from common.aws import client
from common.datasets import DataSet
from common.registry import DOCKER_INDEX, DOCKER_MANIFEST
from common.state import Item
from start_training.trainer import Trainer
from tests.functions.world import ARTIFACTS, DATA, MODEL, World, event, job_event, layer_files

FIRST = "ts-dev--flights-0123abcd-x7k2p9"


def train(world: World, *names: str, **options: Any) -> dict[str, Any]:
    """Upload files, start their training as the queue would, and end it."""
    for name in names:
        world.upload(name)
    result = Trainer(world.services, MODEL).run([])
    assert result.job, result.reason
    return world.train(result.job, **options)


def test_first_release_puts_the_bundle_into_the_servers_image(world: World) -> None:
    (result,) = world.release(world.train(FIRST))
    assert result["outcome"] == "released"
    manifest, config = world.registry.image("release-flights-1")
    base, _ = world.registry.image("1234")
    assert manifest["layers"][:-1] == base["layers"]
    assert config["config"]["Cmd"] == ["python", "-m", "serving"]
    assert config["config"]["Labels"]["trainserve.version"] == FIRST
    files = layer_files(world.registry.blobs[manifest["layers"][-1]["digest"]])
    assert files["opt/ml/model"][0] == 0o755
    assert files["opt/ml/model/model.ubj"] == (0o644, f"model of {FIRST}".encode())
    (package,) = world.packages()
    assert package["InferenceSpecification"]["Containers"][0]["Image"] == world.cluster.image
    assert package["ApprovalDescription"] == "auc 0.9; no model was in service"
    assert world.cluster.object is not None
    assert world.cluster.object["metadata"]["annotations"]["trainserve/release"] == "1"
    assert world.messages() == [{"model": MODEL, "reason": "released"}]


def test_the_same_event_twice_does_one_thing(world: World) -> None:
    happened = world.train(FIRST)
    world.release(happened)
    again = world.release(happened, "e2") + world.release(happened, "e1")
    assert [result["outcome"] for result in again] == ["duplicate", "duplicate"]
    assert world.record("counter") == {"releases": 1}
    assert len(world.packages()) == 1


def test_every_step_twice_does_one_thing(world: World) -> None:
    happened = world.train(FIRST)
    (item,) = world.run({"step": "plan", "event": happened, "execution": "e", "started": "s"})["releases"]
    for step in ("claim", "verify", "gate", "image", "register", "rollout", "watch", "promote"):
        first = world.run({"step": step, "release": item})
        record = world.record("release#000001")
        assert world.run({"step": step, "release": item}) == first
        assert world.record("release#000001") == record
    finished = [world.run({"step": "finish", "release": item, "error": None}) for _ in range(2)]
    assert finished[0] == finished[1]
    assert len(world.messages()) == 1


def test_uploads_are_accepted_with_the_release(world: World) -> None:
    world.release(train(world, "a.csv"))
    assert world.record("accepted")["release"] == 1
    assert Trainer(world.services, MODEL).run([]).reason == "nothing is pending"
    happened = train(world, "b.csv", auc=0.91)
    (result,) = world.release(happened, "e2")
    assert result["outcome"] == "released"
    dataset = world.services.documents.dataset(world.record("accepted")["manifest_uri"])
    assert [item.key for item in dataset.objects] == ["incoming/flights/a.csv", "incoming/flights/b.csv"]
    assert world.record("champion")["metrics"] == {"challenger": {"auc": 0.91}, "champion": {"auc": 0.9}}


def test_a_worse_challenger_is_rejected_and_its_data_kept(world: World) -> None:
    world.release(train(world, "a.csv"))
    image = world.cluster.image
    (result,) = world.release(train(world, "b.csv", auc=0.89), "e2")
    assert result["outcome"] == "rejected"
    assert "worse by 0.01" in result["reason"]
    package = world.packages()[-1]
    assert (package["ModelApprovalStatus"], package["ApprovalDescription"]) == ("Rejected", result["reason"])
    assert world.cluster.image == image
    assert world.record("champion")["release"] == 1
    assert Trainer(world.services, MODEL).run([]).reason == "nothing is pending"


@pytest.mark.parametrize("behaviour", ["stuck", "crashing"])
def test_a_rollout_that_fails_is_undone(world: World, behaviour: str) -> None:
    world.release(world.train(FIRST))
    image = world.cluster.image
    world.cluster.behaviour = behaviour
    (result,) = world.release(world.train("ts-dev--flights-0123abcd-2", 0.95), "e2")
    assert result["outcome"] == "rolled_back"
    assert "flights-1" in result["reason"]
    assert "golden predictions differ" in result["reason"] or behaviour == "stuck"
    assert world.cluster.image == image
    assert world.cluster.object is not None
    assert world.cluster.object["metadata"]["annotations"]["trainserve/release"] == "1"
    assert world.packages()[-1]["ModelApprovalStatus"] == "Rejected"
    assert world.record("release#000002")["rolled_back"]["healthy"]
    assert world.record("champion")["release"] == 1


def test_the_very_first_rollout_is_undone_too(world: World) -> None:
    world.cluster.behaviour = "crashing"
    (result,) = world.release(world.train(FIRST))
    assert result["outcome"] == "rolled_back"
    assert world.cluster.image == world.cluster.first_image
    assert world.record("champion") == {}


def test_an_image_that_someone_else_set_is_left_alone(world: World) -> None:
    happened = world.train(FIRST)
    world.cluster.behaviour = "stuck"
    (item,) = world.run({"step": "plan", "event": happened, "execution": "e", "started": "s"})["releases"]
    for step in ("claim", "verify", "gate", "image", "register", "rollout"):
        world.run({"step": step, "release": item})
    assert world.cluster.object is not None
    world.cluster.object["spec"]["template"]["spec"]["containers"][0]["image"] = "by/hand:1"
    for step in ("watch", "rollback", "watch_rollback"):
        world.run({"step": step, "release": item, "error": None})
    result = world.run({"step": "finish", "release": item, "error": None})
    assert "changed to by/hand:1" in result["reason"]
    assert world.cluster.image == "by/hand:1"


def _other_name(manifest: bundle_format.Manifest) -> bundle_format.Manifest:
    return replace(manifest, name="another")


def _other_job(manifest: bundle_format.Manifest) -> bundle_format.Manifest:
    return replace(manifest, training=replace(manifest.training, job="ts-dev--flights-ffffffff-1"))


def _other_xgboost(manifest: bundle_format.Manifest) -> bundle_format.Manifest:
    return replace(manifest, libraries={"xgboost": "2.1.4"})


def _other_data(manifest: bundle_format.Manifest) -> bundle_format.Manifest:
    return replace(manifest, training=replace(manifest.training, dataset_hash="0" * 64))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_other_name, "name: want 'flights', got 'another'"),
        (_other_job, "training.job"),
        (_other_xgboost, "libraries.xgboost: trained with 2.1.4"),
        (_other_data, "training.dataset_hash"),
    ],
)
def test_a_bundle_of_something_else_is_refused(world: World, change: Any, reason: str) -> None:
    (result,) = world.release(train(world, "a.csv", change=change))
    assert result["outcome"] == "refused"
    assert reason in result["reason"]
    assert world.cluster.patches == []
    # Training on the same data would end the same way.
    assert "failed" in Trainer(world.services, MODEL).run([]).reason


def test_a_damaged_bundle_is_refused(world: World) -> None:
    def damage(folder: Path) -> None:
        (folder / "model.ubj").write_bytes(b"x" * len((folder / "model.ubj").read_bytes()))

    (result,) = world.release(world.train(FIRST, damage=damage))
    assert result["outcome"] == "refused"
    assert "model.ubj: sha256" in result["reason"]


def test_a_hostile_archive_is_refused(world: World) -> None:
    happened = world.train(FIRST)
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../etc/passwd"))
    key = f"training/{FIRST}/output/model.tar.gz"
    client("s3").put_object(Bucket=ARTIFACTS, Key=key, Body=packed.getvalue())
    (result,) = world.release(happened)
    assert "'../../etc/passwd' does not belong in a bundle" in result["reason"]


def test_a_model_outside_the_artifact_bucket_is_refused(world: World) -> None:
    happened = world.train(FIRST)
    from moto.sagemaker.models import sagemaker_backends  # noqa: PLC0415

    job = sagemaker_backends["123456789012"]["us-east-1"].training_jobs[FIRST]
    job.model_artifacts = {"S3ModelArtifacts": "s3://elsewhere/model.tar.gz"}
    (result,) = world.release(happened)
    assert result["outcome"] == "refused"
    assert "not in this stack's artifact bucket" in result["reason"]


def test_a_malformed_upload_is_refused_once(world: World) -> None:
    world.release(train(world, "good.csv"))
    bad = world.upload("bad.csv")
    job = Trainer(world.services, MODEL).run([]).job
    assert job
    path = f"objects/flights/{bad}/bad.csv"
    message = f'ErrorMessage "DataRefused: REFUSED={json.dumps({path: "no column late"})}"\nCommand "x"'
    (result,) = world.release(world.fail(job, f"AlgorithmError: ExecuteUserScriptError:\n{message}"), "e2")
    assert (result["outcome"], result["reason"]) == ("refused", "incoming/flights/bad.csv: no column late")
    assert world.record(f"refused#incoming/flights/bad.csv#{bad}")["reason"] == "no column late"
    assert Trainer(world.services, MODEL).run([]).reason == "nothing is pending"
    (result,) = world.release(train(world, "next.csv"), "e3")
    assert result["outcome"] == "released"
    dataset = world.services.documents.dataset(world.record("accepted")["manifest_uri"])
    assert [item.key for item in dataset.objects] == [
        "incoming/flights/good.csv",
        "incoming/flights/next.csv",
    ]


def test_an_infrastructure_failure_is_tried_again_a_few_times(world: World) -> None:
    world.upload("a.csv")
    for attempt in range(1, 4):
        job = Trainer(world.services, MODEL).run([]).job
        assert job
        assert job.endswith(f"-{attempt}")
        (result,) = world.release(world.fail(job, "InternalServerError: try again"), f"e{attempt}")
        assert result["outcome"] == "refused"
    assert Trainer(world.services, MODEL).run([]).reason.endswith("all 3 attempts failed")


def test_an_error_in_training_is_blamed_on_a_single_newcomer(world: World) -> None:
    world.release(train(world, "good.csv"))
    bad = world.upload("odd.csv")
    job = Trainer(world.services, MODEL).run([]).job
    assert job
    world.release(world.fail(job, "AlgorithmError: TrainingError: nothing to learn"), "e2")
    assert "nothing to learn" in world.record(f"refused#incoming/flights/odd.csv#{bad}")["reason"]


def test_a_stopped_job_is_not_started_again(world: World) -> None:
    world.upload("a.csv")
    job = Trainer(world.services, MODEL).run([]).job
    assert job
    (result,) = world.release(world.fail(job, "", "Stopped"))
    assert (result["outcome"], result["reason"]) == ("refused", "the job was stopped")
    assert "failed" in Trainer(world.services, MODEL).run([]).reason


def test_a_challenger_not_compared_with_the_champion_is_trained_again(world: World) -> None:
    """A changed bootstrap job has no champion channel: it is rejected, and repeated with one."""
    world.release(train(world, "a.csv"))
    uri = f"s3://{DATA}/bootstrap/flights/0011aabb-jan.csv"
    bootstrap = DataSet(MODEL, None, (_bootstrap_object(uri),))
    manifest = world.services.documents.dataset_uri(MODEL, bootstrap.digest)
    world.services.documents.write(manifest, bootstrap.to_json())
    parameters = {"dataset_hash": bootstrap.digest, "manifest_uri": manifest}

    def alone(found: bundle_format.Manifest) -> bundle_format.Manifest:
        return replace(found, champion=None, metrics=replace(found.metrics, champion=None))

    (result,) = world.release(world.train(FIRST, 0.99, parameters=parameters, change=alone), "e2")
    assert result["outcome"] == "rejected"
    assert "not compared with any model" in result["reason"]
    (*_, asked) = world.messages()
    assert asked["dataset_hash"] == bootstrap.digest
    from common.messages import Request  # noqa: PLC0415

    job = Trainer(world.services, MODEL).run([Request(MODEL, "rejected", bootstrap.digest)]).job
    assert job
    found = client("sagemaker").describe_training_job(TrainingJobName=job)
    assert [c["ChannelName"] for c in found["InputDataConfig"]] == ["train", "champion"]
    (result,) = world.release(world.train(job, 0.99), "e3")
    assert result["outcome"] == "released"
    keys = [o.key for o in world.services.documents.dataset(world.record("accepted")["manifest_uri"]).objects]
    assert keys == ["bootstrap/flights/jan.csv", "incoming/flights/a.csv"]


def _bootstrap_object(uri: str) -> Any:
    from common.datasets import DataObject  # noqa: PLC0415

    return DataObject("bootstrap/flights/jan.csv", "sha256-0011aabb", uri)


def test_a_new_server_releases_the_champion_again(world: World) -> None:
    happened = event("codebuild_succeeded")
    world.configure(server_tag="5678")
    assert world.release(happened) == [{"next": "done", "outcome": "ignored"}]
    # While the new server is built there is nothing to release on: the first release waits.
    (result,) = world.release(world.train(FIRST), "e1")
    assert "5678 is not built yet" in result["reason"]
    world.configure(server_tag="1234")
    world.release(world.train("ts-dev--flights-0123abcd-2"), "e2")
    world.configure(server_tag="5678")
    # With a model in service, releases stay on its server until the new one is there.
    (result,) = world.release(world.train("ts-dev--flights-0123abcd-3"), "e3")
    assert world.record("champion")["server_tag"] == "1234"
    media = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    world.registry.add_image("arm", DOCKER_MANIFEST, media, "arm64", b"arm")
    entries = [
        {"digest": world.registry.tags["arm"], "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    world.registry.add_manifest("5678", DOCKER_INDEX, {"mediaType": DOCKER_INDEX, "manifests": entries})
    world.configure(server_tag="5678", architecture="arm64")
    (result,) = world.release(happened, "e4")
    assert result["outcome"] == "released"
    champion = world.record("champion")
    assert (champion["version"], champion["server_tag"]) == ("ts-dev--flights-0123abcd-3", "5678")
    manifest, config = world.registry.image(champion["image_digest"])
    assert config["architecture"] == "arm64"
    assert manifest["layers"][-1]["mediaType"] == media
    assert world.release(happened, "e5") == [{"next": "done", "outcome": "duplicate"}]


@pytest.mark.parametrize(
    "change",
    [
        {"TrainingJobStatus": "InProgress"},
        {"TrainingJobName": "ts-prod--flights-0123abcd-1"},
        {"TrainingJobName": "somebody-elses-job"},
    ],
)
def test_events_of_others_are_ignored(world: World, change: dict[str, str]) -> None:
    happened = event("training_job_completed")
    happened["detail"] |= change
    assert world.release(happened) == []
    assert world.record("counter") == {}


def test_an_event_for_a_job_that_does_not_exist_ends_recorded(world: World) -> None:
    (result,) = world.release(job_event("ts-dev--flights-0123abcd-9", "Completed"))
    assert result["outcome"] == "refused"
    assert world.record("lease") == {}


def test_another_release_of_the_model_waits_for_the_lease(world: World) -> None:
    lease = {"owner": "someone", "job": "ts-dev--flights-ffffffff-1", "expires": world.services.now() + 60}
    world.services.state.write(MODEL, Item("lease", lease))
    happened = world.train(FIRST)
    (item,) = world.run({"step": "plan", "event": happened, "execution": "e", "started": "s"})["releases"]
    with pytest.raises(Exception, match="is being released until") as caught:
        world.run({"step": "claim", "release": item})
    assert type(caught.value).__name__ == "Busy"
    world.services.skew = 61
    assert world.run({"step": "claim", "release": item})["next"] == "verify"
    # The one whose lease ran out can write no more.
    with pytest.raises(Exception, match="belongs to e@s"):
        world.run({"step": "verify", "release": item | {"owner": "someone"}})


def test_an_execution_that_died_is_taken_over(world: World) -> None:
    happened = world.train(FIRST)
    (item,) = world.run({"step": "plan", "event": happened, "execution": "dead", "started": "s"})["releases"]
    for step in ("claim", "verify", "gate", "image"):
        world.run({"step": step, "release": item})
    assert world.release(happened, "e2")[0]["outcome"] == "duplicate"
    world.services.skew = 1000
    (result,) = world.release(happened, "e2")
    assert result["outcome"] == "released"
    assert world.record("counter") == {"releases": 1}


def test_a_registry_that_fails_ends_in_a_recorded_outcome(world: World) -> None:
    happened = train(world, "a.csv")
    world.registry.broken = 500
    (result,) = world.release(happened)
    assert result["outcome"] == "refused"
    assert "RegistryError" in result["reason"]
    assert world.record("lease") == {}
    world.registry.broken = None
    (asked,) = world.messages()
    assert asked["dataset_hash"] == world.record("release#000001")["source"]["dataset_hash"]
    (result,) = world.release(train(world), "e2")
    assert result["outcome"] == "released"


def test_a_cluster_that_forbids_ends_in_a_recorded_outcome(world: World) -> None:
    world.cluster.forbidden = True
    (result,) = world.release(world.train(FIRST))
    assert result["outcome"] == "refused"
    assert "Forbidden: cluster: GET" in result["reason"]
    assert world.packages()[0]["ModelApprovalStatus"] == "Rejected"
    assert world.record("lease") == {}


def test_a_missing_deployment_is_waited_for(world: World) -> None:
    world.cluster.object = None
    (result,) = world.release(world.train(FIRST))
    assert "NotReady" in result["reason"]
