"""A Lambda function with everything it needs and nothing else: role, log group, deterministic archive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_aws as aws

from components import archives, iam, versions
from components.base import PlatformComponent


@dataclass(frozen=True, kw_only=True)
class PythonFunctionArgs:
    """One function of `functions/`: `package` holds `handler.handle`."""

    package: str
    region: str
    memory_mb: int
    timeout_s: int
    environment: Mapping[str, pulumi.Input[str]]
    statements: Sequence[iam.Statement]
    key_arn: pulumi.Input[str]
    log_retention_days: int
    with_bundle: bool = True
    temporary_mb: int = 512
    subnet_ids: Sequence[pulumi.Input[str]] = field(default_factory=tuple)
    security_group_ids: Sequence[pulumi.Input[str]] = field(default_factory=tuple)
    after: Sequence[pulumi.Resource] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if bool(self.subnet_ids) != bool(self.security_group_ids):
            raise ValueError(f"{self.package}: a function in a VPC needs subnets and a security group")


class PythonFunction(PlatformComponent):
    """The function `arn` may be invoked once `ready`: its permissions are in place then."""

    TYPE = "trainserve:functions:PythonFunction"
    arn: pulumi.Output[str]
    function_name: pulumi.Output[str]
    log_group: pulumi.Output[str]
    role_arn: pulumi.Output[str]
    ready: list[pulumi.Resource]

    def __init__(
        self, name: str, args: PythonFunctionArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(name, opts)
        logs = aws.cloudwatch.LogGroup(
            f"{name}-logs",
            retention_in_days=args.log_retention_days,
            kms_key_id=args.key_arn,
            opts=self.child(),
        )
        role = aws.iam.Role(f"{name}-role", assume_role_policy=iam.assume_role("lambda"), opts=self.child())
        policy = aws.iam.RolePolicy(
            f"{name}-policy",
            role=role.id,
            policy=iam.document(*self._base_statements(args, logs), *args.statements),
            opts=self.child(),
        )
        files = archives.function_files(args.package, with_bundle=args.with_bundle)
        function = aws.lambda_.Function(
            f"{name}-function",
            role=role.arn,
            runtime=versions.LAMBDA_RUNTIME,
            architectures=[versions.LAMBDA_ARCHITECTURE],
            handler=f"{args.package}.handler.handle",
            code=archives.asset_archive(files),
            layers=[versions.powertools_layer(args.region)],
            memory_size=args.memory_mb,
            timeout=args.timeout_s,
            ephemeral_storage={"size": args.temporary_mb},
            environment={
                "variables": {
                    "POWERTOOLS_SERVICE_NAME": args.package,
                    "POWERTOOLS_LOG_LEVEL": "INFO",
                    **args.environment,
                }
            },
            kms_key_arn=args.key_arn,
            tracing_config={"mode": "Active"},
            logging_config={"log_format": "JSON", "log_group": logs.name},
            vpc_config={"subnet_ids": args.subnet_ids, "security_group_ids": args.security_group_ids}
            if args.subnet_ids
            else None,
            # Its network interfaces can be made only with the permissions, and must be gone before they are.
            opts=self.child(depends_on=[policy, *args.after]),
        )
        self.arn, self.function_name, self.role_arn = function.arn, function.name, role.arn
        self.log_group = logs.name
        self.ready = [function, policy]
        self.finish("arn", "function_name", "role_arn")

    @staticmethod
    def _base_statements(args: PythonFunctionArgs, logs: aws.cloudwatch.LogGroup) -> list[iam.Statement]:
        statements = [
            iam.write_logs(logs.arn),
            iam.use_key("UseKey", args.key_arn),
            iam.send_traces("Traces"),
        ]
        if args.subnet_ids:
            statements.append(
                iam.Statement(
                    sid="JoinVpc",
                    actions=[
                        "ec2:AssignPrivateIpAddresses",
                        "ec2:CreateNetworkInterface",
                        "ec2:DeleteNetworkInterface",
                        "ec2:DescribeNetworkInterfaces",
                        "ec2:DescribeSubnets",
                        "ec2:UnassignPrivateIpAddresses",
                    ],
                    resources=["*"],  # Lambda checks these without a resource
                )
            )
        return statements
