"""The release function's own client against the cluster, with the emulated AWS as the judge of who it is."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from common.errors import Forbidden
from common.kubernetes import Kubernetes, Token
from tests.local.cluster_rig import ROOT, Cluster, Registry, Sts, start, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROLE = "arn:aws:iam::123456789012:role/releaser"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    run_dir = tmp_path_factory.mktemp("aws")
    command = [sys.executable, "-m", "local.aws", "--run-dir", str(run_dir), "--registry", "127.0.0.1:9"]
    with subprocess.Popen(command, cwd=ROOT) as process:
        ready = run_dir / "aws.json"
        wait_until("the emulated AWS is ready", lambda: ready.exists() or process.poll() is not None, 30)
        yield json.loads(ready.read_text())["endpoint"]
        process.terminate()


@pytest.fixture
def cluster(tmp_path: Path, endpoint: str) -> Iterator[Cluster]:
    process = start(tmp_path, "127.0.0.1:9", endpoint)
    ready = tmp_path / "cluster.json"
    wait_until("the cluster is ready", lambda: ready.exists() or process.poll() is not None)
    sts = Sts("unused")
    yield Cluster(tmp_path, process, Registry("127.0.0.1:9"), sts)
    process.terminate()
    process.wait(timeout=10)
    sts.close()


def test_the_function_is_known_by_the_role_that_it_assumed(cluster: Cluster, endpoint: str) -> None:
    def client(service: str, **keys: str) -> Any:
        return boto3.client(service, endpoint_url=endpoint, region_name="us-east-1", **keys)  # pyright: ignore[reportCallIssue]

    local = client("sts", aws_access_key_id="local", aws_secret_access_key="local")
    given = local.assume_role(RoleArn=ROLE, RoleSessionName="lambda")["Credentials"]
    assumed = client(
        "sts",
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
    authority = b64decode(cluster.facts["ca"]).decode()
    function = Kubernetes(cluster.facts["endpoint"], authority, Token(lambda: assumed, "prod"))
    app = cluster.namespace()

    with pytest.raises(Forbidden, match="401 Unauthorized"):
        function.deployment(app.namespace, "app")
    cluster.ok("POST", "/_local/access-entries", {"principal_arn": ROLE, "kubernetes_groups": ["releasers"]})
    with pytest.raises(Forbidden, match=r"assumed-role/releaser/lambda.* cannot get resource"):
        function.deployment(app.namespace, "app")

    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{app.namespace}"
    cluster.ok("POST", f"{base}/roles", {"metadata": {"name": "release"}, "rules": rules})
    subjects = [{"kind": "Group", "name": "releasers"}]
    binding = {"metadata": {"name": "release"}, "roleRef": {"kind": "Role", "name": "release"}}
    cluster.ok("POST", f"{base}/rolebindings", binding | {"subjects": subjects})
    app.deploy("127.0.0.1:9/serving:v1", replicas=1)
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "server", "image": "127.0.0.1:9/a:b"}]}}}}
    patched = function.patch_deployment(app.namespace, "app", patch)
    assert patched["spec"]["template"]["spec"]["containers"][0]["image"] == "127.0.0.1:9/a:b"
    app.waiting("ImagePullBackOff")
    assert function.pods(app.namespace, {"app": "app"})
