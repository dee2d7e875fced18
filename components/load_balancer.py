"""The AWS Load Balancer Controller: its rights, its chart, the class of our Ingresses, and their logs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components import balancer_iam, buckets, iam, names, teardown, versions
from components import infra_settings as s
from components.base import PlatformComponent

_REPOSITORY: Final = "https://aws.github.io/eks-charts"
_LOGS_SERVICE: Final = "logdelivery.elasticloadbalancing.amazonaws.com"


@dataclass(frozen=True, kw_only=True)
class LoadBalancerArgs:
    """What a caller decides, and the cluster and network that load balancers stand before."""

    settings: s.LoadBalancer
    cluster_name: str
    cluster_arn: pulumi.Input[str]
    cluster_security_group_id: pulumi.Input[str]
    region: str
    account_id: pulumi.Input[str]
    vpc_id: pulumi.Input[str]
    log_days: int
    force_destroy: bool
    protect: bool
    tags: Mapping[str, str]
    order: teardown.Order


class LoadBalancer(PlatformComponent):
    """The controller on the nodes, by Pod Identity, and everything that an Ingress needs before it comes."""

    TYPE = "trainserve:load_balancer:LoadBalancer"
    log_bucket: pulumi.Output[str] | None

    def __init__(self, name: str, args: LoadBalancerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        self._name = name
        self._args = args
        self._rights()
        controller = self._controller()
        args.order.made(teardown.BALANCER, [controller])
        self.log_bucket = None
        logs: list[pulumi.Resource] = []
        if args.settings.access_logs:
            self.log_bucket, logs = self._access_logs()
        args.order.made(teardown.ENTRANCE, [*self._ingress_class(), *logs])
        self.finish("log_bucket")

    def _rights(self) -> None:
        args = self._args
        role = aws.iam.Role(
            f"{self._name}-controller",
            assume_role_policy=iam.assume_by_pods(args.account_id, args.cluster_arn),
            opts=self.child(),
        )
        scope = balancer_iam.Scope(
            cluster_name=args.cluster_name,
            region=args.region,
            account_id=args.account_id,
            vpc_id=args.vpc_id,
            cluster_security_group_id=args.cluster_security_group_id,
            certificate_arn=args.settings.certificate_arn,
            waf_acl_arn=args.settings.waf_acl_arn,
        )
        policy = aws.iam.RolePolicy(
            f"{self._name}-controller",
            role=role.id,
            policy=iam.document(*balancer_iam.statements(scope)),
            opts=self.child(),
        )
        association = aws.eks.PodIdentityAssociation(
            f"{self._name}-controller",
            cluster_name=args.cluster_name,
            namespace=names.KUBE_SYSTEM,
            service_account=names.LOAD_BALANCER_CONTROLLER,
            role_arn=role.arn,
            opts=self.child(depends_on=[policy, *args.order.before(teardown.BALANCER_RIGHTS)]),
        )
        args.order.made(teardown.BALANCER_RIGHTS, [policy, association])

    def _controller(self) -> k8s.helm.v3.Release:
        args = self._args
        return k8s.helm.v3.Release(
            f"{self._name}-controller",
            name=names.LOAD_BALANCER_CONTROLLER,
            chart=names.LOAD_BALANCER_CONTROLLER,
            version=versions.LOAD_BALANCER_CONTROLLER,
            repository_opts={"repo": _REPOSITORY},
            namespace=names.KUBE_SYSTEM,
            values=controller_values(args.cluster_name, args.region, args.vpc_id, args.settings, args.tags),
            timeout=900,
            opts=self.child(depends_on=args.order.before(teardown.BALANCER)),
        )

    def _ingress_class(self) -> list[pulumi.Resource]:
        args = self._args
        before = args.order.before(teardown.ENTRANCE)
        parameters = k8s.apiextensions.CustomResource(
            f"{self._name}-parameters",
            api_version="elbv2.k8s.aws/v1beta1",
            kind="IngressClassParams",
            metadata={"name": names.INGRESS_CLASS},
            spec=class_parameters(args.settings, args.tags),
            opts=self.child(depends_on=before),
        )
        ingress_class = k8s.networking.v1.IngressClass(
            f"{self._name}-class",
            metadata={"name": names.INGRESS_CLASS},
            spec={
                "controller": "ingress.k8s.aws/alb",
                "parameters": {
                    "api_group": "elbv2.k8s.aws",
                    "kind": "IngressClassParams",
                    "name": names.INGRESS_CLASS,
                },
            },
            opts=self.child(depends_on=[parameters]),
        )
        return [parameters, ingress_class]

    def _access_logs(self) -> tuple[pulumi.Output[str], list[pulumi.Resource]]:
        """Who asked for what. Load balancers write only to buckets with S3's own encryption."""
        args, name = self._args, f"{self._name}-access-logs"
        bucket, block = buckets.private(self, name, force_destroy=args.force_destroy, protect=args.protect)
        buckets.kept(self, name, bucket, log_lifecycle(args.log_days), None)
        policy = aws.s3.BucketPolicy(
            f"{name}-writers",
            bucket=bucket.id,
            policy=log_writers(bucket.arn, args.account_id, args.region),
            opts=self.child(depends_on=[block]),
        )
        return bucket.bucket, [bucket, policy]


def controller_values(
    cluster_name: str,
    region: str,
    vpc_id: pulumi.Input[str],
    settings: s.LoadBalancer,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """The chart's values. Region and VPC are named: pods cannot ask the node's metadata service."""
    return {
        "clusterName": cluster_name,
        "region": region,
        "vpcId": vpc_id,
        "replicaCount": 2,
        "serviceAccount": {"name": names.LOAD_BALANCER_CONTROLLER},
        # Else every Service of the cluster waits for this controller.
        "enableServiceMutatorWebhook": False,
        # Else the webhook's certificate changes with every render.
        "keepTLSSecret": True,
        # The class is the program's, so that it comes after the controller and goes before it.
        "createIngressClassResource": False,
        "ingressClassParams": {"create": False},
        "defaultTargetType": "ip",
        "enableShield": False,
        "enableWaf": False,
        "enableWafv2": settings.waf_acl_arn is not None,
        "defaultTags": dict(tags),
        "podDisruptionBudget": {"maxUnavailable": 1},
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "256Mi"},
        },
    }


def class_parameters(settings: s.LoadBalancer, tags: Mapping[str, str]) -> dict[str, Any]:
    """What no Ingress of this class can change."""
    return {
        "scheme": settings.scheme,
        "ipAddressType": "ipv4",
        "tags": [{"key": key, "value": value} for key, value in sorted(tags.items())],
    }


def log_lifecycle(days: int) -> list[Any]:
    """Logs expire, and their old versions a day later."""
    return [
        {
            "id": "old-logs",
            "status": "Enabled",
            "filter": {"prefix": ""},
            "expiration": {"days": days},
            "noncurrent_version_expiration": {"noncurrent_days": 1},
            "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
        }
    ]


def log_writers(
    bucket_arn: pulumi.Input[str], account_id: pulumi.Input[str], region: str
) -> pulumi.Output[str]:
    """This account's load balancers write their logs; nobody does anything without TLS."""
    balancers = pulumi.Output.concat(f"arn:aws:elasticloadbalancing:{region}:", account_id, ":loadbalancer/*")
    return iam.document(
        iam.Statement(
            sid="Logs",
            principal={"Service": _LOGS_SERVICE},
            actions=["s3:PutObject"],
            resources=[pulumi.Output.concat(bucket_arn, "/*/AWSLogs/", account_id, "/*")],
            conditions={"ArnLike": {"aws:SourceArn": balancers}},
        ),
        iam.Statement(
            sid="TlsOnly",
            effect="Deny",
            principal="*",
            actions=["s3:*"],
            resources=[bucket_arn, pulumi.Output.concat(bucket_arn, "/*")],
            conditions={"Bool": {"aws:SecureTransport": "false"}},
        ),
    )
