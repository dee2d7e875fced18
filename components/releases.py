"""A finished job or build becomes a release: events → state machine → release_model, step by step."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from components import iam, names, teardown
from components.archives import ROOT
from components.base import PlatformComponent
from components.functions import PythonFunction, PythonFunctionArgs
from components.package_groups import packages_arn
from components.registry import push_images, registry_login
from components.retraining import jobs_arn, queue_alarm, state_statement

PLACEHOLDER: Final = "${ReleaseFunctionArn}"
_KEEP_DEAD_S: Final = 14 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class ReleasesArgs:
    """The things that a release reads, writes and changes."""

    stack: str
    region: str
    account_id: pulumi.Input[str]
    vpc_id: pulumi.Input[str]
    subnet_ids: Sequence[pulumi.Input[str]]
    key_arn: pulumi.Input[str]
    artifact_bucket: pulumi.Input[str]
    artifact_bucket_arn: pulumi.Input[str]
    state_table: pulumi.Input[str]
    state_table_arn: pulumi.Input[str]
    repository_arn: pulumi.Input[str]
    project_name: pulumi.Input[str]
    package_group_arns: Mapping[str, pulumi.Input[str]]
    queue_arn: pulumi.Input[str]
    alarm_topic_arn: pulumi.Input[str]
    log_retention_days: int
    order: teardown.Order


class Releases(PlatformComponent):
    """The release function in the VPC, the state machine that calls it, and the rules that start that."""

    TYPE = "trainserve:releases:Releases"
    state_machine_arn: pulumi.Output[str]
    function_role_arn: pulumi.Output[str]
    function_name: pulumi.Output[str]
    function_log_group: pulumi.Output[str]
    security_group_id: pulumi.Output[str]
    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: ReleasesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        group = aws.ec2.SecurityGroup(
            f"{name}-function",
            description="The release function: reaches out over HTTPS, and nothing reaches it",
            vpc_id=args.vpc_id,
            opts=self.child(),
        )
        egress = aws.vpc.SecurityGroupEgressRule(
            f"{name}-function-https",
            security_group_id=group.id,
            description="AWS APIs, the registry and the cluster",
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            cidr_ipv4="0.0.0.0/0",
            opts=self.child(),
        )
        function = self._function(group)
        machine, machine_policy = self._machine(function)
        targets = self._rules(machine)
        self.state_machine_arn = machine.arn
        self.function_role_arn = function.role_arn
        self.function_name = function.function_name
        self.function_log_group = function.log_group
        self.security_group_id = group.id
        self.ready = [*function.ready, egress, machine, machine_policy, *targets]
        self.finish("state_machine_arn", "function_role_arn", "security_group_id")

    def _function(self, group: aws.ec2.SecurityGroup) -> PythonFunction:
        args = self._args
        return PythonFunction(
            f"{self._name}-release-model",
            PythonFunctionArgs(
                package="release_model",
                region=args.region,
                memory_mb=1024,
                timeout_s=120,
                temporary_mb=2048,
                environment={
                    "STACK": args.stack,
                    "STATE_TABLE": args.state_table,
                    "ARTIFACT_BUCKET": args.artifact_bucket,
                    "CONFIG_PREFIX": names.CONFIG,
                },
                statements=release_statements(args),
                key_arn=args.key_arn,
                log_retention_days=args.log_retention_days,
                subnet_ids=args.subnet_ids,
                security_group_ids=[group.id],
                after=args.order.before(teardown.RELEASES),
            ),
            opts=self.child(),
        )

    def _machine(self, function: PythonFunction) -> tuple[aws.sfn.StateMachine, aws.iam.RolePolicy]:
        logs = aws.cloudwatch.LogGroup(
            f"{self._name}-machine-logs",
            # Under this prefix Step Functions need not edit the account's log policy for every machine.
            name_prefix="/aws/vendedlogs/states/trainserve-",
            retention_in_days=self._args.log_retention_days,
            kms_key_id=self._args.key_arn,
            opts=self.child(),
        )
        role = aws.iam.Role(
            f"{self._name}-machine-role",
            assume_role_policy=iam.assume_role("states", self._args.account_id),
            opts=self.child(),
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-machine-policy",
            role=role.id,
            policy=iam.document(
                iam.Statement(
                    sid="Step",
                    actions=["lambda:InvokeFunction"],
                    resources=[function.arn, pulumi.Output.concat(function.arn, ":*")],
                ),
                iam.deliver_logs("WriteLogs"),
                iam.send_traces("Traces"),
            ),
            opts=self.child(),
        )
        machine = aws.sfn.StateMachine(
            f"{self._name}-machine",
            role_arn=role.arn,
            definition=function.arn.apply(definition),
            # Errors only: a step's input and output are in the release's record already.
            logging_configuration={
                "level": "ERROR",
                "include_execution_data": False,
                "log_destination": pulumi.Output.concat(logs.arn, ":*"),
            },
            tracing_configuration={"enabled": True},
            opts=self.child(depends_on=[policy]),
        )
        return machine, policy

    def _rules(self, machine: aws.sfn.StateMachine) -> list[pulumi.Resource]:
        """The rules, their right to start executions, and a queue for events that found no machine."""
        name, args = self._name, self._args
        undelivered = aws.sqs.Queue(
            f"{name}-undelivered",
            message_retention_seconds=_KEEP_DEAD_S,
            sqs_managed_sse_enabled=True,
            opts=self.child(),
        )
        queue_alarm(self, f"{name}-undelivered-alarm", undelivered, args.alarm_topic_arn)
        role, policy = self._rules_role(machine)
        builds = pulumi.Output.from_input(args.project_name).apply(
            lambda project: json.dumps(build_pattern(project), sort_keys=True)
        )
        patterns: dict[str, tuple[str, pulumi.Input[str]]] = {
            "jobs": ("A training job ended", json.dumps(job_pattern(args.stack), sort_keys=True)),
            "builds": ("A serving image was built", builds),
        }
        rules = {
            label: aws.cloudwatch.EventRule(
                f"{name}-{label}", description=description, event_pattern=pattern, opts=self.child()
            )
            for label, (description, pattern) in patterns.items()
        }
        allowed = aws.sqs.QueuePolicy(
            f"{name}-undelivered-policy",
            queue_url=undelivered.url,
            policy=iam.rules_may_send(undelivered.arn, [rule.arn for rule in rules.values()]),
            opts=self.child(),
        )
        ready: list[pulumi.Resource] = [policy]
        ready += [
            aws.cloudwatch.EventTarget(
                f"{name}-{label}",
                rule=rule.name,
                arn=machine.arn,
                role_arn=role.arn,
                dead_letter_config={"arn": undelivered.arn},
                opts=self.child(depends_on=[policy, allowed]),
            )
            for label, rule in rules.items()
        ]
        return ready

    def _rules_role(self, machine: aws.sfn.StateMachine) -> tuple[aws.iam.Role, aws.iam.RolePolicy]:
        role = aws.iam.Role(
            f"{self._name}-rules-role",
            assume_role_policy=iam.assume_role("events", self._args.account_id),
            opts=self.child(),
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-rules-policy",
            role=role.id,
            policy=iam.document(
                iam.Statement(sid="Start", actions=["states:StartExecution"], resources=[machine.arn])
            ),
            opts=self.child(),
        )
        return role, policy


def definition(function_arn: str, root: Path = ROOT) -> str:
    """The state machine's definition, calling this function."""
    text = (root / "functions" / "release_model" / "state_machine.asl.json").read_text(encoding="utf-8")
    if PLACEHOLDER not in text:
        raise ValueError(f"state_machine.asl.json calls no {PLACEHOLDER}")
    return json.dumps(json.loads(text.replace(PLACEHOLDER, function_arn)), sort_keys=True)


def job_pattern(stack: str) -> dict[str, Any]:
    """Matches the end of this stack's training jobs only: another stack's name never has this prefix."""
    return {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Training Job State Change"],
        "detail": {
            "TrainingJobName": [{"prefix": names.job_prefix(stack)}],
            "TrainingJobStatus": ["Completed", "Failed", "Stopped"],
        },
    }


def build_pattern(project: str) -> dict[str, Any]:
    """Matches successful builds of this stack's project."""
    return {
        "source": ["aws.codebuild"],
        "detail-type": ["CodeBuild Build State Change"],
        "detail": {"project-name": [project], "build-status": ["SUCCEEDED"]},
    }


def release_statements(args: ReleasesArgs) -> list[iam.Statement]:
    """What release_model may do on AWS, beside writing its log; in the cluster it may what its Role says."""
    account, region = args.account_id, args.region
    groups = list(args.package_group_arns.values())
    packages = [packages_arn(region, account, args.stack, model) for model in args.package_group_arns]
    return [
        iam.list_bucket("ListArtifacts", args.artifact_bucket_arn),
        iam.read_objects(
            "ReadArtifacts", args.artifact_bucket_arn, names.CONFIG, names.DATASETS, names.TRAINING_OUTPUT
        ),
        state_statement(args.state_table_arn, delete=True),
        iam.Statement(
            sid="ReadJobs",
            actions=["sagemaker:DescribeTrainingJob"],
            resources=[jobs_arn(region, account, args.stack)],
        ),
        iam.Statement(
            sid="RegisterPackages",
            actions=[
                "sagemaker:CreateModelPackage",
                "sagemaker:DescribeModelPackage",
                "sagemaker:ListModelPackages",
                "sagemaker:UpdateModelPackage",
            ],
            resources=[*groups, *packages],
        ),
        registry_login(),
        push_images("PushImages", args.repository_arn),
        iam.Statement(
            sid="FindCluster",
            actions=["eks:DescribeCluster"],
            resources=[
                pulumi.Output.concat(
                    f"arn:aws:eks:{region}:", account, f":cluster/{names.cluster_name(args.stack)}"
                )
            ],
        ),
        iam.Statement(sid="AskForTraining", actions=["sqs:SendMessage"], resources=[args.queue_arn]),
    ]
