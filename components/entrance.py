"""How requests reach one model: its Ingress behind an ALB, and, for gRPC, a Service behind an NLB."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_kubernetes as k8s

from components import infra_settings as s
from components import names
from components.base import PlatformComponent

READINESS_GATE: Final = {"elbv2.k8s.aws/pod-readiness-gate-inject": "enabled"}
"""Label of a namespace whose pods count as ready only when the load balancer says so too."""

TLS_POLICY: Final = "ELBSecurityPolicy-TLS13-1-2-2021-06"
_ALB: Final = "alb.ingress.kubernetes.io/"
_NLB: Final = "service.beta.kubernetes.io/aws-load-balancer-"
_SKIP_AWAIT: Final = {"pulumi.com/skipAwait": "true"}
_EVERYBODY: Final = "0.0.0.0/0"


@dataclass(frozen=True, kw_only=True)
class Door:
    """What all models' entrances share."""

    settings: s.LoadBalancer
    group: str
    vpc_cidr: str
    log_bucket: pulumi.Input[str] | None
    tls_to_pods: bool

    @property
    def inbound(self) -> list[str]:
        """Who may connect."""
        if self.settings.inbound_cidrs:
            return list(self.settings.inbound_cidrs)
        return [self.vpc_cidr if self.settings.scheme == "internal" else _EVERYBODY]


@dataclass(frozen=True, kw_only=True)
class EntranceArgs:
    """One model, and what must be there before requests can come in and after they stop."""

    model: str
    namespace: str
    door: Door
    selector: dict[str, str]
    grpc_port: int | None
    after: Sequence[pulumi.Resource]


class Entrance(PlatformComponent):
    """The Ingress of one model; both objects own a load balancer, and are gone only when that is."""

    TYPE = "trainserve:entrance:Entrance"
    ingress: k8s.networking.v1.Ingress

    def __init__(self, name: str, args: EntranceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, opts)
        lasting = pulumi.CustomTimeouts(delete="15m")
        self.ingress = k8s.networking.v1.Ingress(
            f"{name}-ingress",
            metadata={
                "name": args.model,
                "namespace": args.namespace,
                "annotations": {**ingress_annotations(args.door), **_SKIP_AWAIT},
            },
            spec=ingress_spec(args.model, args.door.settings),
            opts=self.child(depends_on=args.after, custom_timeouts=lasting),
        )
        if args.grpc_port is not None:
            k8s.core.v1.Service(
                f"{name}-grpc",
                metadata={
                    "name": names.grpc_service(args.model),
                    "namespace": args.namespace,
                    "annotations": {**nlb_annotations(args.door), **_SKIP_AWAIT},
                },
                spec={
                    "type": "LoadBalancer",
                    "load_balancer_class": "service.k8s.aws/nlb",
                    "load_balancer_source_ranges": args.door.inbound,
                    "selector": args.selector,
                    "ports": [{"name": "grpc", "port": args.grpc_port, "target_port": args.grpc_port}],
                },
                opts=self.child(depends_on=args.after, custom_timeouts=lasting),
            )
        self.finish()


def _attributes(values: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(values.items()))


def ingress_annotations(door: Door) -> dict[str, pulumi.Input[str]]:
    """How the controller is to make the ALB and its target group."""
    settings = door.settings
    secure = settings.certificate_arn is not None
    behind = "HTTPS" if door.tls_to_pods else "HTTP"
    listeners: list[dict[str, int]] = [{"HTTPS": 443}] if secure else [{"HTTP": 80}]
    found: dict[str, pulumi.Input[str]] = {
        f"{_ALB}scheme": settings.scheme,
        f"{_ALB}target-type": "ip",
        f"{_ALB}listen-ports": json.dumps(listeners),
        f"{_ALB}inbound-cidrs": ",".join(door.inbound),
        f"{_ALB}backend-protocol": behind,
        f"{_ALB}healthcheck-path": "/ping",
        f"{_ALB}healthcheck-protocol": behind,
        f"{_ALB}healthcheck-interval-seconds": "10",
        f"{_ALB}healthy-threshold-count": "2",
        f"{_ALB}target-group-attributes": _attributes(
            {
                "deregistration_delay.timeout_seconds": str(settings.deregistration_seconds),
                "load_balancing.algorithm.type": "least_outstanding_requests",
            }
        ),
        f"{_ALB}load-balancer-attributes": _balancer_attributes(door),
    }
    if settings.certificate_arn is not None:
        found[f"{_ALB}certificate-arn"] = settings.certificate_arn
        found[f"{_ALB}ssl-policy"] = TLS_POLICY
        # One load balancer for all models, told apart by their names.
        found[f"{_ALB}group.name"] = door.group
    if settings.waf_acl_arn is not None:
        found[f"{_ALB}wafv2-acl-arn"] = settings.waf_acl_arn
    return found


def _balancer_attributes(door: Door) -> pulumi.Input[str]:
    plain = {"routing.http.drop_invalid_header_fields.enabled": "true"}
    if door.log_bucket is None:
        return _attributes(plain)
    logged = {**plain, "access_logs.s3.enabled": "true", "access_logs.s3.prefix": "alb"}
    return pulumi.Output.concat("access_logs.s3.bucket=", door.log_bucket, f",{_attributes(logged)}")


def ingress_spec(model: str, settings: s.LoadBalancer) -> Any:  # noqa: ANN401  # the SDK's nested dictionary
    """All paths to the model's Service, under the model's own name where there is a host."""
    backend = {"service": {"name": model, "port": {"number": names.PORT}}}
    rule: dict[str, Any] = {"http": {"paths": [{"path": "/", "path_type": "Prefix", "backend": backend}]}}
    if settings.host is not None:
        rule["host"] = f"{model}.{settings.host}"
    return {"ingress_class_name": names.INGRESS_CLASS, "rules": [rule]}


def nlb_annotations(door: Door) -> dict[str, pulumi.Input[str]]:
    """An NLB straight to the pods; with a certificate it ends TLS."""
    settings = door.settings
    found: dict[str, pulumi.Input[str]] = {
        f"{_NLB}scheme": settings.scheme,
        f"{_NLB}nlb-target-type": "ip",
        f"{_NLB}attributes": "load_balancing.cross_zone.enabled=true",
        f"{_NLB}target-group-attributes": _attributes(
            {"deregistration_delay.timeout_seconds": str(settings.deregistration_seconds)}
        ),
    }
    if settings.certificate_arn is not None:
        found[f"{_NLB}ssl-cert"] = settings.certificate_arn
        found[f"{_NLB}ssl-negotiation-policy"] = TLS_POLICY
        found[f"{_NLB}alpn-policy"] = "HTTP2Only"
    return found
