"""What holds for every program, whatever its settings: each contract is a function that raises."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from components import teardown
from components.teardown import EDGES, goes_with
from policy.identity import bound_by_tag, everything, without_resource
from policy.model import Stack, Subject, findings
from policy.rules import RULES
from tests.contract.recorder import ACCOUNT, REGION, STACK_TYPE, Program
from tests.contract.test_iam import NEWER_THAN_THE_DATA, binds, listed, reference, statements
from tests.contract.test_schemas import check
from tests.contract.test_teardown import EKS, missing, reached

ROLE_POLICIES = {"aws:iam/rolePolicy:RolePolicy", "aws:iam/policy:Policy"}
ROLE = "aws:iam/role:Role"
RIGHTS = ("aws:iam/rolePolicy:RolePolicy", "aws:iam/rolePolicyAttachment:RolePolicyAttachment")
# What acts for this program with the role that it takes, beside what only some settings ask for.
TAKERS = {
    "aws:cloudwatch/eventTarget:EventTarget",
    "aws:codebuild/project:Project",
    "aws:eks/fargateProfile:FargateProfile",
    "aws:lambda/function:Function",
    "aws:sfn/stateMachine:StateMachine",
    "kubernetes:helm.sh/v3:Release",
}
# What lets a role into the cluster, or hands it to machines, does nothing with it itself.
NAMES_ONLY = {"aws:eks/accessEntry:AccessEntry", "aws:iam/instanceProfile:InstanceProfile"}
# The profile's pods write logs once that is set up; teardown.py says which of them wait for it.
LATER = {("trainserve-cluster-fargate", "trainserve-fargate-logs-write")}
BUCKET_PARTS = (
    "bucketPublicAccessBlock:BucketPublicAccessBlock",
    "bucketVersioning:BucketVersioning",
    "bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
    "bucketPolicy:BucketPolicy",
    "bucketLifecycleConfiguration:BucketLifecycleConfiguration",
    "bucketOwnershipControls:BucketOwnershipControls",
)
# What an object's name of ours must fit in; the engine appends eight characters where none is given.
LONGEST_NAMES = {
    "aws:cloudwatch/eventRule:EventRule": 64,
    "aws:cloudwatch/metricAlarm:MetricAlarm": 255,
    "aws:codebuild/project:Project": 150,
    "aws:dynamodb/table:Table": 255,
    "aws:ec2/securityGroup:SecurityGroup": 255,
    "aws:iam/instanceProfile:InstanceProfile": 128,
    "aws:iam/policy:Policy": 128,
    "aws:iam/role:Role": 64,
    "aws:iam/rolePolicy:RolePolicy": 128,
    "aws:lambda/function:Function": 64,
    "aws:s3/bucket:Bucket": 63,
    "aws:sagemaker/hyperParameterTuningJob:HyperParameterTuningJob": 32,
    "aws:sagemaker/modelPackageGroup:ModelPackageGroup": 63,
    "aws:sagemaker/monitoringSchedule:MonitoringSchedule": 63,
    "aws:sagemaker/trainingJob:TrainingJob": 63,
    "aws:sfn/stateMachine:StateMachine": 80,
    "aws:sns/topic:Topic": 256,
    "aws:sqs/queue:Queue": 75,
}
NAMED_BY = {
    "aws:sagemaker/modelPackageGroup:ModelPackageGroup": "modelPackageGroupName",
    "aws:sagemaker/trainingJob:TrainingJob": "trainingJobName",
}
SUFFIX = len("-0123456")
INLINE_POLICIES = 10240
"""Characters that all inline policies of one role may have together."""

QUEUE_POLICY = 8192
TAGS, TAGS_OF_AN_OBJECT = 50, 10
KUBERNETES_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")


def everything_but_the_platform_is_inside_it(program: Program) -> None:
    known = program.by_urn()
    roots = [resource for resource in known.values() if resource.parent not in known]
    assert [(root.type, root.name) for root in roots] == [("trainserve:platform:Platform", "trainserve")]
    assert roots[0].parent.endswith(f"::{STACK_TYPE}::trainserve-{program.stack}")


def urns_are_unique(program: Program) -> None:
    urns = [resource.urn for resource in program.resources]
    assert len(set(urns)) == len(urns)


def objects_of_the_cluster_are_unique(program: Program) -> None:
    """Two logical names of one object would fight for it."""
    named = Counter(
        (r.type, r.inputs["metadata"].get("namespace"), r.inputs["metadata"].get("name"))
        for r in program.resources
        if r.type.startswith("kubernetes:") and ":helm.sh/" not in r.type
    )
    assert [key for key, count in named.items() if count > 1 and key[2] is not None] == []


@cache
def takes_tags(type_: str) -> bool:
    """Judged by the package's own table from a resource's type to its class."""
    import pulumi_aws  # noqa: PLC0415  # slow

    module, _, name = type_.removeprefix("aws:").partition("/")
    python = {"lambda": "lambda_"}.get(module, module)
    cls = getattr(getattr(pulumi_aws, python), name.partition(":")[2])
    return isinstance(getattr(cls, "tags", None), property)


def what_takes_tags_has_them(program: Program) -> None:
    tagged = 0
    for resource in program.resources:
        if resource.type == EKS or (resource.custom and resource.type.startswith("aws:")):
            if resource.type != EKS and not takes_tags(resource.type):
                continue
            tags = resource.inputs["tags"]
            ours = {"Environment": program.stack, "Project": "trainserve", "ManagedBy": "trainserve"}
            assert ours.items() <= tags.items(), resource.urn
            of_object = "bucketObject" in resource.type
            assert len(tags) <= (TAGS_OF_AN_OBJECT if of_object else TAGS), resource.urn
            tagged += 1
        if resource.type.startswith("kubernetes:") and ":helm.sh/" not in resource.type:
            labels = resource.inputs["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == f"trainserve-{program.stack}", resource.urn
    assert tagged > 40


def names_and_labels_fit(program: Program) -> None:
    for resource in program.resources:
        if resource.type in LONGEST_NAMES:
            given = resource.inputs.get(NAMED_BY.get(resource.type, "name"))
            length = len(given) if isinstance(given, str) else len(resource.name) + SUFFIX
            assert length <= LONGEST_NAMES[resource.type], resource.urn
        if resource.type.startswith("kubernetes:") and ":helm.sh/" not in resource.type:
            metadata = resource.inputs["metadata"]
            if "name" in metadata:
                longest = 63 if resource.type.endswith(("Service", "Deployment", "Namespace")) else 253
                assert KUBERNETES_NAME.fullmatch(metadata["name"]), resource.urn
                assert len(metadata["name"]) <= longest, resource.urn
            for value in metadata["labels"].values():
                assert LABEL.fullmatch(value), (resource.urn, value)
                assert len(value) <= 63, (resource.urn, value)


def no_role_may_do_anything_to_everything(program: Program) -> None:
    for kind, name, statement in statements(program):
        if kind not in ROLE_POLICIES:
            continue
        assert statement["Effect"] == "Allow", (name, statement)
        for action in listed(statement["Action"]):
            assert "*" not in action, (name, action)
        for arn in listed(statement["Resource"]):
            if arn != "*":
                # A wildcard stands for the rest of a name, or for what carries our tag.
                assert arn.startswith("arn:aws:"), (name, arn)
                assert not everything(arn) or bound_by_tag(statement), (name, arn)


def every_action_exists_and_is_bound_where_it_can_be(program: Program) -> None:
    """A star stands only where AWS has no resource, where the policy pack says why, or behind a tag.

    And what cannot be bound is not pretended to be: such an action would be allowed nothing.
    """
    known, seen = reference(), 0
    for kind, name, statement in statements(program):
        for action in listed(statement["Action"]):
            service, _, verb = action.partition(":")
            assert service in known, (name, action)
            if verb.endswith("*"):  # in resource policies only
                assert any(other.startswith(verb[:-1]) for other in known[service]), (name, action)
                continue
            seen += 1
            if action in NEWER_THAN_THE_DATA:
                continue
            assert verb in known[service], (name, action)
            if kind in ROLE_POLICIES and "*" in listed(statement["Resource"]):
                assert not binds(action) or without_resource(action) or bound_by_tag(statement), (
                    name,
                    action,
                )
            elif kind in ROLE_POLICIES:
                assert binds(action), (name, action)
    assert seen > 150


def policies_are_not_too_long(program: Program) -> None:
    inline: defaultdict[str, int] = defaultdict(int)
    for policy in program.of("aws:iam/rolePolicy:RolePolicy"):
        inline[policy.inputs["role"]] += len(re.sub(r"\s", "", policy.inputs["policy"]))
    assert {role: length for role, length in inline.items() if length > INLINE_POLICIES} == {}
    for policy in program.of("aws:sqs/queuePolicy:QueuePolicy"):
        assert len(policy.inputs["policy"]) <= QUEUE_POLICY, policy.urn


def roles_are_taken_by_one_service_each(program: Program) -> None:
    irsa: list[str] = []
    for role in program.of("aws:iam/role:Role"):
        (statement,) = json.loads(role.inputs["assumeRolePolicy"])["Statement"]
        if statement["Principal"].keys() == {"Federated"}:
            irsa.append(role.name)
            issuer = "oidc.example/id/ABC"
            assert statement["Condition"]["StringEquals"] == {
                f"{issuer}:aud": "sts.amazonaws.com",
                f"{issuer}:sub": "system:serviceaccount:kube-system:karpenter",
            }
            continue
        assert statement["Principal"].keys() == {"Service"}
        if statement["Principal"]["Service"] == "eks-fargate-pods.amazonaws.com":
            (arn,) = statement["Condition"]["ArnLike"].values()
            assert arn.endswith(f":{ACCOUNT}:fargateprofile/trainserve-{program.stack}/*")
            continue
        if statement["Principal"]["Service"] not in {"lambda.amazonaws.com", "ec2.amazonaws.com"}:
            assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}
        if statement["Principal"]["Service"] == "pods.eks.amazonaws.com":
            (arn,) = statement["Condition"]["ArnEquals"].values()
            assert arn.endswith(f":{ACCOUNT}:cluster/trainserve-{program.stack}")
    assert irsa == ["trainserve-nodes-karpenter"]  # it runs on Fargate; everything else is on nodes


def texts(value: Any) -> Iterator[str]:
    """Every text inside a property."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def what_takes_a_role_waits_for_its_rights(program: Program) -> None:
    """Else it may act before it is allowed to, or, when everything goes, after its rights have gone."""
    roles = {f"arn:aws:iam:{REGION}:{ACCOUNT}:{role.name}": role.name for role in program.of(ROLE)}
    # A node takes its role by a profile, and is started by whatever names that.
    profiles = program.of("aws:iam/instanceProfile:InstanceProfile")
    roles |= {profile.name: profile.inputs["role"] for profile in profiles}
    rights: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for right in (found for kind in RIGHTS for found in program.of(kind)):
        rights[right.inputs["role"].removesuffix("-id")][right.urn] = right.name
    seen: set[str] = set()
    for resource in program.resources:
        if resource.type in {*NAMES_ONLY, *RIGHTS, ROLE}:
            continue
        for role in {roles[text] for text in texts(dict(resource.inputs)) if text in roles}:
            assert rights[role], role
            behind = reached(program, resource)
            late = {name for urn, name in rights[role].items() if urn not in behind}
            assert {name for name in late if (resource.name, name) not in LATER} == set(), resource.urn
            seen.add(resource.type)
    assert seen >= TAKERS


def what_events_are_sent_to_takes_them(program: Program) -> None:
    """An event that a queue refuses is lost, so its policy comes first; the same of the queue for such."""
    allowed = {
        policy.inputs["queueUrl"].rpartition("/")[2]: policy.urn
        for policy in program.of("aws:sqs/queuePolicy:QueuePolicy")
    }
    sent = 0
    for target in program.of("aws:cloudwatch/eventTarget:EventTarget"):
        unsent = target.inputs.get("deadLetterConfig", {}).get("arn")
        queues = [arn for arn in (target.inputs["arn"], unsent) if arn is not None and ":sqs:" in arn]
        for queue in queues:
            assert allowed[queue.rpartition(":")[2]] in reached(program, target), (target.name, queue)
            sent += 1
    assert sent > 5


def buckets_are_private_versioned_encrypted_and_tls_only(program: Program) -> None:
    buckets = {bucket.name for bucket in program.of("aws:s3/bucket:Bucket")}
    assert buckets >= {"trainserve-storage-data", "trainserve-storage-artifacts"}
    for kind in BUCKET_PARTS:
        covered = {r.inputs["bucket"].removesuffix("-id") for r in program.of(f"aws:s3/{kind}")}
        assert covered == buckets, kind
    for policy in program.of("aws:s3/bucketPolicy:BucketPolicy"):
        (statement,) = [s for s in json.loads(policy.inputs["policy"])["Statement"] if s["Effect"] == "Deny"]
        assert statement["Principal"] == "*"
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    # A second notification resource of a bucket would replace the first one's configuration.
    (notification,) = program.of("aws:s3/bucketNotification:BucketNotification")
    assert notification.inputs["eventbridge"] is True


def objects_come_through_the_clusters_provider(program: Program) -> None:
    (provider,) = program.of("pulumi:providers:kubernetes")
    objects = [r for r in program.resources if r.type.startswith("kubernetes:")]
    assert len(objects) > 15
    for resource in objects:
        assert resource.provider.startswith(provider.urn + "::"), resource.urn


def nothing_waits_for_an_image_or_a_model(program: Program) -> None:
    for kind in ("apps/v1:Deployment", "core/v1:Service", "networking.k8s.io/v1:Ingress"):
        for resource in program.of(f"kubernetes:{kind}"):
            assert resource.inputs["metadata"]["annotations"]["pulumi.com/skipAwait"] == "true"


def pods_are_probed_and_stop_in_time(program: Program) -> None:
    deployments = program.of("kubernetes:apps/v1:Deployment")
    assert deployments
    for deployment in deployments:
        pod = deployment.inputs["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert {"readinessProbe", "livenessProbe", "startupProbe"} <= container.keys()
            environment = {variable["name"]: variable["value"] for variable in container["env"]}
            stopping = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            draining = int(environment["SERVING_DRAIN_SECONDS"])
            assert stopping + draining < pod["terminationGracePeriodSeconds"], deployment.urn


def every_object_is_valid_for_kubernetes(program: Program) -> None:
    assert check(program) > 8


def no_policy_is_broken(program: Program) -> None:
    subjects = [
        Subject(urn=r.urn, type=r.type, name=r.name, props=r.inputs, protect=r.protect)
        for r in program.resources
    ]
    found = findings(RULES, Stack(name=program.stack, subjects=subjects))
    assert [f"{finding.rule}: {finding.name} {finding.message}" for finding in found] == []


def no_dependency_goes_in_a_circle(program: Program) -> None:
    """Every resource is registered after all that it depends on, its parent and what deletes it."""
    seen: set[str] = set()
    known = program.by_urn()
    for resource in program.resources:
        needed = {*resource.dependencies, resource.parent, resource.deleted_with} & known.keys()
        assert needed <= seen, (resource.urn, needed - seen)
        seen.add(resource.urn)


def every_edge_of_the_teardown_is_there(program: Program) -> None:
    monitored = any("prometheus" in release.name for release in program.of("kubernetes:helm.sh/v3:Release"))
    for edge in EDGES:
        if monitored or edge.part != teardown.MONITORING:
            assert list(missing(program, edge)) == []


def what_the_cluster_takes_along_is_left_to_it(program: Program) -> None:
    (cluster,) = program.of(EKS)
    for resource in program.resources:
        left = goes_with(resource.type, resource.inputs)
        assert resource.deleted_with == (cluster.urn if left else ""), resource.urn


CONTRACTS: tuple[Callable[[Program], None], ...] = (
    everything_but_the_platform_is_inside_it,
    urns_are_unique,
    objects_of_the_cluster_are_unique,
    what_takes_tags_has_them,
    names_and_labels_fit,
    no_role_may_do_anything_to_everything,
    every_action_exists_and_is_bound_where_it_can_be,
    policies_are_not_too_long,
    roles_are_taken_by_one_service_each,
    what_takes_a_role_waits_for_its_rights,
    what_events_are_sent_to_takes_them,
    buckets_are_private_versioned_encrypted_and_tls_only,
    objects_come_through_the_clusters_provider,
    nothing_waits_for_an_image_or_a_model,
    pods_are_probed_and_stop_in_time,
    every_object_is_valid_for_kubernetes,
    no_policy_is_broken,
    no_dependency_goes_in_a_circle,
    every_edge_of_the_teardown_is_there,
    what_the_cluster_takes_along_is_left_to_it,
)
