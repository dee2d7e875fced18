"""The pure cores: names, data sets, messages, the gate, failure reasons and rollout status."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import names
from common.datasets import (
    LARGEST_BYTES,
    DataObject,
    DataSet,
    Upload,
    dataset_hash,
    extend,
    find,
    pending,
)
from common.errors import Permanent
from common.messages import BadMessageError, Request, envelope, parse
from common.settings import Environment, ModelConfig
from release_model.bundle_steps import judge
from release_model.failure import refusals
from release_model.status import Rollout, crashing, pod_reason, returned, rollout_status
from start_training.core import GRACE_S, Job, Skip, Start, decide, in_flight, job_request
from tests.functions.world import event, training_template


@pytest.mark.parametrize("model", ["flights", "flights-eu", "a1-b2"])
def test_job_names_are_read_as_they_were_made(model: str) -> None:
    name = names.JobName("dev-2", model, "0123abcd", "x7k2p9")
    assert names.parse_job(str(name)) == name


@pytest.mark.parametrize(
    "name", ["", "ts-dev--flights", "ts-dev--flights-0123-1", "xts-dev--flights-0123abcd-1"]
)
def test_other_names_are_nobodys(name: str) -> None:
    assert names.parse_job(name) is None


def test_a_refusals_record_fits_into_a_sort_key() -> None:
    assert names.refusal("incoming/flights/a.csv", "v1") == "refused#incoming/flights/a.csv#v1"
    assert len(names.refusal("ä" * 512, "v1")) < 1024


pairs = st.lists(st.tuples(st.text(), st.text()), unique=True)


@given(pairs, st.randoms())
def test_a_data_sets_hash_ignores_the_order(objects: list[tuple[str, str]], random: Any) -> None:
    mixed = objects.copy()
    random.shuffle(mixed)
    assert dataset_hash(objects) == dataset_hash(mixed)


def test_a_data_sets_hash_separates_key_and_version() -> None:
    assert dataset_hash([("a", "bc")]) != dataset_hash([("ab", "c")])
    assert len(dataset_hash([])) == 64


def _dataset() -> DataSet:
    bootstrap = DataObject("bootstrap/m/a.csv", "sha256-1", "s3://data/bootstrap/m/1-a.csv")
    return extend("m", DataSet("m", None, (bootstrap,)), [DataObject("incoming/m/x/b.csv", "v2")])


def test_a_data_set_extends_the_accepted_one_and_survives_json() -> None:
    dataset = _dataset()
    document = json.loads(dataset.to_json())
    assert document["parent"] == dataset_hash([("bootstrap/m/a.csv", "sha256-1")])
    assert document["objects"][1] == {"key": "incoming/m/x/b.csv", "version": "v2", "path": "v2/b.csv"}
    assert DataSet.from_json(document, "x") == dataset
    assert extend("m", dataset, dataset.objects).digest == dataset.digest


def test_sagemakers_manifest_has_uploads_and_bootstrap_files_under_one_prefix() -> None:
    manifest = json.loads(_dataset().sagemaker_manifest("data"))
    assert manifest == [{"prefix": "s3://data/"}, "bootstrap/m/1-a.csv", "objects/m/v2/b.csv"]
    with pytest.raises(Permanent, match="not in the data bucket"):
        _dataset().sagemaker_manifest("another")


def test_a_manifest_that_is_none_is_named() -> None:
    with pytest.raises(Permanent, match="s3://x: not a data-set manifest"):
        DataSet.from_json({"model": "m"}, "s3://x")


def test_only_new_csv_and_parquet_uploads_are_pending() -> None:
    uploads = [
        Upload("incoming/m/b.CSV", "1", 10),
        Upload("incoming/m/a.parquet", "2", 10),
        Upload("incoming/m/", "3", 0),
        Upload("incoming/m/known.csv", "4", 10),
        Upload("incoming/m/notes.txt", "5", 10),
        Upload("incoming/m/huge.csv", "6", LARGEST_BYTES + 1),
        Upload("incoming/m/line\nbreak.csv", "7", 10),
    ]
    found = pending(uploads, {("incoming/m/known.csv", "4")})
    assert [item.key for item in found.new] == ["incoming/m/a.parquet", "incoming/m/b.CSV"]
    reasons = {item.key: reason for item, reason in found.refused.items()}
    assert list(reasons) == ["incoming/m/notes.txt", "incoming/m/huge.csv", "incoming/m/line\nbreak.csv"]
    assert reasons["incoming/m/notes.txt"] == "only .csv and .parquet files are read"


@pytest.mark.parametrize(
    "path", ["objects/m/v2/b.csv", "v2/b.csv", "./v2/b.csv", "/opt/ml/objects/m/v2/b.csv"]
)
def test_a_reported_path_is_found_in_the_data_set(path: str) -> None:
    found = find(_dataset(), path)
    assert found is not None
    assert found.version == "v2"


@pytest.mark.parametrize("path", ["", "c.csv", "2/b.csv", "/"])
def test_a_path_of_something_else_is_not(path: str) -> None:
    assert find(_dataset(), path) is None


def test_keys_in_s3_events_are_unquoted() -> None:
    assert parse(event("s3_object_created")) == Request(
        "flights", "upload incoming/flights/april 2013 (new).csv"
    )


def test_requests_are_read_as_they_are_sent() -> None:
    request = Request("flights", "pending", "ab")
    assert parse(envelope(request)) == request
    assert parse(event("training_requested")) == Request("flights", "pending")


@pytest.mark.parametrize(
    "key", ["bootstrap/flights/a.csv", "incoming/flights", "incoming/../a.csv", "incoming/UP/a.csv", ""]
)
def test_other_keys_concern_no_model(key: str) -> None:
    happened = event("s3_object_created")
    happened["detail"]["object"]["key"] = key
    assert parse(happened) is None


@pytest.mark.parametrize(
    "body", ["{}", '{"source":"aws.s3","detail-type":"Object Created","detail":[]}', '{"source":"other"}']
)
def test_other_events_concern_no_model(body: str) -> None:
    assert parse(body) is None


@pytest.mark.parametrize("body", ["", "{", "[]", "3"])
def test_what_is_no_event_is_said_so(body: str) -> None:
    with pytest.raises(BadMessageError):
        parse(body)


def _bundle(challenger: float | None, champion: float | None, *, better: bool = True) -> dict[str, Any]:
    return {
        "primary_metric": {"name": "m", "greater_is_better": better},
        "metrics": {
            "challenger": {} if challenger is None else {"m": challenger},
            "champion": None if champion is None else {"m": champion},
        },
        "champion": None if champion is None else {"version": "v", "digest": "sha256:1"},
    }


@pytest.mark.parametrize(
    ("challenger", "champion", "better", "accepted"),
    [
        (0.90, 0.90, True, True),
        (0.90, 0.905, True, True),  # exactly the margin
        (0.90, 0.9051, True, False),
        (0.95, 0.90, True, True),
        (1.00, 1.005, False, True),
        (1.005, 1.00, False, True),
        (1.0051, 1.00, False, False),
        (math.nan, 0.90, True, False),
        (math.inf, 0.90, True, False),
        (None, 0.90, True, False),
        (0.90, math.nan, True, False),
    ],
)
def test_the_gate_tolerates_the_margin_and_no_more(
    challenger: float | None, champion: float, better: bool, accepted: bool
) -> None:
    verdict = judge(_bundle(challenger, champion, better=better), "sha256:1", 0.005)
    assert (verdict.accepted, verdict.stale) == (accepted, False)
    assert "m" in verdict.reason


def test_the_gate_needs_no_champion_but_a_metric() -> None:
    assert judge(_bundle(0.1, None), None, 0).accepted
    assert not judge(_bundle(math.nan, None), None, 0).accepted


@pytest.mark.parametrize("champion", [None, 0.5])
def test_the_gate_wants_the_champion_in_service(champion: float | None) -> None:
    verdict = judge(_bundle(0.9, champion), "sha256:2", 0.005)
    assert (verdict.accepted, verdict.stale) == (False, True)


_REFUSED = {"objects/m/v2/b.csv": 'no column "late"', "objects/m/v3/c.csv": "empty"}


@pytest.mark.parametrize(
    "reason",
    [
        f"REFUSED={json.dumps(_REFUSED)}",
        f'AlgorithmError: ErrorMessage "DataRefused: REFUSED={json.dumps(_REFUSED)}"\nCommand "python"',
        f"AlgorithmError: {json.dumps('DataRefused: REFUSED=' + json.dumps(_REFUSED))}",
    ],
)
def test_refusals_are_found_in_whatever_wraps_them(reason: str) -> None:
    assert refusals(reason) == _REFUSED


def test_refusals_that_are_cut_off_keep_what_is_whole() -> None:
    text = f"REFUSED={json.dumps(_REFUSED)}"
    assert refusals(text[:-1]) == _REFUSED
    assert refusals(text[:-4]) == _REFUSED | {"objects/m/v3/c.csv": "emp…"}
    assert list(refusals(text[:30])) == ([])
    for end in range(len(text)):
        assert set(refusals(text[:end])) <= set(_REFUSED)


@pytest.mark.parametrize(
    "reason", ["", "InternalServerError", "REFUSED=", "REFUSED=[1]", "REFUSED=nonsense {}"]
)
def test_other_reasons_refuse_nothing(reason: str) -> None:
    assert refusals(reason) == {}


@given(st.text())
def test_any_reason_can_be_read(reason: str) -> None:
    refusals("REFUSED={" + reason)


_WANTED = Rollout("server", "r@sha256:2", 5, 100.0)


def _deployment(status: dict[str, Any], image: str = "r@sha256:2", asked: int = 2) -> dict[str, Any]:
    containers = [{"name": "sidecar", "image": "x"}, {"name": "server", "image": image}]
    return {"spec": {"replicas": asked, "template": {"spec": {"containers": containers}}}, "status": status}


_ALL: dict[str, Any] = {"observedGeneration": 5, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
_LATE: dict[str, Any] = {
    "type": "Progressing",
    "status": "False",
    "reason": "ProgressDeadlineExceeded",
    "message": "late",
}


@pytest.mark.parametrize(
    ("deployment", "now", "state"),
    [
        (_deployment(_ALL), 0, "healthy"),
        (_deployment(_ALL), 101, "healthy"),
        (_deployment({}), 0, "progressing"),
        (_deployment(_ALL | {"observedGeneration": 4}), 0, "progressing"),
        (_deployment(_ALL | {"replicas": 3}), 0, "progressing"),
        (_deployment(_ALL | {"availableReplicas": 1}), 0, "progressing"),
        (_deployment(_ALL | {"updatedReplicas": 1}), 101, "failed"),
        (_deployment(_ALL | {"replicas": 3, "conditions": [_LATE]}), 0, "failed"),
        # What the status says of an older generation is about another rollout.
        (_deployment(_ALL | {"observedGeneration": 4, "conditions": [_LATE]}), 0, "progressing"),
        (_deployment(_ALL, image="other"), 0, "failed"),
        (_deployment(_ALL, asked=0), 0, "failed"),
        ({}, 0, "failed"),
    ],
)
def test_rollout_status(deployment: dict[str, Any], now: float, state: str) -> None:
    assert rollout_status(deployment, _WANTED, now).state == state


def test_going_back_to_no_model_need_not_become_available() -> None:
    waiting = _deployment(_ALL | {"availableReplicas": 0})
    assert returned(waiting, _WANTED, 0).state == "healthy"
    assert returned(_deployment({"observedGeneration": 4}), _WANTED, 0).state == "progressing"


def _pod(image: str = "r@sha256:2", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "server", "image": image}]},
        "status": {"containerStatuses": [{"name": "server", "ready": False, **status}]},
    }


def test_what_keeps_a_pod_from_being_ready_is_said() -> None:
    pull = _pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})
    assert pod_reason([_pod("old"), pull], _WANTED) == "pod p: ImagePullBackOff, no such image"
    assert pod_reason([_pod(state={"running": {}})], _WANTED) == "pod p: runs, but is not ready"
    assert pod_reason([_pod("old")], _WANTED) is None
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no cpu"}
    unscheduled = {"metadata": {"name": "p"}, "status": {"conditions": [condition]}}
    assert pod_reason([unscheduled], _WANTED) == "pod p: Unschedulable: no cpu"


def test_only_repeated_crashes_end_a_rollout_early() -> None:
    backing_off = {"waiting": {"reason": "CrashLoopBackOff"}}
    last = {"terminated": {"exitCode": 1, "reason": "Error"}}
    assert crashing([_pod(state=backing_off, restartCount=2, lastState=last)], _WANTED) is None
    reason = crashing([_pod(state=backing_off, restartCount=3, lastState=last)], _WANTED)
    assert reason == "pod p: CrashLoopBackOff; Error, exit code 1"


@pytest.mark.parametrize(
    ("record", "status", "decision"),
    [
        ({}, None, Start(1)),
        ({"state": "training", "attempt": 1}, None, Start(1)),
        ({"state": "training", "attempt": 1}, "InProgress", Skip("its job is in progress")),
        ({"state": "training", "attempt": 1}, "Failed", Start(2, 1)),
        ({"state": "retry", "attempt": 1, "failures": 1}, None, Start(2, 1)),
        ({"state": "retry", "attempt": 3, "failures": 3}, None, Skip("all 3 attempts failed", failed=True)),
        ({"state": "accepted", "attempt": 1}, None, Skip("its training ended: accepted")),
    ],
)
def test_what_is_done_about_a_data_set(record: Any, status: str | None, decision: Start | Skip) -> None:
    assert decide(record, status, 3) == decision


@pytest.mark.parametrize(
    ("job", "outcome", "waits"),
    [
        (Job("j", "InProgress", 0), False, True),
        (Job("j", "Stopping", 0), True, True),
        (Job("j", "Completed", 1000), False, True),
        (Job("j", "Completed", 1000), True, False),
        (Job("j", "Failed", 1000 - GRACE_S), False, False),
    ],
)
def test_a_job_that_ended_is_in_flight_until_its_release_began(job: Job, outcome: bool, waits: bool) -> None:
    assert in_flight([job], lambda _: outcome, 1000) == ("j" if waits else None)


def _config(**changes: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "training_job": training_template(),
        "channels": {"content_type": "text/csv"},
        "data_bucket": "data",
        "artifact_bucket": "artifacts",
        "package_group": "g",
        "repository_uri": "r",
        "server_tag": "1",
        "workload": {"cluster": "c", "namespace": "n", "deployment": "d"},
        "queue_url": "q",
        **changes,
    }


def test_a_job_request_is_the_template_with_this_data_sets_channels() -> None:
    config = ModelConfig.parse(_config(), "config/m.json")
    for champion in (None, "s3://artifacts/model.tar.gz"):
        request = job_request(config, "j", {"dataset_hash": "h"}, train_uri="s3://x", champion_uri=champion)
        assert request["HyperParameters"] == {"model": "flights", "target": "late", "dataset_hash": "h"}
        assert request["CheckpointConfig"]["S3Uri"].endswith("/checkpoints/j")
        kinds = [c["DataSource"]["S3DataSource"]["S3DataType"] for c in request["InputDataConfig"]]
        assert kinds == ["ManifestFile", "S3Prefix"][: 2 if champion else 1]
        assert request["InputDataConfig"][0]["ContentType"] == "text/csv"
    assert "dataset_hash" not in config.training_job["HyperParameters"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "config/m.json: want a JSON object"),
        (_config(queue_url=""), "config/m.json: queue_url: empty"),
        (_config(max_attempts=True), "config/m.json: max_attempts: True has the wrong type"),
        (_config(workload={"cluster": "c"}), "config/m.json: workload: namespace: missing"),
        (_config(gate={"margin": -1}), "config/m.json: gate.margin: want 0 or more, got -1.0"),
    ],
)
def test_a_bad_configuration_is_named(document: Any, message: str) -> None:
    with pytest.raises(Permanent, match="^" + message.replace(".", r"\.")):
        ModelConfig.parse(document, "config/m.json")


def test_a_missing_environment_variable_is_named() -> None:
    with pytest.raises(Permanent, match="STATE_TABLE, ARTIFACT_BUCKET not set"):
        Environment.read({"STACK": "dev"})
    found = Environment.read({"STACK": "dev", "STATE_TABLE": "t", "ARTIFACT_BUCKET": "b"})
    assert found.config_prefix == "config/"
