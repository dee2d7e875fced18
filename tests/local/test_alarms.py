"""Alarms as the emulator, and AWS, take them."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from local.realisers.models import alarm_request

BASE: dict[str, Any] = {"comparisonOperator": "GreaterThanThreshold", "evaluationPeriods": 1, "threshold": 0}


@pytest.fixture(scope="module")
def client() -> Any:
    return boto3.client(
        "cloudwatch", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


def test_an_alarm_on_one_metric(client: Any) -> None:
    inputs = {**BASE, "metricName": "Errors", "namespace": "AWS/Lambda", "dimensions": {"FunctionName": "f"}}
    made = alarm_request(client, "errors", inputs)
    assert (made["AlarmName"], made["MetricName"]) == ("errors", "Errors")
    assert made["Dimensions"] == [{"Name": "FunctionName", "Value": "f"}]
    assert "Metrics" not in made


def test_an_alarm_on_a_sum_of_metrics(client: Any) -> None:
    metric = {"metricName": "Failed", "namespace": "AWS/States", "dimensions": {"A": "b"}}
    queries = [
        {"id": "all", "expression": "FILL(failed, 0)", "returnData": True},
        {"id": "failed", "returnData": False, "metric": {**metric, "stat": "Sum", "period": 300}},
    ]
    total, one = alarm_request(client, "releases", {**BASE, "metricQueries": queries})["Metrics"]
    assert total == {"Id": "all", "Expression": "FILL(failed, 0)", "ReturnData": True}
    assert one == {
        "Id": "failed",
        "ReturnData": False,
        "MetricStat": {
            "Metric": {
                "MetricName": "Failed",
                "Namespace": "AWS/States",
                "Dimensions": [{"Name": "A", "Value": "b"}],
            },
            "Period": 300,
            "Stat": "Sum",
        },
    }
