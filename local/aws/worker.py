"""The process of one function: runs the handler of an archive, one event at a time, as Lambda's runtime does.

Started as `python -I -B worker.py REQUEST_FD RESPONSE_FD`; imports nothing of this repository. Requests and
responses are lines of JSON on the two pipes. The process ends when the request pipe closes.
"""

import importlib
import json
import os
import sys
import threading
import time
import traceback
from typing import Any


class Context:
    """What a handler gets as its second argument."""

    def __init__(self, request_id: str, deadline: float) -> None:
        self.aws_request_id = request_id
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.invoked_function_arn = os.environ["LOCAL_FUNCTION_ARN"]
        self.identity = None
        self.client_context = None
        self._deadline = deadline

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is killed."""
        return max(0, int((self._deadline - time.time()) * 1000))


def describe(error: BaseException) -> dict[str, Any]:
    """What Lambda returns for an exception; the frames of this file are left out."""
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(frames),
    }


def load(path: str) -> tuple[Any, dict[str, Any] | None]:
    """The handler that `module.function` names, or what kept it from being imported."""
    module, _, name = path.replace("/", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), name), None
    except BaseException as error:  # noqa: BLE001  # whatever a module does when it is imported
        traceback.print_exc()
        found = describe(error)
        missing = isinstance(error, ImportError)
        found["errorType"] = "Runtime.ImportModuleError" if missing else f"Runtime.{found['errorType']}"
        found["errorMessage"] = f"Unable to import module '{module}': {error}"
        return None, found


def leave_with_parent(parent: int) -> None:
    """End when the server is gone, even in the middle of an event."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Serve events until the pipe closes."""
    requests = os.fdopen(int(sys.argv[1]), "rb")
    responses = os.fdopen(int(sys.argv[2]), "wb")
    threading.Thread(target=leave_with_parent, args=(os.getppid(),), daemon=True).start()
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    handler, broken = load(os.environ["_HANDLER"])

    def answer(reply: dict[str, Any]) -> None:
        responses.write(json.dumps(reply).encode() + b"\n")
        responses.flush()

    answer({"ready": True})
    for line in requests:
        request = json.loads(line)
        if broken is not None:
            answer({"id": request["id"], "error": broken})
            continue
        try:
            result = handler(request["event"], Context(request["id"], request["deadline"]))
            reply = {"id": request["id"], "result": json.loads(json.dumps(result))}
        except BaseException as error:  # noqa: BLE001  # SystemExit too: the next event comes
            traceback.print_exc()
            reply = {"id": request["id"], "error": describe(error)}
        sys.stdout.flush()
        sys.stderr.flush()
        answer(reply)


if __name__ == "__main__":
    main()
