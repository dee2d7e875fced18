"""Lambda: each function's real handler runs in a warm process of its own."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from local.aws.function_process import FunctionProcess, Outcome, fingerprint
from local.aws.hooks import Hook

if TYPE_CHECKING:
    from local.aws.emulator import Emulator

log = logging.getLogger(__name__)

CREATE = Hook("moto.awslambda.models:LambdaBackend.create_function", "self spec")
DELETE = Hook("moto.awslambda.models:LambdaBackend.delete_function", "self function_name qualifier")
INVOKE = Hook("moto.awslambda.models:LambdaFunction.invoke", "self body request_headers response_headers")
INVOKE_PROCESS = Hook("moto.awslambda.models:LambdaFunction._invoke_lambda", "self event")
HOOKS = (CREATE, DELETE, INVOKE, INVOKE_PROCESS)

# AWS retries an asynchronous event twice, after one and two minutes; a demo would not wait that long.
_ASYNC_RETRIES_S = (1.0, 3.0)


class Functions:
    """All functions of the server, and their processes."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._processes: dict[str, FunctionProcess] = {}
        self._lock = threading.Lock()
        emulator.at_stop(self._stop)

    def install(self) -> None:
        """Replace moto's way (a container per event)."""
        functions = self

        def create_function(self: Any, spec: dict[str, Any]) -> Any:
            function = original_create(self, spec)
            functions._emulator.run(functions._warm, function)
            return function

        def delete_function(self: Any, function_name: str, qualifier: str | None = None) -> None:
            arn = self.get_function(function_name, None).function_arn
            original_delete(self, function_name, qualifier)
            functions._forget(arn)

        def invoke(self: Any, body: Any, request_headers: Any, response_headers: Any) -> str | bytes:
            return functions._answer(self, body, request_headers, response_headers)

        def invoke_lambda(self: Any, event: Any = None) -> tuple[str, bool, str]:
            outcome = functions.invoke(self, event)
            return outcome.payload, outcome.failed, outcome.logs

        original_create = CREATE.install(create_function)
        original_delete = DELETE.install(delete_function)
        INVOKE.install(invoke)
        INVOKE_PROCESS.install(invoke_lambda)

    def invoke(self, function: Any, event: Any) -> Outcome:
        """Run the handler on `event` and wait for what it returns."""
        process = self._process(function)
        outcome = process.invoke(event)
        _save_logs(function, process.stream, outcome.logs)
        if outcome.failed:
            log.warning("function %s: %s", function.function_name, outcome.payload[:500])
        return outcome

    def invoke_async(self, arn: str, event: Any) -> None:
        """Run the handler in the background; like AWS, try again twice when it fails."""
        self._emulator.run(self._persist, arn, event)

    def lookup(self, arn: str) -> Any:
        """The function with this ARN; raises what moto raises when there is none."""
        from moto.awslambda.models import lambda_backends

        region, account = arn.split(":")[3:5]
        return lambda_backends[account][region].get_function(arn)

    def _persist(self, arn: str, event: Any) -> None:
        for pause in (*_ASYNC_RETRIES_S, None):
            outcome = self.invoke(self.lookup(arn), event)
            if not outcome.failed:
                return
            if pause is None or self._emulator.stopping.wait(pause):
                break
        log.error("function %s: the event was given up after %d attempts", arn, len(_ASYNC_RETRIES_S) + 1)

    def _answer(self, function: Any, body: Any, request_headers: Any, response_headers: Any) -> str | bytes:
        event = json.loads(body) if body else {}
        kind = request_headers.get("x-amz-invocation-type", "RequestResponse")
        if kind == "DryRun":
            return b""
        if kind == "Event":
            self.invoke_async(function.function_arn, event)
            return ""
        outcome = self.invoke(function, event)
        if outcome.failed:
            response_headers["x-amz-function-error"] = "Unhandled"
        response_headers["x-amz-executed-version"] = str(function.version)
        tail = outcome.logs.encode()[-4096:]
        response_headers["x-amz-log-result"] = base64.b64encode(tail).decode()
        return outcome.payload.encode()

    def _warm(self, function: Any) -> None:
        self._process(function).start()

    def _process(self, function: Any) -> FunctionProcess:
        """The function's process; a new one when its code or configuration has changed."""
        arn: str = function.function_arn
        with self._lock:
            present = self._processes.get(arn)
            wanted = fingerprint(function)
            if present is not None and present.fingerprint == wanted:
                return present
            process = FunctionProcess(self._emulator, function, wanted)
            self._processes[arn] = process
        if present is not None:
            present.stop()
        return process

    def _forget(self, arn: str) -> None:
        with self._lock:
            process = self._processes.pop(arn, None)
        if process is not None:
            process.stop()

    def _stop(self) -> None:
        with self._lock:
            processes = list(self._processes.values())
        for process in processes:
            process.stop()


def _save_logs(function: Any, stream: str, text: str) -> None:
    """Put the lines into the function's log group, as CloudWatch Logs would have them."""
    if not text.strip():
        return
    logs = function.logs_backend
    logs.ensure_log_group(function.logs_group_name)
    group = logs.groups[function.logs_group_name]
    if stream not in group.streams:
        logs.create_log_stream(function.logs_group_name, stream)
    now = int(time.time() * 1000)
    lines = [{"timestamp": now, "message": line} for line in text.splitlines() if line.strip()]
    logs.put_log_events(function.logs_group_name, stream, lines)
