"""Where alarms go, and how much the environment may cost before people are told."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components import iam
from components.base import PlatformComponent


@dataclass(frozen=True, kw_only=True)
class AlertsArgs:
    """Who is told, and from which month's cost on."""

    stack: str
    account_id: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    email: str | None
    monthly_budget_usd: int


class Alerts(PlatformComponent):
    """The topic of every alarm, one person or list that reads it, and the environment's budget."""

    TYPE = "trainserve:observability:Alerts"
    topic_arn: pulumi.Output[str]

    def __init__(self, name: str, args: AlertsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        topic = aws.sns.Topic(f"{name}-topic", kms_master_key_id=args.key_arn, opts=self.child())
        policy = aws.sns.TopicPolicy(
            f"{name}-topic-policy",
            arn=topic.arn,
            policy=topic_policy(topic.arn, args.account_id),
            opts=self.child(),
        )
        if args.email is not None:
            aws.sns.TopicSubscription(
                f"{name}-email", topic=topic.arn, protocol="email", endpoint=args.email, opts=self.child()
            )
        self._budget(name, args, topic, policy)
        self.topic_arn = topic.arn
        self.finish("topic_arn")

    def _budget(self, name: str, args: AlertsArgs, topic: aws.sns.Topic, policy: aws.sns.TopicPolicy) -> None:
        """What is tagged with this environment; the tag must be activated once for cost allocation."""
        aws.budgets.Budget(
            f"{name}-budget",
            budget_type="COST",
            limit_amount=str(args.monthly_budget_usd),
            limit_unit="USD",
            time_unit="MONTHLY",
            cost_filters=[{"name": "TagKeyValue", "values": [f"user:Environment${args.stack}"]}],
            notifications=[
                {
                    "notification_type": kind,
                    "comparison_operator": "GREATER_THAN",
                    "threshold": percent,
                    "threshold_type": "PERCENTAGE",
                    "subscriber_sns_topic_arns": [topic.arn],
                }
                for kind, percent in (("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100))
            ],
            opts=self.child(depends_on=[policy]),
        )


def topic_policy(topic_arn: pulumi.Input[str], account_id: pulumi.Input[str]) -> pulumi.Output[str]:
    """Alarms and budgets of this account publish, and nobody else does."""
    return iam.document(
        *(
            iam.Statement(
                sid=sid,
                principal={"Service": f"{service}.amazonaws.com"},
                actions=["sns:Publish"],
                resources=[topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": account_id}},
            )
            for sid, service in (("Alarms", "cloudwatch"), ("Budgets", "budgets"))
        )
    )
