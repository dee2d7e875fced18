"""Where alarms go."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.base import PlatformComponent


@dataclass(frozen=True, kw_only=True)
class AlertsArgs:
    """Who is told."""

    key_arn: pulumi.Input[str]
    email: str | None


class Alerts(PlatformComponent):
    """The topic of every alarm, and one person or list that reads it."""

    TYPE = "trainserve:observability:Alerts"
    topic_arn: pulumi.Output[str]

    def __init__(self, name: str, args: AlertsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        topic = aws.sns.Topic(f"{name}-topic", kms_master_key_id=args.key_arn, opts=self.child())
        if args.email is not None:
            aws.sns.TopicSubscription(
                f"{name}-email", topic=topic.arn, protocol="email", endpoint=args.email, opts=self.child()
            )
        self.topic_arn = topic.arn
        self.finish("topic_arn")
