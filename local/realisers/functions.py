"""Lambda functions and what calls them, Step Functions state machines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local.errors import LocalError
from local.realisers.base import Realised, Realiser, Resource, Site
from local.realisers.convert import asset_bytes, request

if TYPE_CHECKING:
    from collections.abc import Mapping

# The handler runs as a process of this machine: no VPC, layers, architecture or reserved share of anything.
_NOT_HERE = {
    "architectures",
    "code",
    "codeSigningConfigArn",
    "fileSystemConfig",
    "layers",
    "loggingConfig",
    "namePrefix",
    "publish",
    "replaceSecurityGroupsOnDestroy",
    "replacementSecurityGroupIds",
    "reservedConcurrentExecutions",
    "s3Bucket",
    "s3Key",
    "s3ObjectVersion",
    "skipDestroy",
    "sourceCodeHash",
    "vpcConfig",
}


def _code(inputs: Mapping[str, Any]) -> dict[str, Any]:
    if (code := inputs.get("code")) is not None:
        return {"ZipFile": asset_bytes(code)}
    location = {"S3Bucket": inputs["s3Bucket"], "S3Key": inputs["s3Key"]}
    if version := inputs.get("s3ObjectVersion"):
        location["S3ObjectVersion"] = version
    return location


def _function(site: Site, resource: Resource) -> Realised:
    name, inputs = site.name(resource), resource.inputs
    client = site.client("lambda")
    parameters = request(
        client,
        "create_function",
        {**inputs, "name": name},
        rename={"name": "functionName"},
        leave_out=_NOT_HERE,
    )
    if log_group := (inputs.get("loggingConfig") or {}).get("logGroup"):
        parameters["LoggingConfig"] = {"LogGroup": log_group}
    made = client.create_function(**parameters, Code=_code(inputs))
    _, outputs = site.plausible.declare(resource)
    arn = made["FunctionArn"]
    return Realised(
        name,
        outputs | {"arn": arn, "name": name, "version": made["Version"], "qualifiedArn": f"{arn}:$LATEST"},
    )


def _permission(site: Site, resource: Resource) -> Realised:
    inputs = resource.inputs
    statement = inputs.get("statementId") or site.name(resource)
    client = site.client("lambda")
    parameters = request(
        client,
        "add_permission",
        {**inputs, "statementId": statement},
        rename={"function": "functionName"},
        leave_out={"statementIdPrefix"},
    )
    client.add_permission(**parameters)
    return Realised(statement, {"statementId": statement})


def _mapping(site: Site, resource: Resource) -> Realised:
    client = site.client("lambda")
    parameters = request(client, "create_event_source_mapping", resource.inputs)
    made = client.create_event_source_mapping(**parameters)
    return Realised(made["UUID"], {"uuid": made["UUID"], "functionArn": made["FunctionArn"]})


def _invocation(site: Site, resource: Resource) -> Realised:
    inputs = resource.inputs
    answer = site.client("lambda").invoke(
        FunctionName=inputs["functionName"], Payload=inputs["input"].encode()
    )
    payload = answer["Payload"].read().decode()
    if answer.get("FunctionError"):
        raise LocalError(f"{inputs['functionName']} failed: {_reason(payload)}")
    return Realised(f"{inputs['functionName']}-{resource.name}", {"result": payload})


def _reason(payload: str) -> str:
    try:
        return str(json.loads(payload)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return payload[:500]


def _state_machine(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    client = site.client("stepfunctions")
    parameters = request(
        client,
        "create_state_machine",
        {**resource.inputs, "name": name},
        leave_out={"loggingConfiguration", "namePrefix", "tracingConfiguration", "encryptionConfiguration"},
    )
    arn = client.create_state_machine(**parameters)["stateMachineArn"]
    return Realised(arn, {"arn": arn, "name": name, "status": "ACTIVE"})


REALISERS: Mapping[str, Realiser] = {
    "aws:lambda/eventSourceMapping:EventSourceMapping": _mapping,
    "aws:lambda/function:Function": _function,
    "aws:lambda/invocation:Invocation": _invocation,
    "aws:lambda/permission:Permission": _permission,
    "aws:sfn/stateMachine:StateMachine": _state_machine,
}
