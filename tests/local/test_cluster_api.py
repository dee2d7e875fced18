"""Tokens, access entries, roles, objects, and errors, over TLS as a client sees them."""

from __future__ import annotations

import http.client
import json
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.local.cluster_rig import APPLY, ROLE, STRATEGIC, Cluster, Registry, running_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

RBAC = "/apis/rbac.authorization.k8s.io/v1"
CALLER = "arn:aws:sts::123456789012:assumed-role/releaser/lambda-1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), Registry("127.0.0.1:9")) as running:
        running.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "serving"}})
        for name in ("app", "other"):
            labels = {"app": name}
            spec = {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "server", "image": "127.0.0.1:9/a:b"}]},
                },
            }
            running.ok("POST", deployment("", ""), {"metadata": {"name": name}, "spec": spec})
        yield running


@pytest.fixture(autouse=True)
def _caller(cluster: Cluster) -> Iterator[None]:
    cluster.sts.caller = CALLER
    cluster.sts.seen.clear()
    entry = {
        "principal_arn": "arn:aws:iam::123456789012:role/path/releaser",
        "kubernetes_groups": ["releasers"],
    }
    cluster.ok("POST", "/_local/access-entries", entry)
    yield
    cluster.call("DELETE", "/_local/access-entries", {"principal_arn": ROLE})
    for plural in ("roles", "rolebindings"):
        cluster.call("DELETE", f"{RBAC}/namespaces/serving/{plural}/release")


def deployment(name: str = "app", slash: str = "/", namespace: str = "serving") -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments{slash}{name}"


def grant(cluster: Cluster, *rules: dict[str, Any], group: str = "releasers") -> None:
    base = f"{RBAC}/namespaces/serving"
    cluster.ok("POST", f"{base}/roles", {"metadata": {"name": "release"}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "release"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}]
    body = {"metadata": {"name": "release"}, "roleRef": reference, "subjects": subjects}
    cluster.ok("POST", f"{base}/rolebindings", body)


RELEASE = {
    "apiGroups": ["apps"],
    "resources": ["deployments"],
    "resourceNames": ["app"],
    "verbs": ["get", "patch"],
}
PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", deployment(), 200),
        ("PATCH", deployment(), 200),
        ("GET", "/api/v1/namespaces/serving/pods", 200),
        ("GET", deployment("other"), 403),
        ("GET", deployment("", ""), 403),
        ("GET", deployment() + "/status", 403),
        ("DELETE", deployment(), 403),
        ("GET", "/api/v1/namespaces/serving/pods/x", 403),
        ("GET", "/api/v1/pods", 403),
        ("GET", deployment(namespace="default"), 403),
        ("GET", "/api/v1/namespaces/serving/secrets", 403),
        ("GET", "/_local/state", 403),
        ("POST", "/_local/access-entries", 403),
    ],
)
def test_a_role_allows_what_it_says_and_no_more(
    cluster: Cluster, method: str, path: str, status: int
) -> None:
    grant(cluster, RELEASE, PODS)
    body = {} if method in {"PATCH", "POST"} else None
    code, answer = cluster.call(method, path, body, token=cluster.sts.token(), kind=STRATEGIC)
    assert code == status, answer


def test_the_words_of_a_refusal(cluster: Cluster) -> None:
    code, answer = cluster.call("PATCH", deployment(), {}, token=cluster.sts.token(), kind=STRATEGIC)
    assert (code, answer["kind"], answer["reason"]) == (403, "Status", "Forbidden")
    assert answer["message"] == (
        f'deployments.apps "app" is forbidden: User "{CALLER}" cannot patch resource "deployments" '
        'in API group "apps" in the namespace "serving"'
    )


def test_a_binding_for_another_group_allows_nothing(cluster: Cluster) -> None:
    grant(cluster, RELEASE, group="others")
    assert cluster.call("GET", deployment(), token=cluster.sts.token())[0] == 403


def test_a_cluster_role_by_role_binding_holds_in_its_namespace_only(cluster: Cluster) -> None:
    cluster.ok(
        "POST",
        f"{RBAC}/clusterroles",
        {"metadata": {"name": "all"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]},
    )
    body = {
        "metadata": {"name": "release"},
        "roleRef": {"kind": "ClusterRole", "name": "all"},
        "subjects": [{"kind": "User", "name": CALLER}],
    }
    cluster.ok("POST", f"{RBAC}/namespaces/serving/rolebindings", body)
    assert cluster.call("GET", deployment(), token=cluster.sts.token())[0] == 200
    assert cluster.call("GET", deployment(namespace="default"), token=cluster.sts.token())[0] == 403


def test_without_access_entry_nobody_is_known(cluster: Cluster) -> None:
    grant(cluster, RELEASE)
    assert cluster.call("GET", deployment(), token=cluster.sts.token())[0] == 200
    cluster.ok("DELETE", "/_local/access-entries", {"principal_arn": ROLE})
    assert cluster.call("GET", deployment(), token=cluster.sts.token())[0] == 401


def test_an_entry_may_name_the_user(cluster: Cluster) -> None:
    entry = {"principal_arn": ROLE, "kubernetes_groups": [], "username": "release:{{SessionName}}"}
    cluster.ok("POST", "/_local/access-entries", entry)
    answer = cluster.call("GET", deployment(), token=cluster.sts.token())[1]
    assert 'User "release:lambda-1"' in answer["message"]


def expired() -> str:
    return (datetime.now(UTC) - timedelta(minutes=16)).strftime("%Y%m%dT%H%M%SZ")


@pytest.mark.parametrize(
    "changed",
    [
        {"url": "http://127.0.0.1:1"},
        {"url": "https://sts.amazonaws.com"},
        {"signed": "host"},
        {"Action": "AssumeRole"},
        {"X_Amz_Date": expired()},
        {"X_Amz_Date": "yesterday"},
        {"X_Amz_Expires": "901"},
        {"RoleArn": "arn:aws:iam::123456789012:role/admin"},
        {"action": "GetCallerIdentity"},
    ],
)
def test_a_token_that_is_not_exactly_right_reaches_no_one(cluster: Cluster, changed: dict[str, str]) -> None:
    grant(cluster, RELEASE)
    code, answer = cluster.call("GET", deployment(), token=cluster.sts.token(**changed))
    assert (code, answer["message"]) == (401, "Unauthorized")
    assert cluster.sts.seen == []


def test_a_token_for_another_cluster_is_refused(cluster: Cluster) -> None:
    grant(cluster, RELEASE)
    cluster.ok("PUT", "/_local/cluster", {"name": "staging"})
    assert cluster.call("GET", deployment(), token=cluster.sts.token())[0] == 401
    cluster.ok("PUT", "/_local/cluster", {"name": "prod"})
    assert cluster.call("GET", deployment(), token=cluster.sts.token())[0] == 200


@pytest.mark.parametrize("token", ["wrong", "k8s-aws-v1.", "k8s-aws-v1.%%%", "k8s-aws-v1.aGVsbG8"])
def test_other_tokens_are_refused(cluster: Cluster, token: str) -> None:
    assert cluster.call("GET", deployment(), token=token)[0] == 401


def test_the_api_speaks_tls_only_by_its_own_authority(cluster: Cluster) -> None:
    host = urlsplit(cluster.facts["endpoint"]).netloc
    connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(), timeout=5)
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/")
    connection.close()
    assert (cluster.run_dir / "cluster.json").stat().st_mode & 0o777 == 0o600


def test_objects_of_any_kind_are_kept(cluster: Cluster) -> None:
    path = "/apis/autoscaling/v2/namespaces/serving/horizontalpodautoscalers"
    made = cluster.ok(
        "POST", path, {"metadata": {"name": "hpa", "labels": {"a": "b"}}, "spec": {"minReplicas": 2}}
    )
    assert (made["kind"], made["apiVersion"]) == ("HorizontalPodAutoscaler", "autoscaling/v2")
    assert made["metadata"]["generation"] == 1
    assert cluster.call("POST", path, made)[1]["reason"] == "AlreadyExists"

    applied = cluster.ok("PATCH", f"{path}/hpa", {"spec": {"minReplicas": 3}}, kind=APPLY)
    assert applied["metadata"]["generation"] == 2
    assert applied["metadata"]["uid"] == made["metadata"]["uid"]
    again = cluster.ok("PATCH", f"{path}/hpa", {"spec": {"minReplicas": 3}}, kind=APPLY)
    assert again["metadata"]["resourceVersion"] == applied["metadata"]["resourceVersion"]

    stale = cluster.call("PUT", f"{path}/hpa", made)
    assert (stale[0], stale[1]["reason"]) == (409, "Conflict")
    assert len(cluster.ok("GET", f"{path}?labelSelector=a+in+(b,c)")["items"]) == 1
    assert cluster.ok("GET", f"{path}?labelSelector=a!%3Db")["items"] == []
    cluster.ok("DELETE", f"{path}/hpa")
    gone = cluster.call("GET", f"{path}/hpa")
    assert (gone[0], gone[1]["message"]) == (404, 'horizontalpodautoscalers.autoscaling "hpa" not found')


def test_a_deleted_namespace_takes_its_objects_along(cluster: Cluster) -> None:
    for _ in range(2):
        cluster.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "short"}})
        path = "/api/v1/namespaces/short/serviceaccounts"
        assert cluster.ok("GET", path)["items"] == []
        cluster.ok("POST", path, {"metadata": {"name": "app"}})
        cluster.ok("DELETE", "/api/v1/namespaces/short")


def test_a_patch_changes_one_container_only(cluster: Cluster) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    containers = [{"name": "server", "env": env}]
    before = cluster.ok("GET", deployment())["metadata"]["generation"]
    body = {"spec": {"template": {"spec": {"containers": containers}}}}
    cluster.ok("PATCH", deployment(), body, kind=STRATEGIC)
    containers[0]["env"] = [{"name": "B", "value": "3"}, {"name": "A", "$patch": "delete"}]
    patched = cluster.ok("PATCH", deployment(), body, kind=STRATEGIC)
    assert patched["metadata"]["generation"] == before + 2
    server = patched["spec"]["template"]["spec"]["containers"][0]
    assert server == {"name": "server", "image": "127.0.0.1:9/a:b", "env": [{"name": "B", "value": "3"}]}


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status"),
    [
        ("POST", deployment("", ""), {"metadata": {"name": "x"}, "spec": {}}, "application/json", 422),
        ("POST", deployment("", ""), {"metadata": {}}, "application/json", 422),
        ("POST", deployment("", "", "nowhere"), {"metadata": {"name": "x"}}, "application/json", 422),
        ("POST", "/api/v1/namespaces/nowhere/services", {"metadata": {"name": "x"}}, "application/json", 404),
        ("PATCH", deployment(), {"spec": {"selector": {"matchLabels": {"app": "y"}}}}, STRATEGIC, 422),
        ("PATCH", deployment(), [{"op": "remove"}], "application/json-patch+json", 400),
        ("PATCH", deployment(), {}, "application/json", 415),
        ("PATCH", deployment(), {"metadata": {"resourceVersion": "1"}}, STRATEGIC, 409),
        ("PATCH", deployment("none"), {}, STRATEGIC, 404),
        ("PATCH", deployment() + "/status", {}, STRATEGIC, 405),
        ("GET", deployment() + "/scale", None, "application/json", 404),
        ("GET", "/healthz", None, "application/json", 404),
        ("GET", deployment("", "") + "?watch=true", None, "application/json", 400),
        ("GET", deployment("", "") + "?labelSelector=(", None, "application/json", 400),
        ("PUT", deployment("", ""), {}, "application/json", 405),
    ],
)
def test_wrong_requests_get_kubernetes_errors(
    cluster: Cluster, method: str, path: str, body: object, kind: str, status: int
) -> None:
    code, answer = cluster.call(method, path, body, kind=kind)
    assert (code, answer["code"], answer["status"]) == (status, status, "Failure"), json.dumps(answer)
