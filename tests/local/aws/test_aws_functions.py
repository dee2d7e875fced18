"""Lambda: real handlers in processes, with nothing of the user's and of the repository around them."""

from __future__ import annotations

import base64
import io
import time
import zipfile
from typing import Any

import pytest

HANDLER = """
import os, sys, time, json
import boto3

COUNT = {"n": 0}

class Refused(Exception):
    pass

def handle(event, context):
    COUNT["n"] += 1
    match event["do"]:
        case "look":
            return {
                "n": COUNT["n"], "environment": dict(os.environ), "path": sys.path, "cwd": os.getcwd(),
                "identity": boto3.client("sts").get_caller_identity()["Arn"],
                "remaining": context.get_remaining_time_in_millis(), "name": context.function_name,
                "arn": context.invoked_function_arn, "id": context.aws_request_id,
            }
        case "print":
            print("to stdout")
            print("to stderr", file=sys.stderr)
            return "printed"
        case "raise":
            raise Refused("not with me")
        case "hang":
            time.sleep(60)
        case "exit":
            os._exit(3)
        case "sysexit":
            sys.exit(4)
        case "object":
            return object()
        case "import":
            import local
"""


@pytest.fixture(scope="module")
def name(aws: Any) -> str:
    aws.function("handlers", HANDLER, timeout=10, COLOUR="blue")
    return "handlers"


def test_environment(aws: Any, name: str) -> None:
    seen, error = aws.invoke(name, {"do": "look"})
    assert error is None
    environment = seen["environment"]
    assert environment["COLOUR"] == "blue"
    assert environment["AWS_ENDPOINT_URL"] == aws.endpoint
    assert environment["AWS_ACCESS_KEY_ID"] != "AKIASOMEBODY"
    assert "AWS_PROFILE" not in environment
    assert str(aws.run_dir) in environment["HOME"]
    assert seen["identity"] == "arn:aws:sts::123456789012:assumed-role/handlers-role/handlers"
    assert 0 < seen["remaining"] <= 10_000
    assert (seen["name"], seen["arn"].rpartition(":")[2]) == (name, name)
    root = __file__.partition("/tests/local/")[0]
    strangers = [path for path in seen["path"] if path.startswith(root) and "site-packages" not in path]
    assert strangers == [], "the repository is not importable"
    again, _ = aws.invoke(name, {"do": "look"})
    assert again["n"] == seen["n"] + 1, "the process stays warm"
    assert again["id"] != seen["id"]


@pytest.mark.parametrize(
    ("do", "kind", "message"),
    [
        ("raise", "Refused", "not with me"),
        ("import", "ModuleNotFoundError", "No module named 'local'"),
        ("object", "TypeError", "Object of type object is not JSON serializable"),
        ("sysexit", "SystemExit", "4"),
    ],
)
def test_errors(aws: Any, name: str, do: str, kind: str, message: str) -> None:
    payload, error = aws.invoke(name, {"do": do})
    assert error == "Unhandled"
    assert (payload["errorType"], payload["errorMessage"]) == (kind, message)
    assert "worker.py" not in str(payload["stackTrace"])


def test_a_timeout_kills_and_the_next_event_is_served(aws: Any) -> None:
    aws.function("hanging", HANDLER, timeout=2)
    started = time.monotonic()
    payload, error = aws.invoke("hanging", {"do": "hang"})
    assert 2 <= time.monotonic() - started < 4
    assert error == "Unhandled"
    assert payload["errorMessage"].endswith("Task timed out after 2.00 seconds")
    assert aws.invoke("hanging", {"do": "look"})[1] is None


def test_a_process_that_ends_is_replaced(aws: Any, name: str) -> None:
    payload, error = aws.invoke(name, {"do": "exit"})
    assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert aws.invoke(name, {"do": "print"})[0] == "printed"


def test_logs(aws: Any, name: str) -> None:
    answer = aws.client("lambda").invoke(FunctionName=name, Payload=b'{"do": "print"}', LogType="Tail")
    tail = base64.b64decode(answer["LogResult"]).decode()
    assert "to stdout" in tail
    assert "to stderr" in tail
    found = aws.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    assert "to stdout" in [each["message"] for each in found]


def test_a_module_that_cannot_be_imported(aws: Any) -> None:
    aws.function("broken", "import no_such_module")
    payload, error = aws.invoke("broken", {})
    assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ImportModuleError")
    assert "no_such_module" in payload["errorMessage"]


def test_new_code_and_configuration(aws: Any) -> None:
    aws.function("changing", "import os\ndef handle(event, context): return ['old', os.environ['A']]", A="1")
    assert aws.invoke("changing", {})[0] == ["old", "1"]
    client = aws.client("lambda")
    client.update_function_configuration(FunctionName="changing", Environment={"Variables": {"A": "2"}})
    assert aws.invoke("changing", {})[0] == ["old", "2"]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app/handler.py", "def handle(event, context): return 'new'")
    client.update_function_code(FunctionName="changing", ZipFile=buffer.getvalue())
    assert aws.invoke("changing", {})[0] == "new"
    client.delete_function(FunctionName="changing")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        aws.invoke("changing", {})


def test_an_asynchronous_invocation_does_not_wait(aws: Any, name: str) -> None:
    started = time.monotonic()
    answer = aws.client("lambda").invoke(
        FunctionName=name, InvocationType="Event", Payload=b'{"do": "print"}'
    )
    assert answer["StatusCode"] == 202
    assert time.monotonic() - started < 1
