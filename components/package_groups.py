"""Where models are registered: a group of model packages for each, and what empties it in the end."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components import iam
from components.base import PlatformComponent
from components.functions import PythonFunction, PythonFunctionArgs


@dataclass(frozen=True, kw_only=True)
class PackageGroupsArgs:
    """Whose models, and whether their history stays."""

    stack: str
    region: str
    account_id: pulumi.Input[str]
    models: Sequence[str]
    protect: bool
    key_arn: pulumi.Input[str]
    log_retention_days: int


class PackageGroups(PlatformComponent):
    """A group for each model: protected, or emptied in the end, for AWS deletes none that has packages."""

    TYPE = "trainserve:training:PackageGroups"
    group_names: dict[str, pulumi.Output[str]]
    arns: dict[str, pulumi.Output[str]]

    def __init__(
        self, name: str, args: PackageGroupsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        groups = {
            model: aws.sagemaker.ModelPackageGroup(
                f"{name}-{model}",
                model_package_group_name=group_name(args.stack, model),
                model_package_group_description=f"Releases of {model}, approved or rejected with the reason",
                opts=self.child(protect=args.protect, retain_on_delete=args.protect),
            )
            for model in args.models
        }
        emptied = {} if args.protect else self._emptied(groups)
        # Who registers packages does so between these two, so it is gone before a group is emptied.
        self.group_names = {
            model: _after(group.model_package_group_name, emptied.get(model))
            for model, group in groups.items()
        }
        self.arns = {model: _after(group.arn, emptied.get(model)) for model, group in groups.items()}
        self.finish("group_names")

    def _emptied(
        self, groups: dict[str, aws.sagemaker.ModelPackageGroup]
    ) -> dict[str, aws.lambda_.Invocation]:
        """Calls that do something when they are deleted only, which is before their groups are."""
        args = self._args
        function = PythonFunction(
            f"{self._name}-empty",
            PythonFunctionArgs(
                package="empty_registry",
                region=args.region,
                memory_mb=128,
                timeout_s=600,
                environment={},
                statements=[
                    iam.Statement(
                        sid="EmptyGroups",
                        actions=["sagemaker:DeleteModelPackage", "sagemaker:ListModelPackages"],
                        resources=[
                            *(group.arn for group in groups.values()),
                            *(
                                packages_arn(args.region, args.account_id, args.stack, model)
                                for model in groups
                            ),
                        ],
                    )
                ],
                key_arn=args.key_arn,
                log_retention_days=args.log_retention_days,
                with_bundle=False,
            ),
            opts=self.child(),
        )
        return {
            model: aws.lambda_.Invocation(
                f"{self._name}-empty-{model}",
                function_name=function.function_name,
                lifecycle_scope="CRUD",
                input=pulumi.Output.json_dumps({"group": group.model_package_group_name}),
                opts=self.child(depends_on=function.ready),
            )
            for model, group in groups.items()
        }


def group_name(stack: str, model: str) -> str:
    """The name of a model's group."""
    return f"trainserve-{stack}-{model}"


def packages_arn(region: str, account_id: pulumi.Input[str], stack: str, model: str) -> pulumi.Output[str]:
    """All packages of a model's group."""
    packages = f":model-package/{group_name(stack, model)}/*"
    return pulumi.Output.concat(f"arn:aws:sagemaker:{region}:", account_id, packages)


def _after(value: pulumi.Output[str], call: aws.lambda_.Invocation | None) -> pulumi.Output[str]:
    if call is None:
        return value
    return pulumi.Output.all(value, call.id).apply(lambda made: str(made[0]))
