"""Wrong settings of network, cluster, node pools and load balancer: each refused by name."""

from typing import Any

import pytest
import yaml

from components.environment import SettingsError, parse
from tests.unit.setting_files import ROOT, changed

CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
FIREWALL = "arn:aws:wafv2:us-east-1:123456789012:regional/webacl/a/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
ADMIN = "arn:aws:iam::123456789012:role/admin"
PEER = {"peerVpcId": "vpc-0a1b2c3d4e5f60718", "peerCidr": "10.99.0.0/16"}
A10 = {"instanceTypes": ["g5.xlarge"]}
H100 = {"instanceTypes": ["p5.48xlarge"]}


WRONG: list[tuple[str, dict[str, Any], str]] = [
    # fields
    (
        "dev",
        {"network.interfaceEndpoints": ["ecr"]},
        "trainserve:network.interfaceEndpoints[0]: want one of ecr.api, ecr.dkr, sts, ",
    ),
    (
        "dev",
        {"network.flowLogs": "s3"},
        'trainserve:network.flowLogs: want cloudwatch, or the ARN of an S3 bucket, got "s3"',
    ),
    ("dev", {"network.peering": {"peerVpcId": "vpc-1"}}, "trainserve:network.peering.peerCidr is missing"),
    (
        "dev",
        {"network.peering": {**PEER, "peerVpcId": "10.0.0.0"}},
        "trainserve:network.peering.peerVpcId: want a VPC's id like vpc-",
    ),
    (
        "dev",
        {"network.peering": {**PEER, "peerAccount": 123456789012}},
        "network.peering.peerAccount: want an AWS account's number of 12 digits, in quotes, got 123456789012",
    ),
    ("dev", {"cluster.developers": ["bob"]}, "cluster.developers[0]: want the ARN of an IAM role or user"),
    ("dev", {"workload.compute": "lambda"}, "trainserve:workload.compute: want one of nodes, fargate, got"),
    (
        "dev",
        {"workload.grpcPort": 80},
        "trainserve:workload.grpcPort: want a whole number from 1024 to 65535",
    ),
    (
        "dev",
        {"nodePools.onDemand.instanceFamilies": []},
        "trainserve:nodePools.onDemand.instanceFamilies: want a list of 1 to 30, ",
    ),
    (
        "dev",
        {"nodePools.spot.instanceFamilies": ["m7i", "m7a"]},
        "trainserve:nodePools.spot.instanceFamilies: want a list of 5 to 30, ",
    ),
    (
        "dev",
        {"nodePools.onDemand.instanceFamilies": ["m7i.large"]},
        "onDemand.instanceFamilies[0]: want an EC2 instance family like m7i",
    ),
    ("dev", {"nodePools.gpu": {"a": {}}}, "trainserve:nodePools.gpu.a.instanceTypes is missing"),
    (
        "dev",
        {"nodePools.gpu": {"a": {**A10, "sharing": "mps"}}},
        "trainserve:nodePools.gpu.a.sharing: want one of exclusive, time-sliced, mig",
    ),
    (
        "dev",
        {"nodePools.gpu": {"a": {**A10, "sharing": "time-sliced", "replicas": 1}}},
        "trainserve:nodePools.gpu.a.replicas: want a whole number from 2 to 48, got 1",
    ),
    (
        "dev",
        {"nodePools.gpu": {"a": {**A10, "sharing": "time-sliced", "replicas": 49}}},
        "trainserve:nodePools.gpu.a.replicas: want a whole number from 2 to 48, got 49",
    ),
    (
        "dev",
        {"nodePools.gpu": {"A": A10}},
        "trainserve:nodePools.gpu.A: want at most 20 lower-case letters, digits and single hyphens",
    ),
    ("dev", {"nodePools.volumeGb": 10}, "trainserve:nodePools.volumeGb: want a whole number from 20 to 1000"),
    (
        "dev",
        {"nodePools.disruptionPercent": 0},
        "trainserve:nodePools.disruptionPercent: want a whole number from 1 to 100, got 0",
    ),
    (
        "dev",
        {"nodePools.expireAfterHours": 1},
        "trainserve:nodePools.expireAfterHours: want a whole number from 24 to 2160, got 1",
    ),
    (
        "dev",
        {"nodePools.gpuSharing": "mig"},
        "trainserve:nodePools.gpuSharing is not a setting: known here are consolidateAfterSeconds, ",
    ),
    ("dev", {"loadBalancer.scheme": "public"}, "loadBalancer.scheme: want one of internal, internet-facing"),
    ("dev", {"loadBalancer.host": "Models"}, "trainserve:loadBalancer.host: want a host name in lower case"),
    (
        "dev",
        {"loadBalancer.certificateArn": "mine"},
        'trainserve:loadBalancer.certificateArn: want the ARN of a certificate in ACM, got "mine"',
    ),
    (
        "dev",
        {"loadBalancer.wafAclArn": CERTIFICATE},
        "trainserve:loadBalancer.wafAclArn: want the ARN of a regional WAFv2 web ACL",
    ),
    # together
    (
        "dev",
        {"network.interfaceEndpoints": ["sts", "sts"]},
        "interfaceEndpoints: want each once, got sts",
    ),
    (
        "dev",
        {"network.peering": {**PEER, "peerCidr": "10.10.128.0/20"}},
        "network.peering.peerCidr: 10.10.128.0/20 overlaps trainserve:network.cidr 10.10.0.0/16",
    ),
    (
        "dev",
        {"network.peering": {**PEER, "peerCidr": "8.8.0.0/16"}},
        "network.peering.peerCidr: want a private network, got 8.8.0.0/16",
    ),
    (
        "dev",
        {"network.peering": {**PEER, "peerCidr": "10.99.1.0/16"}},
        "network.peering.peerCidr: 10.99.1.0/16 is not a network",
    ),
    (
        "dev",
        {"network.peering": {**PEER, "peerRegion": "us-east-1"}},
        "network.peering.peerRegion: leave it out where the peer is in aws:region",
    ),
    (
        "dev",
        {"cluster.admins": [ADMIN], "cluster.developers": [ADMIN]},
        "trainserve:cluster.developers[0]: arn:aws:iam::123456789012:role/admin is among cluster.admins",
    ),
    ("dev", {"cluster.admins": [ADMIN, ADMIN]}, "trainserve:cluster.admins: want each once"),
    ("dev", {"cluster.developerNamespaces": ["a"]}, "cluster.developerNamespaces: nobody is in"),
    (
        "dev",
        {"nodePools.onDemand.instanceFamilies": ["g5"]},
        "onDemand.instanceFamilies[0]: g5 has GPUs: give it a pool in nodePools.gpu",
    ),
    (
        "dev",
        {"nodePools.onDemand.instanceFamilies": ["m7g"]},
        "onDemand.instanceFamilies[0]: m7g is arm64, and the serving image is amd64",
    ),
    (
        "dev",
        {"nodePools.gpu": {"a": {"instanceTypes": ["m7i.large"], "sharing": "time-sliced", "replicas": 4}}},
        "nodePools.gpu.a.instanceTypes[0]: m7i.large has no GPU that is known here: want one of g4dn, ",
    ),
    (
        "dev",
        {"nodePools.gpu": {"a": {**A10, "replicas": 4}}},
        "nodePools.gpu.a.replicas: only where sharing is time-sliced, and it is exclusive",
    ),
    (
        "dev",
        {"nodePools.gpu": {"a": {**A10, "sharing": "time-sliced"}}},
        "nodePools.gpu.a.replicas is missing: sharing is time-sliced",
    ),
    (
        "dev",
        {"nodePools.gpu": {"a": {**A10, "migProfile": "1g.5gb"}}},
        "nodePools.gpu.a.migProfile: only where sharing is mig, and it is exclusive",
    ),
    (
        "dev",
        {"nodePools.gpu": {"a": {**A10, "sharing": "mig", "migProfile": "1g.5gb"}}},
        "nodePools.gpu.a.sharing: g5.xlarge cannot be partitioned (MIG): want one of p4d, ",
    ),
    (
        "dev",
        {"nodePools.gpu": {"a": {"instanceTypes": ["p4d.24xlarge"], "sharing": "mig"}}},
        "nodePools.gpu.a.migProfile is missing: sharing is mig",
    ),
    (
        "dev",
        {
            "nodePools.gpu": {
                "a": {"instanceTypes": ["p5.48xlarge"], "sharing": "mig", "migProfile": "1g.5gb"}
            }
        },
        "nodePools.gpu.a.migProfile: want one of 1g.10gb, 2g.20gb, 3g.40gb, 7g.80gb for h100.80gb",
    ),
    (
        "dev",
        {"nodePools.gpu": {"a": {"instanceTypes": ["p4d.24xlarge", "p5.48xlarge"]}}},
        "nodePools.gpu.a.maxGpus: want at least 8, for each machine of instanceTypes has that many, got 4",
    ),
    (
        "dev",
        {"network.cidr": "10.100.0.0/16", "network.peering": {**PEER, "peerCidr": "172.16.0.0/12"}},
        "network.peering.peerCidr: 172.16.0.0/12 and trainserve:network.cidr 10.100.0.0/16 leave neither",
    ),
    (
        "dev",
        {"network.cidr": "172.20.16.0/20", "network.peering": {**PEER, "peerCidr": "10.0.0.0/8"}},
        "network.peering.peerCidr: 10.0.0.0/8 and trainserve:network.cidr 172.20.16.0/20 leave neither",
    ),
    ("dev", {"nodePools.gpu": {"spot": A10}}, "nodePools.gpu.spot: this name is taken"),
    ("dev", {"nodePools.gpu": {"standard": A10}}, "nodePools.gpu.standard: this name is taken"),
    (
        "dev",
        {"loadBalancer.certificateArn": CERTIFICATE},
        "loadBalancer.certificateArn: want loadBalancer.host too",
    ),
    (
        "dev",
        {"loadBalancer.host": "models.example.com"},
        "loadBalancer.host: want loadBalancer.cert",
    ),
    (
        "dev",
        {"loadBalancer.scheme": "internet-facing"},
        "loadBalancer.scheme: internet-facing wants loadBalancer.certificateArn and loadBalancer.host",
    ),
    (
        "dev",
        {"loadBalancer.wafAclArn": FIREWALL.replace("us-east-1", "eu-west-1")},
        "loadBalancer.wafAclArn: want one in aws:region us-east-1, got eu-west-1",
    ),
    (
        "dev",
        {"loadBalancer.inboundCidrs": ["0.0.0.0/0"]},
        "loadBalancer.inboundCidrs[0]: 0.0.0.0/0 is everybody, and the load balancer is internal",
    ),
    ("dev", {"loadBalancer.inboundCidrs": ["10.0.0.1/8"]}, "inboundCidrs[0]: 10.0.0.1/8 is not a network"),
    (
        "dev",
        {"loadBalancer.deregistrationSeconds": 30},
        "loadBalancer.deregistrationSeconds: want at most workload.preStopSeconds (10)",
    ),
    ("dev", {"workload.grpcPort": 8080}, "workload.grpcPort: 8080 is the HTTP server's"),
    (
        "dev",
        {"workload.tls": True, "workload.grpcPort": 9000},
        "workload.tls: covers HTTP only, so leave trainserve:workload.grpcPort out",
    ),
    ("dev", {"workload.tls": "on"}, 'workload.tls: want true or false, got "on"'),
    ("prod", {"cluster.logTypes": ["api"]}, "cluster.logTypes: want all five where"),
    ("prod", {"loadBalancer.accessLogs": False}, "loadBalancer.accessLogs: want true where"),
]


@pytest.mark.parametrize(("stack", "changes", "said"), WRONG, ids=[said[:60] for _, _, said in WRONG])
def test_a_wrong_setting_is_named(stack: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(changed(stack, changes), stack=stack, region="us-east-1")
    assert str(caught.value).startswith(f"Pulumi.{stack}.yaml: ")
    assert said in str(caught.value)


RIGHT: list[dict[str, Any]] = [
    {"network.peering": {**PEER, "peerAccount": "123456789012", "peerRegion": "eu-west-1"}},
    {"network.flowLogs": "arn:aws:s3:::central-flow-logs"},
    {"nodePools.spot": None},
    {"network.cidr": "172.20.0.0/16", "network.peering": {**PEER, "peerCidr": "172.16.0.0/14"}},
    {
        "nodePools.gpu": {
            "shared": {**A10, "sharing": "time-sliced", "replicas": 4},
            "whole": A10,
            "parts": {
                "instanceTypes": ["p4d.24xlarge"],
                "sharing": "mig",
                "migProfile": "1g.5gb",
                "maxGpus": 8,
            },
            "either": {"instanceTypes": ["p5.48xlarge", "g5.12xlarge"], "maxGpus": 4},
            "newer": {"instanceTypes": ["g6.3xlarge"], "maxGpus": 1},
        }
    },
    {
        "loadBalancer.scheme": "internet-facing",
        "loadBalancer.host": "models.example.com",
        "loadBalancer.certificateArn": CERTIFICATE,
        "loadBalancer.wafAclArn": FIREWALL,
    },
    {"cluster.developers": [ADMIN], "cluster.developerNamespaces": ["team-a"]},
]


@pytest.mark.parametrize("changes", RIGHT, ids=[next(iter(changes)) for changes in RIGHT])
def test_a_right_setting_is_taken(changes: dict[str, Any]) -> None:
    parse(changed("dev", changes), stack="dev", region="us-east-1")


def test_the_staging_file_of_the_docs_is_right() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    block = text.partition("# Pulumi.staging.yaml\n")[2].partition("```")[0]
    config = yaml.safe_load(block)["config"]
    sections = {k.removeprefix("trainserve:"): v for k, v in config.items() if k.startswith("trainserve:")}
    settings = parse(sections, stack="staging", region=config["aws:region"])
    assert not settings.environment.production


def test_the_gpu_pools_of_the_docs_are_right() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    block = text.partition("```yaml\ntrainserve:nodePools:\n")[2].partition("```")[0]
    pools = yaml.safe_load("nodePools:\n" + block)["nodePools"]
    settings = parse(changed("dev", {"nodePools": pools}), stack="dev", region="us-east-1")
    assert set(settings.node_pools.gpu) == {"whole", "slices", "parts"}
