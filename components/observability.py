"""What is watched in CloudWatch: log groups, events worth keeping, alarms and one dashboard.

Only metrics that exist are used. The load balancer controller makes the ALB, and AWS ends its name in random
digits: it is known after the first `up` only. Until `observability.loadBalancer` names it, two alarms look at
the 5xx of every ALB of the region. The share of errors and p95 are watched by Prometheus alone until then,
and its alerts reach the same people. A look-up of the name has no answer before the controller made the ALB.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from components import iam, names
from components.base import PlatformComponent
from components.dashboard import DashboardFacts, dashboard
from components.operations_settings import Observability as Settings

INSIGHTS: Final = "ContainerInsights"
_INSIGHTS_GROUPS: Final = ("application", "dataplane", "host", "performance")
UNDONE: Final = '{ $.step = "finish" && ($.result.outcome = "rolled_back" || $.result.outcome = "refused") }'
"""What the release function logs at the end of a release that puts nothing in service."""

_ERRORS: Final = {
    "errors": ("The models' pods", "HTTPCode_Target_5XX_Count"),
    "refusals": ("A load balancer itself, for want of a pod,", "HTTPCode_ELB_5XX_Count"),
}
_ERROR_MINUTES: Final = 3
_MINUTE: Final = 60
_HOUR: Final = 3600


@dataclass(frozen=True, kw_only=True)
class ObservabilityArgs:
    """What a caller decides, and the things that are watched."""

    stack: str
    region: str
    account_id: pulumi.Input[str]
    settings: Settings
    models: Sequence[str]
    cluster_name: str
    queues: Mapping[str, pulumi.Input[str]]
    functions: Mapping[str, pulumi.Input[str]]
    state_machine_arn: pulumi.Input[str]
    release_log_group: pulumi.Input[str]
    build_project: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    topic_arn: pulumi.Input[str]
    log_retention_days: int


class Observability(PlatformComponent):
    """Log groups with an end, the events that explain an incident, alarms, and a dashboard of all of it."""

    TYPE = "trainserve:observability:Observability"
    log_groups: list[pulumi.Resource]

    def __init__(
        self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        # The CloudWatch add-on would make these itself, without an end and without our key.
        self.log_groups = [
            self._log_group(f"insights-{kind}", f"/aws/containerinsights/{args.cluster_name}/{kind}")
            for kind in _INSIGHTS_GROUPS
        ]
        rules = self._kept_events()
        alarms = [
            *self._load_balancer_alarms(),
            *(self._rule_alarm(label, rule) for label, rule in rules.items()),
            *(self._drift_alarm(model) for model in args.models),
            self._pending_alarm(),
            self._release_alarm(),
            self._refusal_alarm(),
            self._build_alarm(),
        ]
        self._dashboard(alarms)
        self.finish()

    def _log_group(self, label: str, physical: str) -> aws.cloudwatch.LogGroup:
        return aws.cloudwatch.LogGroup(
            f"{self._name}-{label}",
            name=physical,
            retention_in_days=self._args.log_retention_days,
            kms_key_id=self._args.key_arn,
            opts=self.child(),
        )

    def _kept_events(self) -> dict[str, aws.cloudwatch.EventRule]:
        """Events that explain an incident, kept as log lines; alarms count how often the rules fired."""
        args = self._args
        kept = self._log_group("events", f"/aws/events/{args.cluster_name}")
        rules = {
            label: aws.cloudwatch.EventRule(
                f"{self._name}-{label}",
                description=description,
                event_pattern=json.dumps(pattern, sort_keys=True),
                opts=self.child(),
            )
            for label, (description, pattern) in event_patterns(args.stack).items()
        }
        allowed = aws.cloudwatch.LogResourcePolicy(
            f"{self._name}-events",
            policy_name=f"{args.cluster_name}-events",
            policy_document=iam.document(*keep_events(kept.arn, [rule.arn for rule in rules.values()])),
            opts=self.child(),
        )
        for label, rule in rules.items():
            aws.cloudwatch.EventTarget(
                f"{self._name}-{label}", rule=rule.name, arn=kept.arn, opts=self.child(depends_on=[allowed])
            )
        return rules

    def _rule_alarm(self, label: str, rule: aws.cloudwatch.EventRule) -> aws.cloudwatch.MetricAlarm:
        failures = label == "failed-jobs"
        return self._alarm(
            label,
            "A training job failed: its reason stands in the job, and refused files in the state table"
            if failures
            else "Spot nodes are taken away often: spread over more instance families, or use on-demand",
            namespace="AWS/Events",
            metric_name="TriggeredRules",
            dimensions={"RuleName": rule.name},
            statistic="Sum",
            period=5 * _MINUTE if failures else _HOUR,
            threshold=0 if failures else self._args.settings.spot_interruptions_per_hour,
        )

    def _load_balancer_alarms(self) -> list[aws.cloudwatch.MetricAlarm]:
        named = self._args.settings.load_balancer
        if named is None:
            return [
                self._alarm(
                    label,
                    f"{whose} answered with 5xx for {_ERROR_MINUTES} minutes on end",
                    threshold=0,
                    evaluation_periods=_ERROR_MINUTES,
                    metric_queries=[every_balancer(metric)],
                )
                for label, (whose, metric) in _ERRORS.items()
            ]
        return self._named_balancer_alarms(named)

    def _named_balancer_alarms(self, named: str) -> list[aws.cloudwatch.MetricAlarm]:
        settings = self._args.settings
        errors = self._alarm(
            "errors",
            f"More than {settings.error_rate_percent:g} % of the requests end in a 5xx",
            threshold=settings.error_rate_percent,
            evaluation_periods=_ERROR_MINUTES,
            metric_queries=error_rate(named),
        )
        slow = self._alarm(
            "latency",
            f"The 95th percentile is above {settings.latency_p95_ms:g} ms",
            namespace="AWS/ApplicationELB",
            metric_name="TargetResponseTime",
            dimensions={"LoadBalancer": named},
            extended_statistic="p95",
            period=_MINUTE,
            evaluation_periods=5,
            threshold=settings.latency_p95_ms / 1000,
        )
        return [errors, slow]

    def _drift_alarm(self, model: str) -> aws.cloudwatch.MetricAlarm:
        return self._alarm(
            f"drift-{model}",
            f"What {model} is asked no longer looks like what it was trained on (PSI)",
            namespace=names.METRICS,
            metric_name="DriftPsi",
            dimensions={"Stack": self._args.stack, "Model": model},
            statistic="Maximum",
            period=_HOUR,
            threshold=self._args.settings.drift_psi,
        )

    def _pending_alarm(self) -> aws.cloudwatch.MetricAlarm:
        minutes = self._args.settings.pending_minutes
        return self._alarm(
            "pending",
            f"Pods found no node for {minutes} minutes: limits of the node pools, quotas, or capacity",
            namespace=INSIGHTS,
            metric_name="pod_status_pending",
            dimensions={"ClusterName": self._args.cluster_name},
            # Every pod says 0 or 1 each minute: their least would be 0 for as long as one of them runs.
            statistic="Maximum",
            period=_MINUTE,
            evaluation_periods=minutes,
            threshold=0,
        )

    def _release_alarm(self) -> aws.cloudwatch.MetricAlarm:
        return self._alarm(
            "releases",
            "A release failed, took too long or was stopped: its record in the state table says where",
            threshold=0,
            metric_queries=unfinished_releases(self._args.state_machine_arn),
        )

    def _refusal_alarm(self) -> aws.cloudwatch.MetricAlarm:
        """An execution that rolls back, or refuses a bundle, has done its work: only its log tells."""
        stack, metric = self._args.stack, "ReleasesUndone"
        aws.cloudwatch.LogMetricFilter(
            f"{self._name}-undone",
            log_group_name=self._args.release_log_group,
            pattern=UNDONE,
            metric_transformation={
                "name": metric,
                "namespace": names.stack_metrics(stack),
                "value": "1",
                "unit": "Count",
            },
            opts=self.child(),
        )
        return self._alarm(
            "undone",
            "A new model was rolled back, or its bundle refused: its record in the state table says why",
            namespace=names.stack_metrics(stack),
            metric_name=metric,
            statistic="Sum",
            period=5 * _MINUTE,
            threshold=0,
        )

    def _build_alarm(self) -> aws.cloudwatch.MetricAlarm:
        return self._alarm(
            "builds",
            "The serving image could not be built: pods of new sources wait for it; see the build's log",
            namespace="AWS/CodeBuild",
            metric_name="FailedBuilds",
            dimensions={"ProjectName": self._args.build_project},
            statistic="Sum",
            period=5 * _MINUTE,
            threshold=0,
        )

    def _alarm(
        self,
        label: str,
        description: str,
        *,
        threshold: float,
        evaluation_periods: int = 1,
        **metric: Any,  # noqa: ANN401  # which metric: the SDK's own arguments
    ) -> aws.cloudwatch.MetricAlarm:
        return aws.cloudwatch.MetricAlarm(
            f"{self._name}-{label}",
            alarm_description=description,
            comparison_operator="GreaterThanThreshold",
            evaluation_periods=evaluation_periods,
            threshold=threshold,
            treat_missing_data="notBreaching",
            alarm_actions=[self._args.topic_arn],
            ok_actions=[self._args.topic_arn],
            opts=self.child(),
            **metric,
        )

    def _dashboard(self, alarms: Sequence[aws.cloudwatch.MetricAlarm]) -> None:
        args = self._args
        facts = DashboardFacts(
            stack=args.stack,
            region=args.region,
            models=args.models,
            cluster_name=args.cluster_name,
            load_balancer=args.settings.load_balancer,
            queues=args.queues,
            functions=args.functions,
            state_machine_arn=args.state_machine_arn,
            build_project=args.build_project,
            alarm_arns=[alarm.arn for alarm in alarms],
        )
        aws.cloudwatch.Dashboard(
            f"{self._name}-dashboard",
            dashboard_name=args.cluster_name,
            dashboard_body=pulumi.Output.json_dumps(dashboard(facts), sort_keys=True),
            opts=self.child(),
        )


def event_patterns(stack: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """The events that are kept; a spot warning names an instance only, so it is the whole account's."""
    return {
        "failed-jobs": (
            "A training job of this stack failed",
            {
                "source": ["aws.sagemaker"],
                "detail-type": ["SageMaker Training Job State Change"],
                "detail": {
                    "TrainingJobName": [{"prefix": names.job_prefix(stack)}],
                    "TrainingJobStatus": ["Failed"],
                },
            },
        ),
        "spot-warnings": (
            "A spot instance goes in two minutes",
            {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]},
        ),
    }


def keep_events(
    log_group_arn: pulumi.Input[str], rule_arns: Sequence[pulumi.Input[str]]
) -> list[iam.Statement]:
    """What EventBridge needs to write to a log group: events of these rules only."""
    services = {"Service": ["events.amazonaws.com", "delivery.logs.amazonaws.com"]}
    streams = [pulumi.Output.concat(log_group_arn, ":*")]
    return [
        iam.Statement(sid="Streams", principal=services, actions=["logs:CreateLogStream"], resources=streams),
        iam.Statement(
            sid="Events",
            principal=services,
            actions=["logs:PutLogEvents"],
            resources=streams,
            conditions={"ArnEquals": {"aws:SourceArn": list(rule_arns)}},
        ),
    ]


def unfinished_releases(state_machine_arn: pulumi.Input[str]) -> list[Any]:
    """Executions that ended in any other way than by their last state, in five minutes."""
    ends = {"failed": "ExecutionsFailed", "late": "ExecutionsTimedOut", "stopped": "ExecutionsAborted"}
    counts = [
        {
            "id": label,
            "return_data": False,
            "metric": {
                "namespace": "AWS/States",
                "metric_name": metric,
                "dimensions": {"StateMachineArn": state_machine_arn},
                "stat": "Sum",
                "period": 5 * _MINUTE,
            },
        }
        for label, metric in ends.items()
    ]
    total = " + ".join(f"FILL({label}, 0)" for label in ends)
    return [{"id": "all", "label": "Unfinished releases", "expression": total, "return_data": True}, *counts]


def every_balancer(metric: str) -> Any:  # noqa: ANN401  # the SDK's own dictionary
    """A count over every ALB of the region: an alarm has room for one, so for no share of two counts."""
    return {
        "id": "all",
        "expression": f'SELECT SUM({metric}) FROM SCHEMA("AWS/ApplicationELB", LoadBalancer)',  # noqa: S608  # CloudWatch's
        "period": _MINUTE,
        "return_data": True,
    }


def error_rate(load_balancer: str) -> list[Any]:
    """Percent of 5xx, the load balancer's own included."""
    counts = {**{label: metric for label, (_, metric) in _ERRORS.items()}, "all": "RequestCount"}
    sources = [
        {
            "id": label,
            "return_data": False,
            "metric": {
                "namespace": "AWS/ApplicationELB",
                "metric_name": metric,
                "dimensions": {"LoadBalancer": load_balancer},
                "stat": "Sum",
                "period": _MINUTE,
            },
        }
        for label, metric in counts.items()
    ]
    failed = " + ".join(f"FILL({label}, 0)" for label in _ERRORS)
    rate = f"IF(FILL(all, 0) > 0, 100 * ({failed}) / all, 0)"
    return [{"id": "rate", "label": "5xx, percent", "expression": rate, "return_data": True}, *sources]
