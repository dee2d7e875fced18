"""The state machine's file: its references hold, and moto's interpreter runs it."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils

from release_model.handler import STEPS
from tests.functions.world import event, state_machine

_DIRECT = {"plan", "claim", "rollback", "finish"}
Answer = Callable[[dict[str, Any]], dict[str, Any]]


def _machines() -> list[dict[str, Any]]:
    machine = state_machine()
    return [machine, machine["States"]["Releases"]["ItemProcessor"]]


def _tasks() -> Iterator[tuple[str, dict[str, Any]]]:
    for machine in _machines():
        yield from ((n, s) for n, s in machine["States"].items() if s["Type"] == "Task")


@pytest.mark.parametrize("machine", _machines())
def test_every_reference_names_a_state_and_every_state_is_reached(machine: dict[str, Any]) -> None:
    states = machine["States"]
    named = {machine["StartAt"]}
    for state in states.values():
        named |= {state[key] for key in ("Next", "Default") if key in state}
        named |= {item["Next"] for key in ("Choices", "Catch") for item in state.get(key, [])}
    assert named == set(states)


def test_every_step_of_the_function_is_a_task_and_every_task_a_step() -> None:
    assert {task["Parameters"]["step"] for _, task in _tasks()} == _DIRECT | set(STEPS)


@pytest.mark.parametrize(("name", "task"), list(_tasks()))
def test_every_task_is_tried_again_and_caught(name: str, task: dict[str, Any]) -> None:
    assert task["Resource"] == "${ReleaseFunctionArn}"
    assert task["Retry"][-1]["ErrorEquals"] == ["States.ALL"]
    assert [r["MaxAttempts"] for r in task["Retry"] if "Permanent" in r["ErrorEquals"]] == [0]
    # Nothing comes after the end, and nothing was claimed before the plan.
    if name not in {"Plan", "Finish"}:
        assert task["Retry"][0]["ErrorEquals"] == ["Busy", "NotReady"]
        assert task["Catch"][0]["ErrorEquals"] == ["States.ALL"]


def test_a_change_of_the_cluster_is_undone_when_a_step_fails() -> None:
    tasks = dict(_tasks())
    caught = {name: tasks[name]["Catch"][0]["Next"] for name in ("Rollout", "Watch", "Promote", "Rollback")}
    assert caught == {"Rollout": "Rollback", "Watch": "Rollback", "Promote": "Rollback", "Rollback": "Finish"}


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], list[dict[str, Any]]]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    arn = "arn:aws:lambda:us-east-1:123456789012:function:release"

    def execute(answer: Answer) -> list[dict[str, Any]]:
        def invoke(parameters: Any, **_: Any) -> dict[str, Any]:
            try:
                return {"StatusCode": 200, "Payload": answer(json.loads(parameters["Payload"]))}
            except Exception as error:  # noqa: BLE001
                payload = {"errorType": type(error).__name__, "errorMessage": str(error)}
                return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": payload}

        monkeypatch.setattr(lambda_eval_utils, "_invoke_lambda_function", invoke)
        states = boto3.client("stepfunctions", region_name="us-east-1")
        definition = json.dumps(state_machine()).replace("${ReleaseFunctionArn}", arn)
        role = "arn:aws:iam::123456789012:role/states"
        machine = states.create_state_machine(name="release", definition=definition, roleArn=role)
        started = states.start_execution(
            stateMachineArn=machine["stateMachineArn"],
            name="e1",
            input=json.dumps(event("training_job_completed")),
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = states.describe_execution(executionArn=started["executionArn"])
            if found["status"] != "RUNNING":
                assert found["status"] == "SUCCEEDED", found
                return json.loads(found["output"])
            time.sleep(0.02)
        raise AssertionError("still running")

    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        yield execute


class Permanent(Exception):  # noqa: N818
    """As the function's own error: only the name counts."""


def test_moto_runs_it_and_a_failed_watch_leads_to_the_way_back(interpreter: Any) -> None:
    steps: list[str] = []
    follow = {"claim": "verify", "verify": "gate", "gate": "image", "register": "rollout"}

    def answer(payload: dict[str, Any]) -> dict[str, Any]:
        step = payload["step"]
        steps.append(step)
        if step == "plan":
            assert payload["event"]["detail"]["TrainingJobStatus"] == "Completed"
            assert payload["execution"].endswith(":e1")
            return {"releases": [{"model": "flights", "owner": payload["started"]}]}
        assert payload["release"]["model"] == "flights"
        if step == "watch":
            raise Permanent("the cluster is gone")
        if step == "finish":
            assert json.loads(payload["error"]["Cause"])["errorMessage"] == "the cluster is gone"
            return {"outcome": "rolled_back"}
        return {"next": follow.get(step, "")}

    (result,) = interpreter(answer)
    assert result["result"] == {"outcome": "rolled_back"}
    way_back = ["rollout", "watch", "rollback", "watch_rollback", "finish"]
    assert steps == ["plan", "claim", "verify", "gate", "image", "register", *way_back]


def test_moto_runs_it_for_an_event_that_asks_for_nothing(interpreter: Any) -> None:
    def answer(_: dict[str, Any]) -> dict[str, Any]:
        return {"releases": []}

    assert interpreter(answer) == []
