"""What dev and prod are made of in particular; what holds for every program is in contracts.py."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest
import yaml

from components.settings import Settings
from serving import settings as serving_settings
from tests.contract.recorder import ROOT, Program, run, stack_config

Run = Callable[[str], Program]
STACKS = ["dev", "prod"]
STATEFUL = {
    "aws:dynamodb/table:Table",
    "aws:ecr/repository:Repository",
    "aws:kms/key:Key",
    "aws:s3/bucket:Bucket",
    "aws:sagemaker/modelPackageGroup:ModelPackageGroup",
    "eks:index:Cluster",
}


@pytest.mark.parametrize("stack", STACKS)
def test_no_logical_name_holds_the_stack(up: Run, stack: str) -> None:
    assert [r.name for r in up(stack).resources if stack in r.name.split("-")] == []


@pytest.mark.parametrize("stack", STACKS)
def test_state_is_protected_in_prod_only(up: Run, stack: str) -> None:
    stateful = [resource for resource in up(stack).resources if resource.type in STATEFUL]
    assert {resource.type for resource in stateful} == STATEFUL
    assert {resource.protect for resource in stateful} == {stack == "prod"}
    others = [r.name for r in up(stack).resources if r.protect and r.type not in STATEFUL]
    assert others == (["trainserve-environment"] if stack == "prod" else [])


@pytest.mark.parametrize("stack", STACKS)
def test_the_load_balancers_logs_are_kept_where_they_are_asked_for(up: Run, stack: str) -> None:
    buckets = {bucket.name for bucket in up(stack).of("aws:s3/bucket:Bucket")}
    assert ("trainserve-balancer-access-logs" in buckets) == (stack == "prod")


@pytest.mark.parametrize("stack", STACKS)
def test_releases_and_the_autoscaler_own_exactly_two_things(up: Run, stack: str) -> None:
    ignoring = [resource for resource in up(stack).resources if resource.ignore_changes]
    # Beside them only what is drawn once, and not again by every run.
    drawn = {r.name: r.ignore_changes for r in ignoring if r.type != "kubernetes:apps/v1:Deployment"}
    assert drawn == {
        "trainserve-rights-subject-key": ("secretString",),
        "trainserve-prometheus-login": ("data", "stringData"),
    }
    ignoring = [resource for resource in ignoring if resource.name not in drawn]
    assert {resource.type for resource in ignoring} == {"kubernetes:apps/v1:Deployment"}
    for resource in ignoring:
        assert resource.ignore_changes == ("spec.replicas", "spec.template.spec.containers[0].image")
    # The provider knows of the second by the state alone, so that must be fresh.
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
    assert project["options"] == {"refresh": "always"}


def test_the_dev_workload_is_the_papers(up: Run) -> None:
    (deployment,) = up("dev").of("kubernetes:apps/v1:Deployment")
    spec = deployment.inputs["spec"]
    assert spec["replicas"] == 2
    (container,) = spec["template"]["spec"]["containers"]
    assert container["name"] == "server"
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "500m", "memory": "256Mi"},
    }
    (scaler,) = up("dev").of("kubernetes:autoscaling/v2:HorizontalPodAutoscaler")
    assert (scaler.inputs["spec"]["minReplicas"], scaler.inputs["spec"]["maxReplicas"]) == (2, 10)
    (metric,) = scaler.inputs["spec"]["metrics"]
    assert metric["resource"]["target"] == {"type": "Utilization", "averageUtilization": 50}


@pytest.mark.parametrize("stack", STACKS)
def test_pods_pass_the_restricted_standard(up: Run, stack: str) -> None:
    namespace = up(stack).one("kubernetes:core/v1:Namespace", "trainserve-workload-namespace")
    assert namespace.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    (deployment,) = up(stack).of("kubernetes:apps/v1:Deployment")
    pod = deployment.inputs["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"readinessProbe", "livenessProbe", "startupProbe"} <= container.keys()
    drain = next(int(e["value"]) for e in container["env"] if e["name"] == "SERVING_DRAIN_SECONDS")
    assert (
        container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain < pod["terminationGracePeriodSeconds"]
    )


@pytest.mark.parametrize("stack", STACKS)
def test_not_all_pods_of_a_model_ride_on_spot(up: Run, stack: str) -> None:
    pools = {pool.inputs["metadata"]["name"] for pool in up(stack).of("kubernetes:karpenter.sh/v1:NodePool")}
    assert {"spot", "on-demand"} <= pools
    (deployment,) = up(stack).of("kubernetes:apps/v1:Deployment")
    spread = deployment.inputs["spec"]["template"]["spec"]["topologySpreadConstraints"]
    (capacity,) = [rule for rule in spread if rule["topologyKey"] == "karpenter.sh/capacity-type"]
    # A wish, and no order: where one kind is not to be had, the other serves.
    assert (capacity["maxSkew"], capacity["whenUnsatisfiable"]) == (1, "ScheduleAnyway")


def test_tls_to_the_pods_is_spoken_by_all_who_ask_them() -> None:
    workload = {**stack_config("prod")["trainserve:workload"], "tls": True}
    program = run("prod", like="prod", changes={"trainserve:workload": workload})
    (deployment,) = program.of("kubernetes:apps/v1:Deployment")
    pod = deployment.inputs["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {item["name"]: item["value"] for item in container["env"] if "_TLS_" in item["name"]}
    folder = "/etc/trainserve/tls"
    assert variables == {
        "SERVING_TLS_CERT_FILE": f"{folder}/tls.crt",
        "SERVING_TLS_KEY_FILE": f"{folder}/tls.key",
        "SERVING_TLS_SELF_SIGNED": "on",
    }
    # The key is in the pod's memory, and in no Secret, state or image.
    (mount,) = [m for m in container["volumeMounts"] if m["mountPath"] == folder]
    (volume,) = [v for v in pod["volumes"] if v["name"] == mount["name"]]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Mi"}
    assert mount["readOnly"] is False
    assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    (ingress,) = program.of("kubernetes:networking.k8s.io/v1:Ingress")
    asked = ingress.inputs["metadata"]["annotations"]
    assert asked["alb.ingress.kubernetes.io/backend-protocol"] == "HTTPS"
    assert asked["alb.ingress.kubernetes.io/healthcheck-protocol"] == "HTTPS"
    (monitor,) = program.of("kubernetes:monitoring.coreos.com/v1:ServiceMonitor")
    (endpoint,) = monitor.inputs["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]) == ("https", {"insecureSkipVerify": True})


def test_the_grpc_port_is_the_same_wherever_it_is_named() -> None:
    workload = {**stack_config("prod")["trainserve:workload"], "grpcPort": 9000}
    program = run("prod", like="prod", changes={"trainserve:workload": workload})
    (deployment,) = program.of("kubernetes:apps/v1:Deployment")
    (container,) = deployment.inputs["spec"]["template"]["spec"]["containers"]
    (port,) = [item["containerPort"] for item in container["ports"] if item["name"] == "grpc"]
    (variable,) = [item["value"] for item in container["env"] if item["name"] == "SERVING_GRPC_PORT"]
    # The server knows the variable: what it does not know it would only warn of.
    chosen = serving_settings.from_environment({"SERVING_GRPC_PORT": variable})
    (service,) = [item for item in program.of("kubernetes:core/v1:Service") if "grpc" in item.name]
    (outside,) = service.inputs["spec"]["ports"]
    assert [chosen.grpc_port, port, outside["port"], outside["targetPort"]] == [9000] * 4


@pytest.mark.parametrize("stack", STACKS)
def test_pods_speak_plain_http_unless_told_otherwise(up: Run, stack: str) -> None:
    (deployment,) = up(stack).of("kubernetes:apps/v1:Deployment")
    (container,) = deployment.inputs["spec"]["template"]["spec"]["containers"]
    assert not [item["name"] for item in container["env"] if "_TLS_" in item["name"]]
    assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTP"


@pytest.mark.parametrize("stack", STACKS)
def test_the_release_function_may_release_and_no_more(up: Run, stack: str) -> None:
    program = up(stack)
    role = program.one("kubernetes:rbac.authorization.k8s.io/v1:Role", "trainserve-workload-release")
    assert role.inputs["rules"] == [
        {
            "apiGroups": ["apps"],
            "resources": ["deployments"],
            "resourceNames": ["flights"],
            "verbs": ["get", "patch"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    ]
    (binding,) = program.of("kubernetes:rbac.authorization.k8s.io/v1:RoleBinding")
    (subject,) = binding.inputs["subjects"]
    entry = program.one("aws:eks/accessEntry:AccessEntry", "trainserve-cluster-release")
    assert entry.inputs["kubernetesGroups"] == [subject["name"]]
    assert entry.inputs["principalArn"].endswith("release-model-role")
    assert program.of("aws:eks/accessPolicyAssociation:AccessPolicyAssociation") == []
    way_in = program.one(
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "trainserve-cluster-from-release"
    )
    assert (way_in.inputs["fromPort"], way_in.inputs["securityGroupId"]) == (443, "sg-cluster")


def test_the_first_job_waits_for_all_that_reacts_to_its_end(up: Run) -> None:
    (job,) = up("dev").of("aws:sagemaker/trainingJob:TrainingJob")
    needed = {
        "aws:cloudwatch/eventTarget:EventTarget",
        "aws:eks/accessEntry:AccessEntry",
        "aws:lambda/eventSourceMapping:EventSourceMapping",
        "aws:s3/bucketObjectv2:BucketObjectv2",
        "aws:sfn/stateMachine:StateMachine",
        "kubernetes:apps/v1:Deployment",
        "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
    }
    known = up("dev").by_urn()
    assert needed <= {known[urn].type for urn in job.dependencies}
    assert up("prod").of("aws:sagemaker/trainingJob:TrainingJob") == []


def test_the_first_build_waits_for_what_reacts_to_its_end(up: Run) -> None:
    build = up("dev").one("aws:lambda/invocation:Invocation", "trainserve-registry-first-build")
    known = up("dev").by_urn()
    targets = {known[urn].name for urn in build.dependencies if "EventTarget" in urn}
    assert {"trainserve-releases-builds"} <= targets


def test_the_first_job_is_spot_and_says_the_same_as_later_jobs(up: Run) -> None:
    program = up("dev")
    (job,) = program.of("aws:sagemaker/trainingJob:TrainingJob")
    assert job.inputs["enableManagedSpotTraining"] is True
    stopping = job.inputs["stoppingCondition"]
    assert stopping["maxWaitTimeInSeconds"] >= stopping["maxRuntimeInSeconds"]
    name = job.inputs["trainingJobName"]
    assert len(name) <= 63
    config = json.loads(
        program.one("aws:s3/bucketObjectv2:BucketObjectv2", "trainserve-config-flights").inputs["content"]
    )
    template = config["training_job"]
    assert template["EnableManagedSpotTraining"] is True
    own = {"dataset_hash", "manifest_uri"}
    assert {k: v for k, v in job.inputs["hyperParameters"].items() if k not in own} == template[
        "HyperParameters"
    ]
    assert job.inputs["checkpointConfig"]["s3Uri"] == f"{template['CheckpointConfig']['S3Uri']}/{name}"
    assert job.inputs["resourceConfig"]["volumeSizeInGb"] == template["ResourceConfig"]["VolumeSizeInGB"]
    assert name.startswith(config["job_name_prefix"])
    assert name.split("-")[-2] == job.inputs["hyperParameters"]["dataset_hash"][:8]


def test_jobs_define_no_metrics_which_sagemaker_refuses_for_its_own_images(up: Run) -> None:
    program = up("dev")
    (job,) = program.of("aws:sagemaker/trainingJob:TrainingJob")
    assert "metricDefinitions" not in job.inputs["algorithmSpecification"]
    config = program.one("aws:s3/bucketObjectv2:BucketObjectv2", "trainserve-config-flights")
    template = json.loads(config.inputs["content"])["training_job"]
    assert "MetricDefinitions" not in template["AlgorithmSpecification"]


def test_the_first_jobs_name_changes_with_its_request_and_after_a_destroy(up: Run) -> None:
    (request,) = [
        r
        for r in up("dev").of("aws:s3/bucketObjectv2:BucketObjectv2")
        if r.name == "trainserve-bootstrap-flights-request"
    ]
    (job,) = up("dev").of("aws:sagemaker/trainingJob:TrainingJob")
    written = json.loads(request.inputs["content"])
    # The name comes from the version that S3 gave this object, and all that the job is made of is in it.
    assert request.urn in job.dependencies
    assert written["HyperParameters"] == job.inputs["hyperParameters"]
    assert written["RoleArn"] == job.inputs["roleArn"]


def test_the_first_data_set_stays_when_the_setting_names_other_files(up: Run) -> None:
    data = [r for r in up("dev").of("aws:s3/bucketObjectv2:BucketObjectv2") if "bootstrap" in r.name]
    kept = {r.inputs["key"].split("/")[0] for r in data if r.retain}
    assert kept == {"bootstrap", "datasets"}
    assert [r.name for r in data if not r.retain] == ["trainserve-bootstrap-flights-request"]


def test_the_config_objects_hold_what_functions_read(up: Run) -> None:
    content = up("dev").one("aws:s3/bucketObjectv2:BucketObjectv2", "trainserve-config-flights")
    assert content.inputs["key"] == "config/flights.json"
    config = json.loads(content.inputs["content"])
    assert config["job_name_prefix"] == "ts-dev--"
    assert config["workload"] == {
        "cluster": "trainserve-dev",
        "namespace": "serving",
        "deployment": "flights",
        "container": "server",
    }
    assert config["gate"] == {"margin": 0.005}
    assert config["rollout"] == {"timeout_s": 600}
    assert config["channels"] == {"content_type": None}
    assert not {"TrainingJobName", "InputDataConfig"} & config["training_job"].keys()
    deployment = up("dev").of("kubernetes:apps/v1:Deployment")[0].inputs["spec"]["template"]["spec"]
    assert deployment["containers"][0]["image"] == f"{config['repository_uri']}:{config['server_tag']}"


def test_the_state_machine_calls_the_release_function(up: Run) -> None:
    (machine,) = up("dev").of("aws:sfn/stateMachine:StateMachine")
    text = machine.inputs["definition"]
    assert "${" not in text
    resources = {state.get("Resource") for state in walk_states(json.loads(text))} - {None}
    (arn,) = resources
    assert arn == "arn:aws:lambda:us-east-1:123456789012:function:trainserve-releases-release-model-function"


def walk_states(machine: Any) -> Iterator[dict[str, Any]]:
    if isinstance(machine, dict):
        if isinstance(machine.get("Type"), str):
            yield machine
        for value in machine.values():
            yield from walk_states(value)
    elif isinstance(machine, list):
        for value in machine:
            yield from walk_states(value)


@pytest.mark.parametrize("stack", STACKS)
def test_function_archives_hold_sources_and_nothing_else(up: Run, stack: str) -> None:
    functions = up(stack).of("aws:lambda/function:Function")
    assert {f.inputs["handler"] for f in functions} == {
        "start_training.handler.handle",
        "release_model.handler.handle",
        "start_build.handler.handle",
    } | ({"empty_registry.handler.handle"} if stack == "dev" else set())
    for function in functions:
        code = function.inputs["code"]
        assert isinstance(code, pulumi.AssetArchive)
        names = list(code.assets)
        package = function.inputs["handler"].split(".")[0]
        assert f"{package}/handler.py" in names
        assert not [n for n in names if "__pycache__" in n or n.endswith(".pyc")]
        with_bundle = {n for n in names if n.startswith("bundle/")}
        expected = {"bundle/__init__.py", "bundle/decode.py", "bundle/format.py"}
        assert with_bundle == (set() if package in {"empty_registry", "start_build"} else expected)


def test_two_runs_upload_the_same_bytes(up: Run) -> None:
    again = run("dev", like="dev")
    for resource in up("dev").of("aws:s3/bucketObjectv2:BucketObjectv2"):
        other = again.one(resource.type, resource.name)
        assert other.inputs.get("contentBase64") == resource.inputs.get("contentBase64"), resource.name
        assert other.inputs.get("content") == resource.inputs.get("content"), resource.name


def test_a_second_model_gets_everything_of_its_own() -> None:
    models: dict[str, Any] = {
        **stack_config("dev")["trainserve:models"],
        "fares": {"target": "fare", "task": "regression"},
    }
    Settings.model_validate_json(json.dumps({**sections("dev"), "models": models}))
    program = run("dev", like="dev", changes={"trainserve:models": models})
    for kind, expected in {
        "kubernetes:apps/v1:Deployment": 2,
        "kubernetes:core/v1:Service": 2,
        "aws:sagemaker/modelPackageGroup:ModelPackageGroup": 2,
        "aws:sagemaker/trainingJob:TrainingJob": 1,
        "kubernetes:networking.k8s.io/v1:Ingress": 2,
    }.items():
        assert len(program.of(kind)) == expected, kind
    rules = {r.name for r in program.of("aws:cloudwatch/eventRule:EventRule")}
    assert {"trainserve-retraining-uploads-flights", "trainserve-retraining-uploads-fares"} <= rules


def sections(stack: str) -> dict[str, Any]:
    config = stack_config(stack)
    return {k.removeprefix("trainserve:"): v for k, v in config.items() if k.startswith("trainserve:")}


def test_wrong_settings_stop_the_program_before_any_resource() -> None:
    with pytest.raises(pulumi.RunError, match=r"trainserve:workload\.replicas"):
        run("dev", like="dev", changes={"trainserve:workload": {"replicas": "two"}})


def test_a_registry_is_emptied_when_nobody_fills_it_any_more(up: Run) -> None:
    """AWS deletes no group that has packages; a protected one is not deleted at all."""
    program = up("dev")
    call = program.one("aws:lambda/invocation:Invocation", "trainserve-packages-empty-flights")
    assert call.inputs["lifecycleScope"] == "CRUD"
    assert json.loads(call.inputs["input"]) == {"group": "trainserve-dev-flights"}
    needed = {urn.rpartition("::")[2] for urn in call.dependencies}
    assert {"trainserve-packages-flights", "trainserve-packages-empty-policy"} <= needed
    rights = program.one("aws:iam/rolePolicy:RolePolicy", "trainserve-releases-release-model-policy")
    assert call.urn in rights.dependencies
    assert not [c for c in up("prod").of("aws:lambda/invocation:Invocation") if "empty" in c.name]
