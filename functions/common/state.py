"""The state table: records of a model, every write conditional on what was read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

from common import names
from common.aws import Client, error_code
from common.errors import Conflict

# What a record can hold: what JSON can.
Value: TypeAlias = Any


@dataclass(frozen=True)
class Item:
    """A record: its name, its data and its revision when read (0: it must not exist yet)."""

    record: str
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rev: int = 0

    def change(self, **changes: object) -> "Item":
        """Return this record with other data, to be written over this revision."""
        return replace(self, data={**self.data, **changes})


class StateTable:
    """A DynamoDB table with keys `model` and `record`."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, model: str, record: str) -> Item | None:
        """Return the newest state of a record."""
        key = {"model": {"S": model}, "record": {"S": record}}
        found = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return _item(found) if found else None

    def load(self, model: str, record: str) -> Item:
        """Return a record, or an empty one that is still to be made."""
        return self.get(model, record) or Item(record)

    def query(self, model: str, prefix: str) -> list[Item]:
        """Return the records whose names begin with `prefix`, in order."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="#m = :m AND begins_with(#r, :r)",
            ExpressionAttributeNames={"#m": "model", "#r": "record"},
            ExpressionAttributeValues={":m": {"S": model}, ":r": {"S": prefix}},
            ConsistentRead=True,
        )
        return [_item(found) for page in pages for found in page["Items"]]

    def write(self, model: str, *items: Item) -> tuple[Item, ...]:
        """Write records, all or none; raises Conflict where one is no longer as it was read."""
        puts = [self._put(model, item) for item in items]
        try:
            if len(puts) == 1:
                self._client.put_item(**puts[0])
            else:
                self._client.transact_write_items(TransactItems=[{"Put": put} for put in puts])
        except self._client.exceptions.ClientError as error:
            _raise_conflict(error, ", ".join(item.record for item in items))
            raise
        return tuple(replace(item, rev=item.rev + 1) for item in items)

    def delete(self, model: str, item: Item) -> None:
        """Delete a record, unless it changed since it was read."""
        try:
            self._client.delete_item(
                TableName=self._table,
                Key={"model": {"S": model}, "record": {"S": item.record}},
                **_condition(item.rev),
            )
        except self._client.exceptions.ClientError as error:
            _raise_conflict(error, item.record)
            raise

    def _put(self, model: str, item: Item) -> dict[str, Any]:
        attributes = {name: _encode(value) for name, value in item.data.items()}
        attributes |= {"model": {"S": model}, "record": {"S": item.record}, "rev": {"N": str(item.rev + 1)}}
        return {"TableName": self._table, "Item": attributes, **_condition(item.rev)}


def lease_holder(item: Item | None, now: float) -> str | None:
    """Return who holds a model's lease at `now` (seconds since the epoch)."""
    if item is None or item.record != names.LEASE or float(item.data.get("expires", 0)) <= now:
        return None
    return str(item.data["owner"])


def _condition(rev: int) -> dict[str, Any]:
    if rev == 0:
        return {
            "ConditionExpression": "attribute_not_exists(#r)",
            "ExpressionAttributeNames": {"#r": "record"},
        }
    return {
        "ConditionExpression": "#v = :v",
        "ExpressionAttributeNames": {"#v": "rev"},
        "ExpressionAttributeValues": {":v": {"N": str(rev)}},
    }


def _raise_conflict(error: Exception, records: str) -> None:
    code = error_code(error)
    response: dict[str, Any] = getattr(error, "response", {})
    reasons = {reason.get("Code") for reason in response.get("CancellationReasons", [])}
    conflicts = {"ConditionalCheckFailed", "TransactionConflict"}
    if code in {"ConditionalCheckFailedException", "TransactionConflictException"} or reasons & conflicts:
        raise Conflict(f"changed since it was read: {records}") from error


def _item(found: Mapping[str, Any]) -> Item:
    data = {name: _decode(value) for name, value in found.items() if name not in {"model", "record", "rev"}}
    return Item(found["record"]["S"], data, int(found["rev"]["N"]))


def _encode(value: object) -> dict[str, Any]:
    match value:
        case None:
            encoded: tuple[str, Value] = ("NULL", True)
        case bool():
            encoded = ("BOOL", value)
        case int():
            encoded = ("N", str(value))
        case float():
            # DynamoDB's numbers are finite; a metric that is not must still be recorded.
            encoded = ("N", repr(value)) if math.isfinite(value) else ("S", str(value))
        case str():
            encoded = ("S", value)
        case Mapping():
            items = cast("Mapping[str, Value]", value).items()
            encoded = ("M", {str(name): _encode(item) for name, item in items})
        case list() | tuple():
            encoded = ("L", [_encode(item) for item in cast("list[Value]", value)])
        case _:
            raise TypeError(f"cannot be recorded: {value!r:.80}")
    return dict([encoded])


def _decode(value: Mapping[str, Any]) -> Value:
    kind, content = next(iter(value.items()))
    match kind:
        case "NULL":
            return None
        case "N":
            return float(content) if set(content) & {".", "e", "E"} else int(content)
        case "M":
            return {name: _decode(item) for name, item in content.items()}
        case "L":
            return [_decode(item) for item in content]
        case _:
            return content
