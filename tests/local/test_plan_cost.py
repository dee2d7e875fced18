"""The bill: prices, pods and nodes, spot, assumptions."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from local.plan import bill, compute, nodes, tables
from local.plan.cost import Assumptions, Cost
from local.plan.snapshot import Item

sys.path.insert(0, str(Path(__file__).parent))
from plan_fixture import deployment_item, item, plan, pool, scaler, stack

PRICES = tables.prices()
QUIET = Assumptions(requests_per_second=1.0)


def cost(*items: Item, **assumptions: float) -> Cost:
    return bill.estimate(stack(*items), PRICES, replace(QUIET, **assumptions))


def monthly(*items: Item, **assumptions: float) -> float:
    return round(cost(*items, **assumptions).monthly, 2)


def test_every_price_says_its_unit_its_date_and_its_source() -> None:
    rows = [*PRICES.prices.values(), *PRICES.training.values()]
    assert all(row.usd > 0 and row.unit and row.what for row in rows)
    for row in [*rows, *PRICES.instances.values()]:
        year, month = row.dated.split("-")
        assert 2025 <= int(year) <= 2027
        assert 1 <= int(month) <= 12
        assert row.source


def test_larger_sizes_of_a_family_cost_in_proportion() -> None:
    for name, instance in PRICES.instances.items():
        family, _, size = name.partition(".")
        if size == "xlarge" and (large := PRICES.instances.get(f"{family}.large")):
            assert instance.usd == pytest.approx(2 * large.usd, rel=1e-3)
            assert instance.vcpu == 2 * large.vcpu


@pytest.mark.parametrize(
    ("one", "usd"),
    [
        (item("eks:index:Cluster", "c", {"upgradePolicy": {"supportType": "STANDARD"}}), 73.0),
        (item("eks:index:Cluster", "c", {"upgradePolicy": {"supportType": "EXTENDED"}}), 438.0),
        (item("aws:ec2/natGateway:NatGateway", "n"), 0.045 * 730 + 0.045 * 50),
        (item("aws:ec2/vpcEndpoint:VpcEndpoint", "e", {"vpcEndpointType": "Gateway"}), 0.0),
        (
            item(
                "aws:ec2/vpcEndpoint:VpcEndpoint",
                "e",
                {"vpcEndpointType": "Interface", "subnetIds": ["a", "b", "c"]},
            ),
            3 * 7.3,
        ),
        (item("aws:ec2/eip:Eip", "e"), 3.65),
        (item("aws:wafv2/webAcl:WebAcl", "w", {"rules": [{}, {}]}), 7.0 + 2.628 * 0.6),
        (item("kubernetes:core/v1:Service", "s", {"spec": {"type": "ClusterIP"}}), 0.0),
        (item("kubernetes:core/v1:Service", "s", {"spec": {"type": "LoadBalancer"}}), 730 * 0.0285),
        (item("aws:cloudwatch/metricAlarm:MetricAlarm", "a"), 0.1),
        (item("aws:iam/role:Role", "r"), 0.0),
    ],
    ids=lambda value: value.type if isinstance(value, Item) else None,
)
def test_what_a_resource_costs_by_itself(one: Item, usd: float) -> None:
    assert monthly(one) == pytest.approx(usd, abs=0.01)


def test_the_region_factor_is_on_every_line() -> None:
    items = [item("eks:index:Cluster", "c"), deployment_item(), scaler(), pool("p", "on-demand")]
    one, two = cost(*items), cost(*items, region_factor=2.0)
    assert two.monthly == pytest.approx(2 * one.monthly)
    assert two.baseline == pytest.approx(2 * one.baseline)
    assert two.per_million == pytest.approx(2 * one.per_million)


def test_a_group_of_ingresses_is_one_load_balancer() -> None:
    def ingress(name: str, group: str | None) -> Item:
        notes = {"alb.ingress.kubernetes.io/group.name": group} if group else {}
        return item("kubernetes:networking.k8s.io/v1:Ingress", name, {"metadata": {"annotations": notes}})

    assert monthly(ingress("a", "g"), ingress("b", "g")) == pytest.approx(16.43, abs=0.1)
    assert monthly(ingress("a", None), ingress("b", None)) == pytest.approx(2 * 16.43, abs=0.1)


def test_types_are_priced_free_paid_by_use_or_unknown() -> None:
    found = cost(
        item("aws:guardduty/detector:Detector", "g"),
        item("aws:iam/role:Role", "r"),
        item("aws:quantum/annealer:Annealer", "q"),
        item("kubernetes:made.up/v1:Thing", "t"),
    )
    assert found.usage_only == ["aws:guardduty/detector:Detector"]
    assert found.unknown == ["aws:quantum/annealer:Annealer"]
    assert found.monthly == 0


def test_what_a_program_only_looks_at_costs_nothing() -> None:
    assert monthly(item("aws:kms/key:Key", "k", read=True)) == 0


def test_fargate_pods_are_paid_by_the_size_that_holds_them() -> None:
    profile = item("aws:eks/fargateProfile:FargateProfile", "f", {"selectors": [{"namespace": "serving"}]})
    found = cost(profile, deployment_item(replicas=3), scaler(low=3))
    (line,) = [line for line in found.lines if line.kind == "compute"]
    assert line.what == "m: 3 Fargate pods of 0.25 vCPU, 1 GB"
    assert line.monthly == pytest.approx(3 * 730 * (0.25 * 0.04048 + 0.004445))


def test_a_profile_with_labels_takes_only_their_pods() -> None:
    selector = {"namespace": "serving", "labels": {"app": "another"}}
    profile = item("aws:eks/fargateProfile:FargateProfile", "f", {"selectors": [selector]})
    found = cost(profile, deployment_item(), scaler())
    assert any("m7g.large" in line.what for line in found.lines)
    assert "no NodePool is declared" in found.notes[0]


@pytest.mark.parametrize(
    ("vcpu", "gib", "size"),
    [
        (0.1, 0.1, (0.25, 0.5)),
        (0.25, 0.5, (0.25, 1)),
        (0.3, 0.5, (0.5, 1)),
        (1, 7.9, (2, 9)),
        (5, 16, (8, 20)),
        (16, 119.7, (16, 120)),
        (99, 1, (99, 1.25)),
    ],
)
def test_fargate_sizes(vcpu: float, gib: float, size: tuple[float, float]) -> None:
    assert compute.fargate_size(vcpu, gib) == size


@pytest.mark.parametrize(
    ("load", "count"), [(1.0, 2), (1250.0, 2), (1251.0, 3), (3000.0, 5), (6250.0, 10), (1e6, 10)]
)
def test_the_autoscaler_follows_the_load(load: float, count: int) -> None:
    # A pod asks for a quarter of a core and is kept half busy: 625 a second of the core's 5,000.
    groups = compute.pods(stack(deployment_item(), scaler()), PRICES, load, 5000.0)
    assert [group.count for group in groups] == [count]


def test_a_load_that_the_most_pods_do_not_carry_is_said() -> None:
    found = cost(deployment_item(), scaler(), requests_per_second=7000.0)
    assert any("at most 10 pods carry 6,250 a second" in note for note in found.notes)


def test_spot_leaves_one_node_on_demand_and_costs_less_by_its_discount() -> None:
    workload = [deployment_item(cpu="1", memory="1Gi", replicas=6), scaler(low=6, high=12)]
    spot = pool("spot", "spot", weight=10, family=["m7g"], size=["large"])
    on_demand = pool("base", "on-demand", family=["m7g"], size=["large"])
    dear, cheap = cost(*workload, on_demand), cost(*workload, on_demand, spot)
    machines = {line.what: line for line in cheap.lines if "m7g" in line.what}
    assert set(machines) == {"1 m7g.large, on demand", "5 m7g.large, spot"}
    assert machines["5 m7g.large, spot"].monthly == pytest.approx(5 * 730 * 0.0816 * 0.4)
    assert cheap.on_demand == pytest.approx(dear.monthly)
    assert cheap.baseline == pytest.approx(dear.baseline)
    assert cheap.saving > dear.saving > 0
    assert cheap.compute_saving == pytest.approx(1 - cheap.compute / cheap.compute_baseline)


def test_the_on_demand_floor_is_of_the_on_demand_pool() -> None:
    spot = pool("spot", "spot", weight=10, family=["c7i", "m7i"], size=["large"])
    found = cost(deployment_item(), scaler(), spot, pool("base", "on-demand", family=["m7i"]))
    assert {line.what for line in found.lines if "large" in line.what} == {
        "1 c7i.large, spot",
        "1 m7i.large, on demand",
    }


@pytest.mark.parametrize(("rule", "count"), [("DoNotSchedule", 3), ("ScheduleAnyway", 2)])
def test_pods_that_must_spread_over_zones_need_a_node_in_each(rule: str, count: int) -> None:
    subnets = [item("aws:ec2/subnet:Subnet", zone, {"availabilityZone": zone}) for zone in "abc"]
    one = deployment_item(replicas=3)
    spread = {"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": rule}
    one.inputs["spec"]["template"]["spec"]["topologySpreadConstraints"] = [spread]
    assert nodes.fewest_nodes(stack(one, *subnets)) == count


def test_volumes_that_a_chart_claims_are_paid() -> None:
    claim = {"spec": {"resources": {"requests": {"storage": "50Gi"}}}}
    chart = item("kubernetes:helm.sh/v3:Release", "c", {"chart": "x", "values": {"a": {"claim": claim}}})
    assert monthly(chart) == pytest.approx(50 * 0.08)
    assert list(compute.asked(chart.inputs["values"])) == []


def test_the_pools_decide_which_node_types_are_considered() -> None:
    workload = [deployment_item(), scaler()]
    only = cost(*workload, pool("p", "on-demand", family=["c7i"], size=["xlarge"]))
    assert any("c7i.xlarge" in line.what for line in only.lines)
    cheapest = cost(*workload, pool("p", "on-demand", family=["c7i", "m7g"]))
    assert any("m7g.large" in line.what for line in cheapest.lines)


def test_pods_that_no_node_has_room_for_are_said() -> None:
    small = pool("p", "on-demand", family=["c7i", "m7i"])
    found = cost(deployment_item(cpu="1", memory="200Gi"), scaler(), small)
    assert [line for line in found.lines if line.kind == "compute"] == []
    (note,) = found.notes
    assert "that the pools may start has room for m (1 vCPU, 200 GiB): no nodes are in this bill" in note


def test_gpu_pools_cost_when_a_pod_asks_for_one() -> None:
    gpu = pool("gpu", "spot", "on-demand", gpu=True)
    assert monthly(gpu) == 0
    busy = deployment_item(replicas=1, limits={"nvidia.com/gpu": 1})
    found = cost(gpu, busy)
    (line,) = found.lines
    assert line.monthly == pytest.approx(730 * 0.8048 * 0.55)
    assert line.on_demand == pytest.approx(730 * 0.8048)


def test_training_is_read_from_the_models_configurations() -> None:
    job = {"ResourceConfig": {"InstanceType": "ml.m5.large"}, "EnableManagedSpotTraining": True}
    content = json.dumps({"training_job": job})
    config = item("aws:s3/bucketObjectv2:BucketObjectv2", "c", {"key": "config/m.json", "content": content})
    found = cost(config)
    assert found.monthly == pytest.approx(7.5 * 0.115 * 0.4)
    assert found.on_demand == pytest.approx(7.5 * 0.115)
    strange = replace(
        config, inputs={"key": "config/m.json", "content": content.replace("m5.large", "z9.huge")}
    )
    assert cost(strange).notes == ["training on ml.z9.huge is not in the price table, counted as 0"]
    assert cost(replace(config, inputs={"key": "config/m.json", "content": "{"})).monthly == 0


def test_cost_of_a_million_predictions() -> None:
    found = cost(item("eks:index:Cluster", "c"), requests_per_second=1000.0)
    assert found.millions == pytest.approx(2628)
    assert found.per_million == pytest.approx(73 / 2628)
    assert found.compute_per_million == 0


def test_the_parts_add_up() -> None:
    found = plan(stack(item("eks:index:Cluster", "c"), item("aws:kms/key:Key", "k", component="other"))).cost
    assert sum(found.by_component().values()) == pytest.approx(found.monthly)
    assert list(found.by_component()) == ["part", "other"]


@pytest.mark.parametrize(("text", "cores"), [("250m", 0.25), ("2", 2.0), (1, 1.0), (None, 0.0), ("x", 0.0)])
def test_cpu_quantities(text: object, cores: float) -> None:
    assert compute.cpu(text) == cores


@pytest.mark.parametrize(
    ("text", "gib"),
    [("512Mi", 0.5), ("2Gi", 2.0), ("1048576Ki", 1.0), (2**30, 1.0), (None, 0.0), ("?Gi", 0.0)],
)
def test_memory_quantities(text: object, gib: float) -> None:
    assert compute.memory(text) == gib


def test_charts_ask_for_what_their_values_say_else_for_what_is_typical() -> None:
    size = {"requests": {"cpu": "500m", "memory": "1Gi"}}
    values = {"replicas": 3, "controller": {"resources": size}, "inner": {"deep": {"resources": size}}}
    assert list(compute.asked(values)) == [(3, 0.5, 1.0), (1, 0.5, 1.0)]
    profile = {"selectors": [{"namespace": "kube-system", "labels": {"app.kubernetes.io/name": "karpenter"}}]}
    chart = {"chart": "oci://public.ecr.aws/karpenter/karpenter", "namespace": "kube-system"}
    snapshot = stack(
        item("aws:eks/fargateProfile:FargateProfile", "f", profile),
        item("kubernetes:helm.sh/v3:Release", "k", {**chart, "values": values}),
        item("aws:eks/addon:Addon", "m", {"addonName": "metrics-server"}),
        item("aws:eks/addon:Addon", "u", {"addonName": "unheard-of"}),
    )
    found = compute.pods(snapshot, PRICES, 1.0, 5000.0)
    assert [(group.name, group.count, group.fargate) for group in found] == [
        ("metrics-server", 2, False),
        ("karpenter", 3, True),
        ("karpenter", 1, True),
    ]


def test_daemons_and_disks_come_with_every_node() -> None:
    addon = item("aws:eks/addon:Addon", "a", {"addonName": "kube-proxy"})
    volume = {"ebs": {"volumeSize": "80Gi"}}
    machine = item(
        "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass", "c", {"spec": {"blockDeviceMappings": [volume]}}
    )
    found = cost(addon, machine, deployment_item(), scaler(), pool("p", "on-demand", family=["m7g"]))
    (disks,) = [line for line in found.lines if line.what == "disks of the nodes"]
    assert disks.quantity == 2 * 80
    assert nodes.daemons(stack(addon), PRICES) == (0.1, 0.05)
