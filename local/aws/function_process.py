"""One function's warm process: started before the first event, replaced when it hangs or changes."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from local.processes import clean_environment, stop_group

if TYPE_CHECKING:
    from local.aws.emulator import Emulator

log = logging.getLogger(__name__)

_WORKER = Path(__file__).with_name("worker.py")
_INIT_TIMEOUT_S = 30.0


class Outcome(NamedTuple):
    """What an invocation ended with: the payload as JSON text, whether it is an error, the lines logged."""

    payload: str
    failed: bool
    logs: str


class _Silent(Exception):  # noqa: N818
    """The process did not answer in time (`timed_out`), or ended."""

    def __init__(self, *, timed_out: bool) -> None:
        super().__init__()
        self.timed_out = timed_out


def fingerprint(function: Any) -> str:
    """Changes when the process of the function must be replaced."""
    settings = [function.code_sha_256, function.handler, function.role, function.memory_size]
    text = json.dumps([*settings, function.environment_vars], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class FunctionProcess:
    """Runs events of one function, one at a time."""

    def __init__(self, emulator: Emulator, function: Any, wanted: str) -> None:
        self.fingerprint = wanted
        self.stream = f"{datetime.now(tz=UTC):%Y/%m/%d}/[$LATEST]{uuid.uuid4().hex}"
        self._emulator = emulator
        self._function = function
        self._folder = emulator.run_dir / "functions" / function.function_name
        self._code = self._folder / f"code-{wanted[:12]}"
        self._log = self._folder.parent / f"{function.function_name}.log"
        self._log_read = 0
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = self._responses = -1
        self._buffer = b""
        self._closed = False

    def start(self) -> None:
        """Start the process and wait until the handler's module is imported."""
        with self._lock:
            if self._process is None and not self._closed:
                self._spawn()

    def invoke(self, event: Any) -> Outcome:
        """Run the handler on `event`; a timeout kills the process and is an error as Lambda words it."""
        request_id = str(uuid.uuid4())
        with self._lock:
            timeout = float(self._function.timeout)
            started = time.monotonic()
            try:
                if self._process is None or self._process.poll() is not None:
                    self._spawn()
                started = time.monotonic()
                request = {"id": request_id, "event": event, "deadline": time.time() + timeout}
                _write(self._requests, json.dumps(request).encode() + b"\n")
                reply = self._read(timeout)
            except (_Silent, BrokenPipeError) as problem:
                reply = {"error": self._failure(request_id, problem, timeout)}
                self._kill()
            took = (time.monotonic() - started) * 1000
            self._append(f"REPORT RequestId: {request_id}\tDuration: {took:.2f} ms\n")
            logs = self._new_lines()
        if "error" in reply:
            return Outcome(json.dumps(reply["error"]), failed=True, logs=logs)
        return Outcome(json.dumps(reply["result"]), failed=False, logs=logs)

    def stop(self) -> None:
        """End the process, whatever it does; nothing is invoked any more."""
        self._closed = True
        process = self._process
        if process is not None:
            stop_group(process, grace_s=0.3)

    def _failure(self, request_id: str, problem: Exception, timeout: float) -> dict[str, str]:
        if isinstance(problem, _Silent) and problem.timed_out:
            message = f"{_now()} {request_id} Task timed out after {timeout:.2f} seconds"
            self._append(message + "\n")
            return {"errorType": "Sandbox.Timedout", "errorMessage": message}
        message = f"RequestId: {request_id} Error: Runtime exited without providing a reason"
        return {"errorType": "Runtime.ExitError", "errorMessage": message}

    def _spawn(self) -> None:
        if self._closed or self._emulator.stopping.is_set():
            raise _Silent(timed_out=False)
        self._kill()
        self._unpack()
        inner_requests, self._requests = os.pipe()
        self._responses, inner_responses = os.pipe()
        self._buffer = b""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_WORKER), str(inner_requests), str(inner_responses)],
                env=self._environment(),
                cwd=self._code,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(inner_requests, inner_responses),
                start_new_session=True,
            )
        os.close(inner_requests)
        os.close(inner_responses)
        self._read(_INIT_TIMEOUT_S)

    def _unpack(self) -> None:
        if self._code.exists():
            return
        self._code.mkdir(parents=True)
        with zipfile.ZipFile(io.BytesIO(self._function.code_bytes)) as archive:
            archive.extractall(self._code)

    def _environment(self) -> dict[str, str]:
        from moto.sts.models import sts_backends

        function = self._function
        role = sts_backends[function.account_id]["aws"].assume_role(
            region_name=function.region,
            role_session_name=function.function_name,
            role_arn=function.role,
            policy="",
            duration=3600,
            external_id="",
        )
        runtime = {
            "AWS_ACCESS_KEY_ID": role.access_key_id,
            "AWS_SECRET_ACCESS_KEY": role.secret_access_key,
            "AWS_SESSION_TOKEN": role.session_token,
            "AWS_REGION": function.region,
            "AWS_DEFAULT_REGION": function.region,
            "AWS_ENDPOINT_URL": self._emulator.endpoint,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.run_time}",
            "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
            "AWS_LAMBDA_LOG_GROUP_NAME": function.logs_group_name,
            "AWS_LAMBDA_LOG_STREAM_NAME": self.stream,
            "LAMBDA_TASK_ROOT": str(self._code),
            "LOCAL_FUNCTION_ARN": function.function_arn,
            "NO_PROXY": "127.0.0.1,localhost",
            "_HANDLER": function.handler,
        }
        return clean_environment({**function.environment_vars, **runtime}, home=self._folder / "tmp")

    def _read(self, timeout: float) -> dict[str, Any]:
        """The next line of the process; _Silent if there is none in time."""
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._responses, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise _Silent(timed_out=True)
                piece = os.read(self._responses, 1 << 16)
                if not piece:
                    raise _Silent(timed_out=False)
                self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _kill(self) -> None:
        if self._process is not None:
            stop_group(self._process, grace_s=0.2)
        self._process = None
        for descriptor in (self._requests, self._responses):
            with suppress(OSError):
                os.close(descriptor)

    def _append(self, line: str) -> None:
        with self._log.open("a", encoding="utf-8") as file:
            file.write(line)

    def _new_lines(self) -> str:
        with self._log.open("rb") as file:
            file.seek(self._log_read)
            text = file.read()
        self._log_read += len(text)
        return text.decode(errors="replace")


def _now() -> str:
    return f"{datetime.now(tz=UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
