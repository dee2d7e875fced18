"""The pure functions behind network, node pools and load balancer."""

import ipaddress
import json
import tomllib
from typing import Any

import pytest

from components import (
    balancer_iam,
    cluster,
    entrance,
    karpenter_iam,
    load_balancer,
    network,
    node_pools,
    pools,
)
from components.iam import Statement
from components.infra_settings import Gpu, LoadBalancer, NodePools
from components.versions import ADDONS, GPU_NODE_IMAGE, KUBERNETES_SUPPORTED, NODE_IMAGE, addon

CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
MACHINE = pools.Machine(
    cluster_name="trainserve-dev", instance_profile="profile", volume_gb=50, tags={"Project": "trainserve"}
)


def settings(**values: Any) -> NodePools:
    return NodePools.model_validate_json(json.dumps(values))


def gpu(**values: Any) -> Gpu:
    return Gpu.model_validate_json(json.dumps(values))


def balancer(**values: Any) -> LoadBalancer:
    return LoadBalancer.model_validate_json(json.dumps(values))


@pytest.mark.parametrize("cidr", ["10.0.0.0/16", "10.4.0.0/18", "172.16.16.0/20"])
def test_a_vpc_is_cut_without_overlap_and_mostly_for_pods(cidr: str) -> None:
    cuts = network.cut(cidr)
    pieces = [ipaddress.IPv4Network(n) for n in (*cuts.private, *cuts.public, *cuts.intra)]
    whole = ipaddress.IPv4Network(cidr)
    for index, piece in enumerate(pieces):
        assert piece.subnet_of(whole)
        assert not any(piece.overlaps(other) for other in pieces[:index])
    assert sum(p.num_addresses for p in pieces[:3]) * 4 == whole.num_addresses * 3
    assert all(p.prefixlen <= 28 for p in pieces)  # AWS's smallest, and what EKS asks for


@pytest.mark.parametrize("kubernetes", KUBERNETES_SUPPORTED)
def test_every_add_on_is_pinned_for_every_supported_kubernetes(kubernetes: str) -> None:
    assert ADDONS[kubernetes]["kube-proxy"].startswith(f"v{kubernetes}.")
    for name in ("coredns", "vpc-cni", "eks-pod-identity-agent", "metrics-server", "aws-ebs-csi-driver"):
        assert "-eksbuild." in addon(name, kubernetes)


@pytest.mark.parametrize("image", [NODE_IMAGE, GPU_NODE_IMAGE])
def test_a_machine_is_pinned_encrypted_and_closed(image: str) -> None:
    spec = pools.node_class(MACHINE, image)
    assert spec["amiSelectorTerms"] == [{"alias": image}]
    assert not image.endswith("latest")
    assert spec["instanceProfile"] == "profile"
    assert "role" not in spec
    assert spec["metadataOptions"]["httpTokens"] == "required"
    assert spec["metadataOptions"]["httpPutResponseHopLimit"] == 1
    for terms in ("subnetSelectorTerms", "securityGroupSelectorTerms"):
        assert spec[terms] == [{"tags": {"karpenter.sh/discovery": "trainserve-dev"}}]
    volumes = spec["blockDeviceMappings"]
    assert len(volumes) == (2 if image.startswith("bottlerocket") else 1)
    assert all(v["ebs"]["encrypted"] and v["ebs"]["volumeType"] == "gp3" for v in volumes)
    assert volumes[-1]["ebs"]["volumeSize"] == "50Gi"


def requirement(pool: dict[str, Any], key: str) -> list[str]:
    (found,) = [r for r in pool["template"]["spec"]["requirements"] if r["key"] == key]
    return found["values"]


def test_spot_is_tried_before_on_demand() -> None:
    made = pools.node_pools(settings())
    assert list(made) == ["on-demand", "spot"]
    assert made["spot"]["weight"] > made["on-demand"]["weight"]
    assert requirement(made["spot"], "karpenter.sh/capacity-type") == ["spot"]
    assert requirement(made["on-demand"], "karpenter.sh/capacity-type") == ["on-demand"]
    assert len(requirement(made["spot"], "karpenter.k8s.aws/instance-family")) >= 5
    assert list(pools.node_pools(settings(spot=None))) == ["on-demand"]


def test_every_pool_is_bounded_and_renewed() -> None:
    made = pools.node_pools(
        settings(
            gpu={"whole": {"instanceTypes": ["g6.xlarge"], "maxGpus": 2}},
            expireAfterHours=48,
            consolidateAfterSeconds=60,
            disruptionPercent=20,
            terminationGraceMinutes=7,
        )
    )
    for pool in made.values():
        assert pool["limits"]
        assert pool["disruption"]["budgets"] == [{"nodes": "20%"}]
        assert pool["disruption"]["consolidateAfter"] == "60s"
        inner = pool["template"]["spec"]
        assert (inner["expireAfter"], inner["terminationGracePeriod"]) == ("48h", "7m")
        assert inner["nodeClassRef"]["group"] == "karpenter.k8s.aws"
    assert made["whole"]["limits"] == {"nvidia.com/gpu": "2"}


def test_each_way_to_share_a_gpu_has_a_pool_and_a_class_of_its_own() -> None:
    made = pools.node_pools(
        settings(
            gpu={
                "whole": {"instanceTypes": ["g6.xlarge"]},
                "slices": {"instanceTypes": ["g6.xlarge"], "sharing": "time-sliced", "replicas": 4},
            }
        )
    )
    for name, sharing in (("whole", "exclusive"), ("slices", "time-sliced")):
        template = made[name]["template"]
        assert template["spec"]["nodeClassRef"]["name"] == name
        assert template["spec"]["taints"] == [
            {"key": "nvidia.com/gpu", "value": sharing, "effect": "NoSchedule"}
        ]
        assert template["metadata"]["labels"] == {"trainserve/gpu-sharing": sharing}
        assert made[name]["disruption"]["consolidationPolicy"] == "WhenEmpty"


def test_bottlerocket_is_told_how_to_share() -> None:
    assert pools.gpu_user_data(gpu(instanceTypes=["g5.xlarge"])) is None
    sliced = pools.gpu_user_data(gpu(instanceTypes=["g5.xlarge"], sharing="time-sliced", replicas=4))
    plugin = tomllib.loads(sliced or "")["settings"]["kubelet-device-plugins"]["nvidia"]
    assert plugin["device-sharing-strategy"] == "time-slicing"
    assert plugin["time-slicing"]["replicas"] == 4
    mig = pools.gpu_user_data(gpu(instanceTypes=["p4d.24xlarge"], sharing="mig", migProfile="1g.5gb"))
    plugin = tomllib.loads(mig or "")["settings"]["kubelet-device-plugins"]["nvidia"]
    assert plugin["device-partitioning-strategy"] == "mig"
    assert plugin["mig"]["profile"] == {"a100.40gb": "1g.5gb"}


def rendered(statements: list[Statement]) -> str:
    return json.dumps([s.render() for s in statements], default=str)


def test_karpenter_has_six_policies_that_fit_into_a_role() -> None:
    scope = karpenter_iam.Scope(
        cluster_name="trainserve-dev",
        region="us-east-1",
        account_id="123456789012",
        node_role_arn="arn:aws:iam::123456789012:role/node",
        instance_profile_arn="arn:aws:iam::123456789012:instance-profile/node",
        queue_arn="arn:aws:sqs:us-east-1:123456789012:queue",
    )
    made = karpenter_iam.policies(scope)
    assert list(made) == [
        "node-lifecycle",
        "iam-integration",
        "eks-integration",
        "interruption",
        "zonal-shift",
        "resource-discovery",
    ]
    actions = {action for statements in made.values() for s in statements for action in s.actions}
    # Finalizers need the first (karpenter #9185); the profile is the program's, so none is made. An account's
    # first spot instance needs the second, and EC2 makes that role only.
    assert "iam:ListInstanceProfiles" in actions
    (looks,) = [s for s in made["resource-discovery"] if "iam:GetInstanceProfile" in s.actions]
    assert (
        len(looks.resources) == 2
    )  # a name it would have given, too: else it hears AccessDenied, not "none"
    assert {a for a in actions if a.startswith("iam:") and "Create" in a} == {"iam:CreateServiceLinkedRole"}
    (first,) = [s for s in made["iam-integration"] if "iam:CreateServiceLinkedRole" in s.actions]
    assert first.conditions == {"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}}
    assert "*" not in first.resources
    for statements in (made["node-lifecycle"],):
        for statement in statements:
            if statement.sid != "StartFromImages":
                assert statement.conditions, statement.sid


def test_the_controllers_extras_are_asked_for() -> None:
    common: dict[str, Any] = {
        "cluster_name": "trainserve-dev",
        "region": "us-east-1",
        "account_id": "123456789012",
        "vpc_id": "vpc-1",
        "cluster_security_group_id": "sg-1",
    }
    plain = balancer_iam.Scope(**common, certificate_arn=None, waf_acl_arn=None)
    full = balancer_iam.Scope(**common, certificate_arn=CERTIFICATE, waf_acl_arn="arn:aws:wafv2:x")
    assert not {a for s in balancer_iam.statements(plain) for a in s.actions if a.startswith(("waf", "acm"))}
    extra = {a for s in balancer_iam.statements(full) for a in s.actions if a.startswith(("waf", "acm"))}
    assert {"acm:DescribeCertificate", "wafv2:AssociateWebACL"} <= extra


def door(*, tls: bool = False, **values: Any) -> entrance.Door:
    return entrance.Door(
        settings=balancer(**values),
        group="trainserve-dev",
        vpc_cidr="10.0.0.0/16",
        log_bucket=None,
        tls_to_pods=tls,
    )


def test_an_internal_load_balancer_answers_the_vpc_only() -> None:
    found = entrance.ingress_annotations(door())
    prefix = "alb.ingress.kubernetes.io/"
    assert found[f"{prefix}scheme"] == "internal"
    assert found[f"{prefix}target-type"] == "ip"
    assert found[f"{prefix}inbound-cidrs"] == "10.0.0.0/16"
    assert json.loads(str(found[f"{prefix}listen-ports"])) == [{"HTTP": 80}]
    assert "deregistration_delay.timeout_seconds=5" in str(found[f"{prefix}target-group-attributes"])


def test_a_certificate_means_tls_13_only_and_a_name() -> None:
    own = door(
        scheme="internet-facing",
        host="models.example.com",
        certificateArn=CERTIFICATE,
        inboundCidrs=["192.0.2.0/24"],
    )
    found = entrance.ingress_annotations(own)
    prefix = "alb.ingress.kubernetes.io/"
    assert json.loads(str(found[f"{prefix}listen-ports"])) == [{"HTTPS": 443}]
    assert str(found[f"{prefix}ssl-policy"]).startswith("ELBSecurityPolicy-TLS13-")
    assert found[f"{prefix}inbound-cidrs"] == "192.0.2.0/24"
    spec = entrance.ingress_spec("flights", own.settings)
    assert spec["rules"][0]["host"] == "flights.models.example.com"
    grpc = entrance.nlb_annotations(own)
    assert grpc["service.beta.kubernetes.io/aws-load-balancer-ssl-cert"] == CERTIFICATE


@pytest.mark.parametrize(("tls", "spoken"), [(False, "HTTP"), (True, "HTTPS")])
def test_the_load_balancer_speaks_to_pods_as_it_asks_for_their_health(tls: bool, spoken: str) -> None:
    found = entrance.ingress_annotations(door(tls=tls))
    for what in ("backend-protocol", "healthcheck-protocol"):
        assert found[f"alb.ingress.kubernetes.io/{what}"] == spoken


def test_charts_are_given_what_they_would_guess_wrong() -> None:
    karpenter = node_pools.karpenter_values("trainserve-dev", "queue", "arn:role")
    assert karpenter["dnsPolicy"] == "Default"  # CoreDNS may run on what it makes
    assert karpenter["settings"] == {"clusterName": "trainserve-dev", "interruptionQueue": "queue"}
    assert karpenter["serviceAccount"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:role"}
    values = load_balancer.controller_values("trainserve-dev", "us-east-1", "vpc-1", balancer(), {})
    assert (values["region"], values["vpcId"]) == ("us-east-1", "vpc-1")
    assert values["enableServiceMutatorWebhook"] is False
    assert values["keepTLSSecret"] is True
    assert values["createIngressClassResource"] is False
    assert cluster.dns_values()["computeType"] == "Fargate"
