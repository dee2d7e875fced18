"""A small program with one of most things that the engine has to handle."""

import os

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks
import pulumi_kubernetes as k8s

config = pulumi.Config()
match os.environ.get("SMALL_MODE", ""):
    case "run-error":
        raise pulumi.RunError("size: want a number")
    case "exit":
        raise SystemExit("Pulumi.dev.yaml: size: want a number")
    case "bug":
        {}["absent"]
    case "unknown-invoke":
        aws.ec2.get_ami(most_recent=True, owners=["self"])
    case "twice":
        aws.s3.Bucket("same")
        aws.s3.Bucket("same")
    case "prints":
        print("hello from the program")  # noqa: T201
    case _:
        pass


class Store(pulumi.ComponentResource):
    """A protected bucket and its settings."""

    def __init__(self, name: str) -> None:
        super().__init__("small:store:Store", name)
        inside = pulumi.ResourceOptions(parent=self)
        self.bucket = aws.s3.Bucket(
            f"{name}-bucket", opts=pulumi.ResourceOptions(parent=self, protect=True, retain_on_delete=True)
        )
        self.versions = aws.s3.BucketVersioning(
            f"{name}-versions",
            bucket=self.bucket.id,
            versioning_configuration={"status": "Enabled"},
            opts=inside,
        )
        self.file = aws.s3.BucketObjectv2(
            f"{name}-file",
            bucket=self.bucket.id,
            key="a/b.txt",
            content="hello",
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.versions]),
        )
        self.register_outputs({"bucket": self.bucket.bucket})


store = Store("data")
cluster = eks.Cluster("k", name="small")
provider = k8s.Provider("objects", kubeconfig=cluster.kubeconfig_json)
objects = pulumi.ResourceOptions(provider=provider)
namespace = k8s.core.v1.Namespace("serving", metadata={"name": "serving"}, opts=objects)
deployment = k8s.apps.v1.Deployment(
    "model",
    metadata={"name": "model", "namespace": "serving"},
    spec={
        "replicas": 0,
        "selector": {"match_labels": {"app": "model"}},
        "template": {
            "metadata": {"labels": {"app": "model"}},
            "spec": {"containers": [{"name": "server", "image": "nowhere/none:1"}]},
        },
    },
    opts=pulumi.ResourceOptions(
        provider=provider, depends_on=[namespace], ignore_changes=["spec.replicas"], deleted_with=namespace
    ),
)
dead = aws.sqs.Queue("dead", fifo_queue=True)
queue = aws.sqs.Queue(
    "work",
    fifo_queue=True,
    content_based_deduplication=True,
    redrive_policy=pulumi.Output.json_dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 3}),
)
rule = aws.cloudwatch.EventRule("uploads", event_pattern='{"source": ["aws.s3"]}')
target = aws.cloudwatch.EventTarget(
    "uploads", rule=rule.name, arn=queue.arn, sqs_target={"message_group_id": "model"}
)
zones = aws.get_availability_zones()
nat = aws.ec2.Eip("nat", domain="vpc")
secret = aws.secretsmanager.SecretVersion(
    "password", secret_id="s", secret_string=config.require_secret("token")
)
if os.environ.get("SMALL_MODE") == "refused":
    aws.s3.BucketVersioning("broken", bucket="no-such-bucket", versioning_configuration={"status": "Enabled"})

pulumi.export("bucket", store.bucket.bucket)
pulumi.export("version", store.file.version_id)
pulumi.export("size", config.require_int("size"))
pulumi.export("nested", config.require_object("nested"))
pulumi.export("zones", zones.names)
pulumi.export("clusterName", cluster.eks_cluster.name)
pulumi.export("issuer", cluster.eks_cluster.identities.apply(lambda found: found[0].oidcs[0].issuer))
pulumi.export("queueUrl", queue.url)
pulumi.export("address", nat.public_ip)
pulumi.export("models", {"model": {"incoming": pulumi.Output.concat("s3://", store.bucket.bucket, "/in/")}})
