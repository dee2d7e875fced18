"""The few calls to a cluster's API that a release makes, as the identity of this function."""

import base64
import json
import ssl
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import urllib3

from common.aws import Client, error_code
from common.errors import Forbidden, NotReady

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest

_TOKEN_S = 300
_MERGE = "application/strategic-merge-patch+json"
_MANAGER = "trainserve-release"


class ClusterError(Exception):
    """The cluster answered something else than success."""


class Kubernetes:
    """A cluster's API at `endpoint`, trusted by its own certificate authority (PEM text)."""

    def __init__(self, endpoint: str, authority: str, token: Callable[[], str]) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._http = urllib3.PoolManager(
            ssl_context=_trust(authority),
            timeout=urllib3.Timeout(connect=5, read=30),
            retries=urllib3.Retry(total=2, backoff_factor=0.2, redirect=0, allowed_methods={"GET"}),
        )

    def deployment(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a Deployment; raises NotReady where there is none yet."""
        return self._call("GET", _deployment(namespace, name))

    def patch_deployment(self, namespace: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Apply a strategic merge patch and return the Deployment."""
        path = f"{_deployment(namespace, name)}?{urlencode({'fieldManager': _MANAGER})}"
        return self._call("PATCH", path, json.dumps(patch).encode())

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the pods that have all of these labels."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods?{urlencode({'labelSelector': selector})}"
        return self._call("GET", path).get("items") or []

    def _call(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = _MERGE
        response = self._http.request(method, f"{self._endpoint}{path}", headers=headers, body=body)
        if response.status in {200, 201}:
            return response.json()
        where = f"cluster: {method} {path.partition('?')[0]}: {response.status} {_message(response.data)}"
        if response.status in {401, 403}:
            raise Forbidden(where)
        raise NotReady(where) if response.status == 404 else ClusterError(where)


def connect(eks: Client, sts: Callable[[], Client], cluster: str) -> Kubernetes:
    """Return the client of an EKS cluster; raises NotReady until the cluster is there."""
    try:
        found = eks.describe_cluster(name=cluster)["cluster"]
    except eks.exceptions.ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            raise NotReady(f"cluster {cluster}: not there yet") from error
        raise
    if not found.get("endpoint") or not found.get("certificateAuthority", {}).get("data"):
        raise NotReady(f"cluster {cluster}: {found.get('status', 'has no endpoint yet')}")
    authority = base64.b64decode(found["certificateAuthority"]["data"]).decode()
    return Kubernetes(found["endpoint"], authority, Token(sts, cluster))


class Token:
    """A bearer token of this process's AWS identity for one cluster, renewed in time."""

    def __init__(self, sts: Callable[[], Client], cluster: str) -> None:
        self._sts = sts
        self._cluster = cluster
        self._value = ""
        self._expires = 0.0

    def __call__(self) -> str:
        """Return a token that is valid now."""
        if time.monotonic() >= self._expires:
            self._value = _presign(self._sts(), self._cluster)
            self._expires = time.monotonic() + _TOKEN_S
        return self._value


def _presign(sts: Client, cluster: str) -> str:
    """Return a presigned GetCallerIdentity, bound to the cluster by a signed header, as a token."""

    def name_the_cluster(request: "AWSRequest", **_: object) -> None:
        request.headers["x-k8s-aws-id"] = cluster

    event, events = "before-sign.sts.GetCallerIdentity", sts.meta.events
    events.register(event, name_the_cluster)
    try:
        url: str = sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
    finally:
        events.unregister(event, name_the_cluster)
    return "k8s-aws-v1." + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def _trust(authority: str) -> ssl.SSLContext:
    """Return a context that trusts this authority alone."""
    context = ssl.create_default_context(cadata=authority)
    # From Python 3.13 on the default is strict, and EKS's authorities lack the key identifiers that it wants.
    # Chain, dates and host name are checked all the same.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _deployment(namespace: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{quote(namespace, safe='')}/deployments/{quote(name, safe='')}"


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
