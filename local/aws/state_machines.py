"""Step Functions: moto's interpreter, told where this server is; executions are visible while they run."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from local.aws.hooks import Hook

if TYPE_CHECKING:
    from local.aws.emulator import Emulator

_TASKS = "moto.stepfunctions.parser.asl.component.state"
CLIENT = Hook(
    f"{_TASKS}.exec.state_task.lambda_eval_utils:boto_client_for", "region service state_credentials"
)
WAIT = Hook(f"{_TASKS}.wait.wait_function.wait_function:WaitFunction._wait_interval", "self env wait_seconds")
START = Hook(
    "moto.stepfunctions.parser.models:StepFunctionsParserBackend.start_execution",
    "self state_machine_arn name execution_input trace_header",
)
HOOKS = (CLIENT, WAIT, START)


def install(emulator: Emulator) -> None:
    """Turn the interpreter on."""
    from moto.core.config import default_user_config

    default_user_config["stepfunctions"] = {"execute_state_machine": True}

    def boto_client_for(region: str, service: str, state_credentials: Any = None) -> Any:
        del state_credentials
        return emulator.client(service, region)

    def wait_interval(_self: Any, env: Any, wait_seconds: float) -> None:
        # moto measures whole seconds of the wall clock, so that a wait of 2 s may take 3.
        end = time.monotonic() + wait_seconds
        while env.is_running() and (left := end - time.monotonic()) > 0:
            env.program_state_event.wait(left)

    def start_execution(
        self: Any, state_machine_arn: str, name: str | None = None, *rest: Any, **named: Any
    ) -> Any:
        # AWS makes a name where none is given; moto calls every such execution "None".
        return original_start(self, state_machine_arn, name or str(uuid.uuid4()), *rest, **named)

    original_start = START.install(start_execution)
    CLIENT.install(boto_client_for)
    WAIT.install(wait_interval)
