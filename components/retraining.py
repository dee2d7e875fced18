"""New data becomes a training job: upload events → queue (one group a model) → start_training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from components import iam, names
from components.base import PlatformComponent
from components.functions import PythonFunction, PythonFunctionArgs

FUNCTION_TIMEOUT_S: Final = 120
# A throttled call counts as one receive, too: what AWS advises at the least, however few the attempts are.
_RECEIVES: Final = 5
_KEEP_MESSAGES_S: Final = 4 * 24 * 3600
_KEEP_DEAD_S: Final = 14 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class RetrainingArgs:
    """What a caller decides, and the things that the function works on."""

    stack: str
    region: str
    account_id: pulumi.Input[str]
    models: Sequence[str]
    batch_delay_s: int
    max_attempts: int
    drift_schedule: str
    key_arn: pulumi.Input[str]
    data_bucket: pulumi.Input[str]
    data_bucket_arn: pulumi.Input[str]
    artifact_bucket: pulumi.Input[str]
    artifact_bucket_arn: pulumi.Input[str]
    state_table: pulumi.Input[str]
    state_table_arn: pulumi.Input[str]
    training_role_arn: pulumi.Input[str]
    alarm_topic_arn: pulumi.Input[str]
    log_retention_days: int


class Retraining(PlatformComponent):
    """The queue, what fills it and what empties it; whatever cannot be handled ends in a watched queue."""

    TYPE = "trainserve:retraining:Retraining"
    queue_url: pulumi.Output[str]
    queue_arn: pulumi.Output[str]
    queue_names: dict[str, pulumi.Output[str]]
    function_name: pulumi.Output[str]
    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: RetrainingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        dead = self._dead_letters("dead", fifo=True)
        undelivered = self._dead_letters("undelivered", fifo=False)
        queue = aws.sqs.Queue(
            f"{name}-queue",
            fifo_queue=True,
            content_based_deduplication=True,
            delay_seconds=args.batch_delay_s,  # a burst of uploads becomes one data set
            visibility_timeout_seconds=6 * FUNCTION_TIMEOUT_S,
            message_retention_seconds=_KEEP_MESSAGES_S,
            sqs_managed_sse_enabled=True,
            redrive_policy=pulumi.Output.json_dumps(
                {"deadLetterTargetArn": dead.arn, "maxReceiveCount": max(_RECEIVES, args.max_attempts)},
                sort_keys=True,
            ),
            opts=self.child(),
        )
        function = self._function(queue)
        mapping = aws.lambda_.EventSourceMapping(
            f"{name}-from-queue",
            event_source_arn=queue.arn,
            function_name=function.arn,
            batch_size=10,
            function_response_types=["ReportBatchItemFailures"],
            opts=self.child(depends_on=function.ready),
        )
        uploads = self._uploads(queue, undelivered)
        self._drift_schedule()
        self.queue_url, self.queue_arn = queue.url, queue.arn
        self.queue_names = {"uploads": queue.name, "failed": dead.name, "undelivered": undelivered.name}
        self.function_name = function.function_name
        self.ready = [mapping, *uploads]
        self.finish("queue_url", "queue_arn")

    def _function(self, queue: aws.sqs.Queue) -> PythonFunction:
        args = self._args
        return PythonFunction(
            f"{self._name}-start-training",
            PythonFunctionArgs(
                package="start_training",
                region=args.region,
                memory_mb=256,
                timeout_s=FUNCTION_TIMEOUT_S,
                environment={
                    "STACK": args.stack,
                    "STATE_TABLE": args.state_table,
                    "ARTIFACT_BUCKET": args.artifact_bucket,
                    "CONFIG_PREFIX": names.CONFIG,
                },
                statements=start_training_statements(args, queue.arn),
                key_arn=args.key_arn,
                log_retention_days=args.log_retention_days,
            ),
            opts=self.child(),
        )

    def _dead_letters(self, label: str, *, fifo: bool) -> aws.sqs.Queue:
        queue = aws.sqs.Queue(
            f"{self._name}-{label}",
            fifo_queue=True if fifo else None,
            message_retention_seconds=_KEEP_DEAD_S,
            sqs_managed_sse_enabled=True,
            opts=self.child(),
        )
        queue_alarm(self, f"{self._name}-{label}-alarm", queue, self._args.alarm_topic_arn)
        return queue

    def _uploads(self, queue: aws.sqs.Queue, undelivered: aws.sqs.Queue) -> list[pulumi.Resource]:
        """New data to the queue, which takes it by then: an event that a queue refuses is lost."""
        rules = {model: self._uploads_rule(model) for model in self._args.models}
        allowed = self._allow_rules(queue, undelivered, [rule.arn for rule in rules.values()])
        targets = [
            aws.cloudwatch.EventTarget(
                f"{self._name}-uploads-{model}",
                rule=rule.name,
                arn=queue.arn,
                sqs_target={"message_group_id": model},
                dead_letter_config={"arn": undelivered.arn},
                opts=self.child(depends_on=allowed),
            )
            for model, rule in rules.items()
        ]
        return [*allowed, *targets]

    def _uploads_rule(self, model: str) -> aws.cloudwatch.EventRule:
        pattern = pulumi.Output.from_input(self._args.data_bucket).apply(
            lambda bucket: json.dumps(upload_pattern(bucket, model), sort_keys=True)
        )
        return aws.cloudwatch.EventRule(
            f"{self._name}-uploads-{model}",
            description=f"New data for {model}",
            event_pattern=pattern,
            opts=self.child(),
        )

    def _drift_schedule(self) -> None:
        """When drift is looked for: disabled and without a target until there is a function for it."""
        aws.cloudwatch.EventRule(
            f"{self._name}-drift",
            description="Compare what the models are asked with what they were trained on",
            schedule_expression=self._args.drift_schedule,
            state="DISABLED",
            opts=self.child(),
        )

    def _allow_rules(
        self, queue: aws.sqs.Queue, undelivered: aws.sqs.Queue, rule_arns: Sequence[pulumi.Output[str]]
    ) -> list[aws.sqs.QueuePolicy]:
        return [
            aws.sqs.QueuePolicy(
                f"{self._name}-{label}-policy",
                queue_url=target.url,
                policy=iam.rules_may_send(target.arn, rule_arns),
                opts=self.child(),
            )
            for label, target in (("queue", queue), ("undelivered", undelivered))
        ]


def queue_alarm(
    parent: PlatformComponent, name: str, queue: aws.sqs.Queue, topic_arn: pulumi.Input[str]
) -> aws.cloudwatch.MetricAlarm:
    """Tells people as soon as one message lies in a dead-letter queue."""
    return aws.cloudwatch.MetricAlarm(
        name,
        alarm_description="A message could not be handled: read it in the queue, then redrive or delete it",
        namespace="AWS/SQS",
        metric_name="ApproximateNumberOfMessagesVisible",
        dimensions={"QueueName": queue.name},
        statistic="Maximum",
        period=60,
        evaluation_periods=1,
        threshold=0,
        comparison_operator="GreaterThanThreshold",
        treat_missing_data="notBreaching",
        alarm_actions=[topic_arn],
        opts=parent.child(),
    )


def upload_pattern(bucket: str, model: str) -> dict[str, Any]:
    """Matches new objects of one model in one bucket; the bucket's name is this stack's alone."""
    return {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {
            "bucket": {"name": [bucket]},
            "object": {"key": [{"prefix": names.incoming(model)}]},
        },
    }


def jobs_arn(args_region: str, account_id: pulumi.Input[str], stack: str) -> pulumi.Output[str]:
    """Every training job of one stack and of no other."""
    return pulumi.Output.concat(
        f"arn:aws:sagemaker:{args_region}:", account_id, f":training-job/{names.job_prefix(stack)}*"
    )


def state_statement(table_arn: pulumi.Input[str], *, delete: bool) -> iam.Statement:
    """Reading and writing the loop's records (transactions are authorised by these actions)."""
    actions = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"]
    return iam.Statement(
        sid="UseState",
        actions=[*actions, "dynamodb:DeleteItem"] if delete else actions,
        resources=[table_arn],
    )


def start_training_statements(args: RetrainingArgs, queue_arn: pulumi.Input[str]) -> list[iam.Statement]:
    """What start_training may do, beside writing its log."""
    conditions: Mapping[str, Mapping[str, Any]] = {
        "StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}
    }
    return [
        iam.list_bucket("ListData", args.data_bucket_arn),
        iam.read_objects("ReadData", args.data_bucket_arn, names.INCOMING, names.OBJECTS),
        iam.write_objects("KeepData", args.data_bucket_arn, names.OBJECTS),
        iam.list_bucket("ListArtifacts", args.artifact_bucket_arn),
        iam.read_objects("ReadArtifacts", args.artifact_bucket_arn, names.CONFIG, names.DATASETS),
        iam.write_objects("WriteManifests", args.artifact_bucket_arn, names.DATASETS),
        state_statement(args.state_table_arn, delete=False),
        iam.Statement(
            sid="FindJobs",
            actions=["sagemaker:ListTrainingJobs"],
            resources=["*"],  # no resource level
        ),
        iam.Statement(
            sid="StartJobs",
            actions=["sagemaker:AddTags", "sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob"],
            resources=[jobs_arn(args.region, args.account_id, args.stack)],
        ),
        iam.Statement(
            sid="PassTrainingRole",
            actions=["iam:PassRole"],
            resources=[args.training_role_arn],
            conditions=conditions,
        ),
        iam.Statement(
            sid="TakeMessages",
            actions=[
                "sqs:ChangeMessageVisibility",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ReceiveMessage",
            ],
            resources=[queue_arn],
        ),
    ]
