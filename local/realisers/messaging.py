"""SQS queues, EventBridge rules and targets, SNS topics, DynamoDB tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.realisers.base import Realised, Realiser, Resource, Site
from local.realisers.convert import request

if TYPE_CHECKING:
    from collections.abc import Mapping

# Pulumi's input → SQS' attribute.
_QUEUE_ATTRIBUTES = {
    "contentBasedDeduplication": "ContentBasedDeduplication",
    "deduplicationScope": "DeduplicationScope",
    "delaySeconds": "DelaySeconds",
    "fifoQueue": "FifoQueue",
    "fifoThroughputLimit": "FifoThroughputLimit",
    "kmsDataKeyReusePeriodSeconds": "KmsDataKeyReusePeriodSeconds",
    "kmsMasterKeyId": "KmsMasterKeyId",
    "maxMessageSize": "MaximumMessageSize",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "policy": "Policy",
    "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
    "redriveAllowPolicy": "RedriveAllowPolicy",
    "redrivePolicy": "RedrivePolicy",
    "sqsManagedSseEnabled": "SqsManagedSseEnabled",
    "visibilityTimeoutSeconds": "VisibilityTimeout",
}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _queue(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    attributes = {
        attribute: _text(resource.inputs[key])
        for key, attribute in _QUEUE_ATTRIBUTES.items()
        if resource.inputs.get(key) not in (None, False, "")
    }
    url = site.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return Realised(url, {"url": url, "arn": site.plausible.arn(resource, name), "name": name})


def _queue_attribute(attribute: str, key: str) -> Realiser:
    def realise(site: Site, resource: Resource) -> Realised:
        url = resource.inputs["queueUrl"]
        site.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={attribute: resource.inputs[key]})
        return Realised(url, {})

    return realise


def _rule(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    inputs: dict[str, Any] = {**resource.inputs, "name": name}
    if "isEnabled" in inputs:
        inputs["state"] = "ENABLED" if inputs.pop("isEnabled") else "DISABLED"
    events = site.client("events")
    parameters = request(events, "put_rule", inputs, leave_out={"forceDestroy", "namePrefix"})
    arn = events.put_rule(**parameters)["RuleArn"]
    return Realised(name, {"arn": arn, "name": name})


def _target(site: Site, resource: Resource) -> Realised:
    inputs = resource.inputs
    events = site.client("events")
    target = {
        {"targetId": "id", "sqsTarget": "sqsParameters"}.get(key, key): value
        for key, value in inputs.items()
        if key not in {"rule", "eventBusName", "forceDestroy", "region"}
    }
    if transformer := target.get("inputTransformer"):
        paths = transformer.get("inputPaths") or {}
        target["inputTransformer"] = {
            "inputPathsMap": paths,
            "inputTemplate": transformer["inputTemplate"],
        }
    target.setdefault("id", site.name(resource))
    parameters = request(events, "put_targets", {"rule": inputs["rule"], "targets": [target]})
    events.put_targets(**parameters)
    return Realised(f"{inputs['rule']}-{target['id']}", {"targetId": target["id"]})


def _topic(site: Site, resource: Resource) -> Realised:
    name = site.name(resource)
    arn = site.client("sns").create_topic(Name=name)["TopicArn"]
    return Realised(arn, {"arn": arn, "name": name})


def _table(site: Site, resource: Resource) -> Realised:
    name, inputs = site.name(resource), resource.inputs
    keys = [{"AttributeName": inputs["hashKey"], "KeyType": "HASH"}]
    if inputs.get("rangeKey"):
        keys.append({"AttributeName": inputs["rangeKey"], "KeyType": "RANGE"})
    table = site.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=keys,
        AttributeDefinitions=[
            {"AttributeName": item["name"], "AttributeType": item["type"]} for item in inputs["attributes"]
        ],
    )["TableDescription"]
    return Realised(name, {"arn": table["TableArn"], "name": name})


REALISERS: Mapping[str, Realiser] = {
    "aws:cloudwatch/eventRule:EventRule": _rule,
    "aws:cloudwatch/eventTarget:EventTarget": _target,
    "aws:dynamodb/table:Table": _table,
    "aws:sns/topic:Topic": _topic,
    "aws:sqs/queue:Queue": _queue,
    "aws:sqs/queuePolicy:QueuePolicy": _queue_attribute("Policy", "policy"),
    "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy": _queue_attribute(
        "RedriveAllowPolicy", "redriveAllowPolicy"
    ),
    "aws:sqs/redrivePolicy:RedrivePolicy": _queue_attribute("RedrivePolicy", "redrivePolicy"),
}
