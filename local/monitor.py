"""The SDK's mock monitor, taught to record whole registrations and to make resources real."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from pulumi.runtime import mocks
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import get_project, get_stack

from local import engine, wire
from local.errors import LocalError, ProgramError
from local.plausible import Plausible, eks_child_state, eks_child_urn

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.engine import Realise, Realised, Recorder, Resource

_STACK = "pulumi:pulumi:Stack"
_GET_RESOURCE = "pulumi:pulumi:getResource"
_EKS_CLUSTER = "eks:index:Cluster"


class _NoMocks(mocks.Mocks):
    """The monitor answers everything itself; the SDK wants an object here all the same."""

    def call(self, args: mocks.MockCallArgs) -> Any:  # noqa: ANN401
        raise NotImplementedError

    def new_resource(self, args: mocks.MockResourceArgs) -> Any:  # noqa: ANN401
        raise NotImplementedError


class RecordingMonitor(mocks.MockMonitor):
    """Records every registration; asks `realise` for real resources, `plausible` for all others.

    The SDK calls it from worker threads, several at once, each resource after its dependencies.
    """

    def __init__(
        self,
        recorder: Recorder,
        *,
        plausible: Plausible,
        realise: Realise | None,
        preview: bool,
        on_resource: Callable[[Resource], None] | None,
    ) -> None:
        super().__init__(_NoMocks())
        self._recorder = recorder
        self._plausible = plausible
        self._realise = realise
        self._preview = preview
        self._on_resource = on_resource

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """A URN as the real engine makes it: with the types of all parents but the stack."""
        chain = parent.split("::")[2] if parent else ""
        qualified = type_ if chain in {"", _STACK} else f"{chain}${type_}"
        return "::".join([f"urn:pulumi:{get_stack()}", get_project(), qualified, name])

    def RegisterResource(self, request: Any) -> Any:  # noqa: ANN401, N802  # protobuf messages
        """Record, realise, answer."""
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == _STACK:
            return resource_pb2.RegisterResourceResponse(urn=urn)
        resource = engine.record(request, urn)
        if urn in self._recorder.resources:
            raise self._recorder.fail(f"{resource.type} {resource.name!r} is declared twice")
        self._recorder.resources[urn] = resource
        done = self._make(resource)
        self._recorder.resources[urn] = done
        if self._on_resource is not None:
            self._on_resource(done)
        state = wire.merged(request.object, done.outputs)
        return resource_pb2.RegisterResourceResponse(urn=urn, id=done.id, object=state)

    def ReadResource(self, request: Any) -> Any:  # noqa: ANN401, N802
        """Record a look at an existing resource, and make its state up."""
        urn = self.make_urn(request.parent, request.type, request.name)
        inputs = wire.to_plain(request.properties)
        resource = engine.Resource(
            urn=urn, type=request.type, name=request.name, parent=request.parent or None, custom=True,
            read=True, inputs=inputs, dependencies=tuple(request.dependencies), id=request.id,
        )  # fmt: skip
        _, outputs = self._plausible.declare(resource)
        self._recorder.resources[urn] = dataclasses.replace(resource, outputs=outputs)
        return resource_pb2.ReadResourceResponse(urn=urn, properties=wire.merged(request.properties, outputs))

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: ANN401, N802
        """Keep the stack's exports and the outputs of components."""
        outputs = wire.to_plain(request.outputs)
        if f"::{_STACK}::" in request.urn:
            self._recorder.outputs.update(outputs)
        elif known := self._recorder.resources.get(request.urn):
            self._recorder.resources[request.urn] = dataclasses.replace(known, outputs=outputs)
        return super().RegisterResourceOutputs(request)

    def Invoke(self, request: Any) -> Any:  # noqa: ANN401, N802
        """Answer a look-up, or end the run with the name of one that nobody here can answer."""
        arguments = wire.to_plain(request.args)
        if request.tok == _GET_RESOURCE:
            answer = self._state_of(str(arguments["urn"]))
        else:
            answer = self._plausible.invoke(request.tok, arguments)
        if answer is None:
            raise self._recorder.fail(
                f"the program looks up {request.tok}, to which nothing here has an answer"
            )
        response = resource_pb2.ResourceInvokeResponse()
        getattr(response, "return").CopyFrom(wire.merged(wire.EMPTY, answer))
        return response

    def _make(self, resource: Resource) -> Resource:
        made: Realised | None = None
        if resource.custom or resource.remote:
            made = self._try(resource)
        realised = made is not None
        if made is None:
            made = self._declare(resource)
        return dataclasses.replace(
            resource,
            id=made.id,
            outputs=made.outputs,
            realised=realised,
            finished_s=time.monotonic() - self._recorder.started,
        )

    def _try(self, resource: Resource) -> Realised | None:
        if self._realise is None or self._preview:
            return None
        try:
            return self._realise(resource)
        except ProgramError as error:
            self._recorder.errors.append(error)
            raise
        except Exception as error:
            words = str(error) if isinstance(error, LocalError) else f"{type(error).__name__}: {error}"
            raise self._recorder.fail(
                f"{resource.type} {resource.name!r} could not be made: {words}"
            ) from error

    def _declare(self, resource: Resource) -> Realised:
        if not (resource.custom or resource.remote):
            return engine.Realised("", {})
        if self._preview and not resource.is_provider:
            return engine.Realised("", {})
        return engine.Realised(*self._plausible.declare(resource))

    def _state_of(self, urn: str) -> dict[str, Any] | None:
        """The state behind a resource reference that the program follows."""
        for resource in list(self._recorder.resources.values()):
            if resource.urn == urn:
                return {"urn": urn, "id": resource.id, "state": {**resource.inputs, **resource.outputs}}
            if resource.type == _EKS_CLUSTER and eks_child_urn(resource) == urn:
                cluster = resource.outputs["kubeconfig"]["clusters"][0]["cluster"]
                state = eks_child_state(
                    resource,
                    endpoint=cluster["server"],
                    ca_data=cluster["certificate-authority-data"],
                    region=self._plausible.region,
                )
                return {"urn": urn, "id": state["name"], "state": state}
        return None
