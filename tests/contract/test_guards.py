"""What guards the stacks, stated in full: a guard that is taken away, or opened, is missed here."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from components import names
from components.balancer_iam import TAG
from tests.contract.recorder import Program, Registered, run, stack_config
from tests.contract.test_teardown import EKS

Run = Callable[[str], Program]
STACKS = ["dev", "prod"]
ALL = [*STACKS, "widest"]
BOTH = ["Ingress", "Egress"]
SERVER = {"matchLabels": {"app.kubernetes.io/component": "server"}}
PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"]
INGRESS_RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
EGRESS_RULE = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"


def cidr(stack: str) -> str:
    """The VPC's addresses; the widest settings leave prod's."""
    return stack_config("prod" if stack == "widest" else stack)["trainserve:network"]["cidr"]


def tcp(*ports: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def expected_policies(vpc: str, *ports: int) -> dict[str, dict[str, Any]]:
    """Name → spec of every NetworkPolicy in the workload's namespace."""
    dns = {**namespace("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    asked = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    outside = {"ipBlock": {"cidr": "0.0.0.0/0", "except": PRIVATE}}
    incoming = {
        "requests": {"from": [{"ipBlock": {"cidr": vpc}}], "ports": tcp(*ports)},
        "scrape": {"from": [namespace("monitoring")], "ports": tcp(8080)},
    }
    outgoing = {
        "aws": [
            {"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}], "ports": tcp(80)},
            {"to": [outside], "ports": tcp(443)},
            {"to": [{"ipBlock": {"cidr": vpc}}], "ports": tcp(443)},
        ],
        "traces": [{"to": [namespace("amazon-cloudwatch")], "ports": tcp(4316)}],
    }
    return {
        "default-deny": {"podSelector": {}, "policyTypes": BOTH},
        "names": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [dns], "ports": asked}]},
        **{
            name: {"podSelector": SERVER, "policyTypes": ["Ingress"], "ingress": [rule]}
            for name, rule in incoming.items()
        },
        **{
            name: {"podSelector": SERVER, "policyTypes": ["Egress"], "egress": rules}
            for name, rules in outgoing.items()
        },
    }


@pytest.mark.parametrize(("stack", "ports"), [("dev", [8080]), ("prod", [8080]), ("widest", [8080, 8081])])
def test_the_workloads_network_policies_are_these(up: Run, stack: str, ports: list[int]) -> None:
    (deployment,) = up(stack).of("kubernetes:apps/v1:Deployment")
    place = deployment.inputs["metadata"]["namespace"]
    policies = {
        policy.inputs["metadata"]["name"]: policy.inputs["spec"]
        for policy in up(stack).of("kubernetes:networking.k8s.io/v1:NetworkPolicy")
        if policy.inputs["metadata"]["namespace"] == place
    }
    assert policies == expected_policies(cidr(stack), *ports)
    # What they select is what runs there.
    labels = deployment.inputs["spec"]["template"]["metadata"]["labels"]
    assert SERVER["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("stack", STACKS)
def test_the_benchmark_is_shut_off(up: Run, stack: str) -> None:
    specs = [
        policy.inputs["spec"]
        for policy in up(stack).of("kubernetes:networking.k8s.io/v1:NetworkPolicy")
        if policy.inputs["metadata"]["namespace"] == names.BENCH_NAMESPACE
    ]
    jobs = up(stack).of("kubernetes:batch/v1:CronJob")
    assert specs == [{"podSelector": {}, "policyTypes": BOTH}] * len(jobs)


@pytest.mark.parametrize("stack", STACKS)
def test_aws_refuses_to_delete_prods_records_and_cluster(up: Run, stack: str) -> None:
    tables = up(stack).of("aws:dynamodb/table:Table")
    refusing = [table.inputs["deletionProtectionEnabled"] for table in tables]
    (cluster,) = up(stack).of(EKS)
    assert refusing
    assert {*refusing, cluster.inputs["deletionProtection"]} == {stack == "prod"}


@pytest.mark.parametrize("stack", ALL)
def test_the_vpcs_default_group_lets_nothing_through(up: Run, stack: str) -> None:
    (vpc,) = up(stack).of("aws:ec2/vpc:Vpc")
    (group,) = up(stack).of("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup")
    assert group.inputs["vpcId"] == f"{vpc.name}-id"
    assert (group.inputs["ingress"], group.inputs["egress"]) == ([], [])


def rules_of(program: Program, group: str) -> list[Registered]:
    rules = [*program.of(INGRESS_RULE), *program.of(EGRESS_RULE)]
    return [rule for rule in rules if rule.inputs["securityGroupId"] == group]


@pytest.mark.parametrize("stack", ["prod", "widest"])
def test_private_endpoints_answer_https_from_the_vpc_only(up: Run, stack: str) -> None:
    program = up(stack)
    endpoints = [
        endpoint
        for endpoint in program.of("aws:ec2/vpcEndpoint:VpcEndpoint")
        if endpoint.inputs["vpcEndpointType"] == "Interface"
    ]
    assert endpoints
    for endpoint in endpoints:
        (group,) = endpoint.inputs["securityGroupIds"]
        inline = program.one("aws:ec2/securityGroup:SecurityGroup", group.removesuffix("-id")).inputs
        assert not {"ingress", "egress"} & inline.keys()
        (rule,) = rules_of(program, group)
        assert rule.type == INGRESS_RULE
        asked = {key: rule.inputs.get(key) for key in ("ipProtocol", "fromPort", "toPort", "cidrIpv4")}
        assert asked == {"ipProtocol": "tcp", "fromPort": 443, "toPort": 443, "cidrIpv4": cidr(stack)}
        assert not {"cidrIpv6", "prefixListId", "referencedSecurityGroupId"} & rule.inputs.keys()


def every_flow_is_logged(program: Program) -> None:
    (vpc,) = program.of("aws:ec2/vpc:Vpc")
    (log,) = program.of("aws:ec2/flowLog:FlowLog")
    assert (log.inputs["vpcId"], log.inputs["trafficType"]) == (f"{vpc.name}-id", "ALL")


@pytest.mark.parametrize("stack", STACKS)
def test_every_flow_is_logged(up: Run, stack: str) -> None:
    every_flow_is_logged(up(stack))


def test_every_flow_is_logged_in_a_bucket_too() -> None:
    network = {**stack_config("dev")["trainserve:network"], "flowLogs": "arn:aws:s3:::flows"}
    every_flow_is_logged(run("dev", like="dev", changes={"trainserve:network": network}))


@pytest.mark.parametrize("stack", ALL)
def test_the_load_balancer_controller_changes_only_its_clusters(up: Run, stack: str) -> None:
    """Load balancers, listeners and groups of others have no tag of this cluster, and no other is put on."""
    policy = up(stack).one("aws:iam/rolePolicy:RolePolicy", "trainserve-balancer-controller")
    statements = json.loads(policy.inputs["policy"])["Statement"]
    cluster = f"trainserve-{stack}"
    carried, asked = {f"aws:ResourceTag/{TAG}": cluster}, {f"aws:RequestTag/{TAG}": cluster}
    # The tag itself is neither put on nor taken off what is there.
    others = {"StringEquals": carried, "Null": {f"aws:RequestTag/{TAG}": "true"}}
    balancing = "elasticloadbalancing"
    made = ["CreateLoadBalancer", "CreateTargetGroup"]
    service = f"{balancing}.amazonaws.com"
    found = {s["Sid"]: s["Condition"] for s in statements if "Condition" in s}
    assert found == {
        "FirstBalancerOfAnAccount": {"StringEquals": {"iam:AWSServiceName": service}},
        "MakeGroupsWithOurTag": {"StringEquals": asked},
        "TagNewGroups": {"StringEquals": {**asked, "ec2:CreateAction": "CreateSecurityGroup"}},
        "TagOurGroups": others,
        "ChangeOurGroups": {"StringEquals": carried},
        "MakeBalancers": {"StringEquals": asked},
        "TagNewBalancers": {"StringEquals": {**asked, f"{balancing}:CreateAction": made}},
        "TagOurBalancers": others,
        "ChangeOurBalancers": {"StringEquals": carried},
        "MakeListeners": {"StringEquals": carried},
        "TagListeners": {"StringEqualsIfExists": asked},
        "ChangeListeners": {"StringEquals": carried},
    }
    # Without a condition it reads, or uses what is named.
    free = {s["Sid"] for s in statements} - found.keys()
    named = {"ReadNetwork", "ReadBalancers", "MakeGroups", "OpenTheNodes"}
    extras = {"ReadCertificate", "UseFirewall", "ProtectBalancers"}
    assert free == (named | extras if stack == "widest" else named)
