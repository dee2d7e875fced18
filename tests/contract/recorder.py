"""The whole program under the SDK's mock monitor, with every registration kept."""

import asyncio
import contextvars
import json
import runpy
import threading
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pulumi
import yaml
from pulumi.runtime import mocks, rpc
from pulumi.runtime.config import set_all_config

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, REGION = "123456789012", "us-east-1"
STACK_TYPE = "pulumi:pulumi:Stack"
# What stands before the name in an ARN, where a test looks at it.
KINDS = {"aws:cloudwatch/logGroup:LogGroup": "log-group:", "aws:lambda/function:Function": "function:"}


@dataclass(frozen=True, kw_only=True)
class Registered:
    """One resource as the program declared it; `inputs` has the engine's camelCase names."""

    urn: str
    type: str
    name: str
    parent: str
    custom: bool
    remote: bool
    protect: bool
    retain: bool
    deleted_with: str
    provider: str
    dependencies: frozenset[str]
    ignore_changes: tuple[str, ...]
    inputs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Program:
    """Everything that one run registered, in order."""

    stack: str
    resources: tuple[Registered, ...]

    def of(self, type_: str) -> list[Registered]:
        return [resource for resource in self.resources if resource.type == type_]

    def one(self, type_: str, name: str) -> Registered:
        (found,) = [resource for resource in self.of(type_) if resource.name == name]
        return found

    def by_urn(self) -> dict[str, Registered]:
        return {resource.urn: resource for resource in self.resources}


class Answers(mocks.Mocks):
    """What AWS would add to the inputs; an unknown look-up is an error."""

    def call(self, args: mocks.MockCallArgs) -> Any:
        known: dict[str, dict[str, str]] = {
            "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": ACCOUNT},
            "aws:sagemaker/getPrebuiltEcrImage:getPrebuiltEcrImage": {
                "registryPath": f"683313688378.dkr.ecr.{REGION}.amazonaws.com/sagemaker-xgboost:3.2-0"
            },
        }
        return known[args.token]

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        if not args.custom and args.typ != "eks:index:Cluster":
            return "", {}
        service = args.typ.split(":")[1].split("/")[0]
        kind = KINDS.get(args.typ, "")
        made: dict[str, Any] = {
            "arn": f"arn:aws:{service}:{REGION}:{ACCOUNT}:{kind}{args.name}",
            "name": args.name,
            "url": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{args.name}",
            "bucket": args.name,
            "repositoryUrl": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{args.name}",
            "versionId": "3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo",
            "kubeconfigJson": "{}",
            "clusterSecurityGroupId": "sg-cluster",
            "oidcProviderArn": f"arn:aws:iam::{ACCOUNT}:oidc-provider/oidc.example/id/ABC",
            "oidcIssuer": "oidc.example/id/ABC",
        }
        return f"{args.name}-id", {**made, **args.inputs}


class RecordingMonitor(mocks.MockMonitor):
    """Keeps what `MockResourceArgs` leaves out: parents, protection, dependencies, ignored changes."""

    def __init__(self) -> None:
        super().__init__(Answers())
        self.registered: list[Registered] = []

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        chain = parent.split("::")[2] if parent else ""
        qualified = type_ if chain in {"", STACK_TYPE} else f"{chain}${type_}"
        return f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::{qualified}::{name}"

    def Invoke(self, request: Any) -> Any:  # noqa: N802
        with worker_loop():
            return super().Invoke(request)

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        with worker_loop():
            response = super().RegisterResource(request)
        if request.type == STACK_TYPE:
            return response
        self.registered.append(
            Registered(
                urn=response.urn,
                type=request.type,
                name=request.name,
                parent=request.parent,
                custom=request.custom,
                remote=request.remote,
                protect=request.protect,
                retain=request.retainOnDelete,
                deleted_with=request.deletedWith,
                provider=request.provider,
                dependencies=frozenset(request.dependencies),
                ignore_changes=tuple(request.ignoreChanges),
                inputs=cast("dict[str, Any]", rpc.deserialize_properties(request.object)),
            )
        )
        return response


@contextmanager
def worker_loop() -> Generator[None]:
    """The monitor wants an event loop on each of the SDK's worker threads, and closes none."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def stack_config(stack: str) -> dict[str, Any]:
    """The stack file's values, structured."""
    content: dict[str, Any] = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))
    return content["config"]


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Leaves no task behind that would complain when it is collected."""
    pending = asyncio.all_tasks(loop)
    for task in pending:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    loop.close()


def run(stack: str, *, like: str, preview: bool = False, changes: Mapping[str, Any] | None = None) -> Program:
    """Runs __main__.py for a stack of this name, with the settings of another and some sections changed."""
    return run_file(stack, {**stack_config(like), **(changes or {})}, preview=preview)


def run_file(stack: str, config: Mapping[str, Any], *, preview: bool = False) -> Program:
    """Runs __main__.py for a stack of this name and with this file's content."""
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    monitor = RecordingMonitor()
    failures: list[BaseException] = []

    def execute() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            pulumi.runtime.set_mocks(
                monitor.mocks, project="trainserve", stack=stack, preview=preview, monitor=monitor
            )
            set_all_config(values)
            with warnings.catch_warnings():
                # The SDK and its generated packages warn of their own deprecated parts.
                warnings.filterwarnings(
                    "ignore", category=DeprecationWarning, module=r"pulumi(_aws|_eks|_kubernetes)?\."
                )
                pulumi.runtime.test(lambda: runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__"))()
        except BaseException as error:  # noqa: BLE001  # carried over to the test's thread
            failures.append(error)
        finally:
            close(loop)

    # The SDK keeps the current stack in context variables: a fresh context is a fresh process to it.
    thread = threading.Thread(target=contextvars.Context().run, args=(execute,))
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return Program(stack=stack, resources=tuple(monitor.registered))
