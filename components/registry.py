"""The serving image: its repository, and the build that needs neither a laptop nor Docker.

The image's tag is the hash of its sources: under an immutable tag there is never another image.
"""

import base64
import json
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from components import archives, iam, names, versions
from components.base import PlatformComponent
from components.functions import PythonFunction, PythonFunctionArgs

_UNTAGGED_DAYS: Final = 14
_NEVER: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """What a caller decides, and where sources and keys are."""

    region: str
    account_id: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    artifact_bucket: pulumi.Input[str]
    artifact_bucket_arn: pulumi.Input[str]
    keep_images: int
    force_delete: bool
    protect: bool
    log_retention_days: int


class Registry(PlatformComponent):
    """The ECR repository, the CodeBuild project that fills it, and the function that starts a build."""

    TYPE = "trainserve:registry:Registry"
    repository_url: pulumi.Output[str]
    repository_arn: pulumi.Output[str]
    project_name: pulumi.Output[str]
    server_tag: str

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        repository = aws.ecr.Repository(
            f"{name}-server",
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration={"scan_on_push": True},
            encryption_configurations=[{"encryption_type": "KMS", "kms_key": args.key_arn}],
            force_delete=args.force_delete,
            opts=self.child(protect=args.protect, retain_on_delete=args.protect),
        )
        aws.ecr.LifecyclePolicy(
            f"{name}-server-lifecycle",
            repository=repository.name,
            policy=lifecycle_policy(args.keep_images),
            opts=self.child(),
        )
        contents = archives.contents(archives.server_files())
        self.server_tag = archives.digest(contents)[:16]
        self._source = aws.s3.BucketObjectv2(
            f"{name}-source",
            bucket=args.artifact_bucket,
            key=f"{names.SOURCES}server-{self.server_tag}.zip",
            content_base64=base64.b64encode(archives.zip_bytes(contents)).decode(),
            content_type="application/zip",
            opts=self.child(),
        )
        self._args = args
        self._repository = repository
        self._project, self._project_policy = self._build_project(args, repository)
        self._starter = self._build_starter(args, repository)
        self.repository_url, self.repository_arn = repository.repository_url, repository.arn
        self.project_name = self._project.name
        self.finish("repository_url", "project_name", "server_tag")

    def _build_project(
        self, args: RegistryArgs, repository: aws.ecr.Repository
    ) -> tuple[aws.codebuild.Project, aws.iam.RolePolicy]:
        name = self._name
        logs = aws.cloudwatch.LogGroup(
            f"{name}-build-logs",
            retention_in_days=args.log_retention_days,
            kms_key_id=args.key_arn,
            opts=self.child(),
        )
        role = aws.iam.Role(
            f"{name}-build-role",
            assume_role_policy=iam.assume_role("codebuild", args.account_id),
            opts=self.child(),
        )
        policy = aws.iam.RolePolicy(
            f"{name}-build-policy",
            role=role.id,
            policy=iam.document(*build_statements(args, repository.arn, logs.arn)),
            opts=self.child(),
        )
        project = aws.codebuild.Project(
            f"{name}-build",
            description="Builds the serving image from the source archive that the program uploads",
            service_role=role.arn,
            artifacts={"type": "NO_ARTIFACTS"},
            source={
                "type": "S3",
                "location": pulumi.Output.concat(args.artifact_bucket, "/", self._source.key),
            },
            environment={
                "type": "LINUX_CONTAINER",
                "compute_type": "BUILD_GENERAL1_SMALL",
                "image": versions.CODEBUILD_IMAGE,
                "privileged_mode": True,  # it runs `docker build`
                "environment_variables": [
                    {"name": "REPOSITORY_URI", "value": repository.repository_url},
                    {"name": "IMAGE_TAG", "value": self.server_tag},
                ],
            },
            build_timeout=30,
            encryption_key=args.key_arn,
            logs_config={"cloudwatch_logs": {"group_name": logs.name, "status": "ENABLED"}},
            opts=self.child(depends_on=[policy]),
        )
        return project, policy

    def _build_starter(self, args: RegistryArgs, repository: aws.ecr.Repository) -> PythonFunction:
        return PythonFunction(
            f"{self._name}-start-build",
            PythonFunctionArgs(
                package="start_build",
                region=args.region,
                memory_mb=128,
                timeout_s=30,
                environment={"PROJECT_NAME": self._project.name, "REPOSITORY_NAME": repository.name},
                statements=[
                    iam.Statement(
                        sid="StartBuild", actions=["codebuild:StartBuild"], resources=[self._project.arn]
                    ),
                    find_images(repository.arn),
                ],
                key_arn=args.key_arn,
                log_retention_days=args.log_retention_days,
                with_bundle=False,
            ),
            opts=self.child(),
        )

    def start_build(self, after: list[pulumi.Resource]) -> aws.lambda_.Invocation:
        """Starts the build of the current sources, once for each hash, when `after` is in place.

        An invocation and not an upload event: a bucket's notifications take minutes to become active.
        """
        request = {
            "source_hash": self.server_tag,
            "bucket": self._args.artifact_bucket,
            "key": self._source.key,
        }
        return aws.lambda_.Invocation(
            f"{self._name}-first-build",
            function_name=self._starter.function_name,
            input=pulumi.Output.json_dumps(request, sort_keys=True),
            triggers={"source": self.server_tag},
            opts=self.child(depends_on=[*self._starter.ready, self._project_policy, *after]),
        )


def build_statements(
    args: RegistryArgs, repository_arn: pulumi.Input[str], log_group_arn: pulumi.Input[str]
) -> list[iam.Statement]:
    """What a build may do: read its source, push its image, write its log."""
    return [
        iam.write_logs(log_group_arn),
        iam.read_objects("ReadSource", args.artifact_bucket_arn, names.SOURCES),
        iam.Statement(
            sid="FindSource",
            actions=["s3:GetBucketAcl", "s3:GetBucketLocation", "s3:ListBucket"],
            resources=[args.artifact_bucket_arn],
        ),
        iam.use_key("UseKey", args.key_arn),
        registry_login(),
        push_images("PushImage", repository_arn),
        find_images(repository_arn),
    ]


def lifecycle_policy(keep_images: int) -> str:
    """Expires old server images and untagged ones, and never a release.

    ECR gives an image to the first rule that matches it: the first rule claims every release and keeps more
    of them than a repository can hold.
    """
    expire = {"type": "expire"}
    return json.dumps(
        {
            "rules": [
                {
                    "rulePriority": 1,
                    "description": "Releases stay",
                    "selection": {
                        "tagStatus": "tagged",
                        "tagPatternList": ["release-*"],
                        "countType": "imageCountMoreThan",
                        "countNumber": _NEVER,
                    },
                    "action": expire,
                },
                {
                    "rulePriority": 2,
                    "description": "Untagged leftovers go",
                    "selection": {
                        "tagStatus": "untagged",
                        "countType": "sinceImagePushed",
                        "countUnit": "days",
                        "countNumber": _UNTAGGED_DAYS,
                    },
                    "action": expire,
                },
                {
                    "rulePriority": 3,
                    "description": "The newest servers stay",
                    "selection": {
                        "tagStatus": "any",
                        "countType": "imageCountMoreThan",
                        "countNumber": keep_images,
                    },
                    "action": expire,
                },
            ]
        },
        sort_keys=True,
    )


def registry_login() -> iam.Statement:
    """Getting a token for the account's registry: an action without a resource."""
    return iam.Statement(sid="RegistryLogin", actions=["ecr:GetAuthorizationToken"], resources=["*"])


def find_images(repository_arn: pulumi.Input[str]) -> iam.Statement:
    """Asking which images one repository has."""
    return iam.Statement(sid="FindImage", actions=["ecr:DescribeImages"], resources=[repository_arn])


def push_images(sid: str, repository_arn: pulumi.Input[str]) -> iam.Statement:
    """Pulling from and pushing to one repository."""
    return iam.Statement(
        sid=sid,
        actions=[
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:CompleteLayerUpload",
            "ecr:GetDownloadUrlForLayer",
            "ecr:InitiateLayerUpload",
            "ecr:PutImage",
            "ecr:UploadLayerPart",
        ],
        resources=[repository_arn],
    )
