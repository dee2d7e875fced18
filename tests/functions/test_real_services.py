"""What the real services do and the emulated ones do not: limits, odd endings, and races."""

import re
import ssl
from dataclasses import replace
from typing import Any

import pytest

from common.aws import client
from common.kubernetes import Kubernetes
from common.registry import OCI_MANIFEST
from release_model.record import hold_lease
from start_training.trainer import Trainer
from tests.functions.fakes import FakeCluster
from tests.functions.world import ARTIFACTS, LAYER, MODEL, World, event

FIRST = "ts-dev--flights-0123abcd-x7k2p9"


def test_a_job_that_found_no_spot_capacity_is_tried_again(world: World) -> None:
    world.upload("a.csv")
    job = Trainer(world.services, MODEL).run([]).job
    assert job
    (result,) = world.release(world.fail(job, "", "Stopped", "MaxWaitTimeExceeded"))
    assert result == {"outcome": "refused", "reason": "the job was stopped: MaxWaitTimeExceeded"}
    again = Trainer(world.services, MODEL).run([]).job
    assert again == f"{job[:-1]}2"


def test_a_new_server_carries_the_model_that_was_released_while_it_waited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim of a build may see one champion, and get the lease from the release of the next."""
    world.release(world.train(FIRST), "e1")
    second = "ts-dev--flights-0123abcd-2"
    trained = world.train(second)
    world.registry.add_image("5678", OCI_MANIFEST, LAYER)
    world.configure(server_tag="5678")

    def hold(services: Any, handle: Any) -> None:
        if handle.kind == "build" and world.record("champion")["version"] == FIRST:
            assert world.release(trained, "e2")[0]["outcome"] == "released"
        hold_lease(services, handle)

    monkeypatch.setattr("release_model.claim.hold_lease", hold)
    (result,) = world.release(event("codebuild_succeeded"), "e3")
    assert result["outcome"] == "released"
    assert world.record("champion")["version"] == second


def _calls(operation: str) -> list[dict[str, Any]]:
    """Record what is asked of SageMaker by one operation."""
    found: list[dict[str, Any]] = []

    def note(params: dict[str, Any], **_: object) -> None:
        found.append(params)

    client("sagemaker").meta.events.register(f"provide-client-params.sagemaker.{operation}", note)
    return found


def test_a_package_has_a_token_of_its_own_whatever_the_names_lengths(world: World) -> None:
    """Cut to the 36 characters allowed, long names would leave no room for the release's number."""
    # Together as long as the longest stack and model.
    stack = "b" * (16 + 20 - len(MODEL))
    environment = replace(world.services.environment, stack=stack)
    world.services.__dict__["environment"] = environment
    made = _calls("CreateModelPackage")
    for number in (1, 2):
        world.release(world.train(f"ts-{stack}--flights-0123abcd-{number}"), f"e{number}")
    tokens = [call["ClientToken"] for call in made]
    assert len(set(tokens)) == 2
    assert all(re.fullmatch(r"[a-zA-Z0-9-]{1,36}", token) for token in tokens)


def test_a_packages_reason_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SageMaker refuses line breaks in it, and a release that cannot end would keep its lease."""
    told = _calls("UpdateModelPackage")
    world.cluster.behaviour = "stuck"

    def crash(*_: object) -> str:
        return "one\ntwo\n\n  three"

    monkeypatch.setattr("release_model.rollout.crashing", crash)
    (result,) = world.release(world.train(FIRST))
    assert result["outcome"] == "rolled_back"
    assert told[-1]["ApprovalDescription"] == "rolled_back: one two three"


def test_an_error_of_several_lines_is_told_in_one(world: World) -> None:
    claimed = {"model": MODEL, "job": FIRST, "kind": "job", "owner": "me"}
    world.train(FIRST)
    world.run({"step": "claim", "release": claimed})
    error = {"Error": "E", "Cause": "one\ntwo"}
    result = world.run({"step": "finish", "release": claimed, "error": error})
    assert result["reason"] == "E: one two"


def test_a_cluster_whose_authority_has_no_key_identifier_is_trusted(
    world: World, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EKS's have none, and Python 3.13's default context, which runs on Lambda, is strict."""
    made, contexts = ssl.create_default_context, list[ssl.SSLContext]()

    def strict(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = made(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        contexts.append(context)
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    kubernetes = Kubernetes(f"https://127.0.0.1:{cluster.port}", world.authority, lambda: "token")
    assert kubernetes.deployment("models", "flights")["metadata"]["generation"] == 1
    (context,) = contexts
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_the_reason_that_the_script_left_counts_not_the_toolkits(world: World) -> None:
    """SageMaker's XGBoost image overwrites the failure file: FailureReason holds the command only."""
    world.release(world.train(FIRST), "e1")
    bad = world.upload("bad.csv")
    job = Trainer(world.services, MODEL).run([]).job
    assert job
    reason = f'DataRefused: REFUSED={{"objects/flights/{bad}/bad.csv":"empty"}}'
    found = client("sagemaker").describe_training_job(TrainingJobName=job)
    path = found["OutputDataConfig"]["S3OutputPath"].removeprefix(f"s3://{ARTIFACTS}/").rstrip("/")
    client("s3").put_object(Bucket=ARTIFACTS, Key=f"{path}/{job}/output/failure", Body=reason.encode())
    command = 'AlgorithmError: ExecuteUserScriptError:\nCommand "python3 -m train", exit code: 1'
    (result,) = world.release(world.fail(job, command), "e2")
    assert result == {"outcome": "refused", "reason": "incoming/flights/bad.csv: empty"}


def test_many_slow_rollouts_fit_into_one_execution(world: World) -> None:
    """It holds 25,000 events, and a look takes nine; all models wait in the execution of a server's build."""
    models, events_of_a_look = 20, 9
    world.configure(rollout={"timeout_s": 600})
    world.cluster.behaviour = "stuck"
    who = {"model": MODEL, "job": FIRST, "kind": "job", "owner": "me"}
    world.train(FIRST)
    for step in ("claim", "verify", "gate", "image", "register", "rollout"):
        world.run({"step": step, "release": who})
    looks, pauses = 0, list[int]()
    while (answer := world.run({"step": "watch", "release": who}))["next"] == "wait":
        looks, pauses = looks + 1, [*pauses, answer["seconds"]]
        world.services.skew += answer["seconds"]
    assert answer == {"next": "rollback"}
    assert (pauses[0], pauses[-1]) == (2, 30)
    # Half of them for the way there, and half for the way back.
    assert models * events_of_a_look * looks < 25_000 / 2
