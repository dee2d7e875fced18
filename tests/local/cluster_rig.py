"""A cluster under test: the real processes, a registry with test images, and a fake STS."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
SERVER = (ROOT / "tests/local/cluster_server.py").read_bytes()
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
ROLE = "arn:aws:iam::123456789012:role/releaser"


def wait_until(what: str, test: Callable[[], T], timeout_s: float = 15) -> T:
    """The first true value of `test`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := test():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {what}")


def layer(files: Mapping[str, str | bytes]) -> bytes:
    """A tar layer that holds `files`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


class Registry:
    """A client of the registry that pushes test images."""

    def __init__(self, address: str) -> None:
        self.address = address

    def put_blob(self, repository: str, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        location = self._send("POST", f"/v2/{repository}/blobs/uploads/", b"").headers["Location"]
        parts = urlsplit(location)
        query = f"{parts.query}&" if parts.query else ""
        self._send("PUT", f"{parts.path}?{query}digest={quote(digest)}", data)
        return {"digest": digest, "size": len(data)}

    def push(
        self, repository: str, tag: str, layers: list[bytes], config: Mapping[str, Any] | None = None
    ) -> str:
        """Push an image by tag; its name by digest."""
        settings = config or {"Entrypoint": ["python", "-m", "tiny"], "WorkingDir": "/app"}
        diff_ids = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in layers]
        image = {"architecture": "arm64", "os": "linux", "config": settings}
        image["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
        kind = "application/vnd.oci.image"
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": self.put_blob(repository, json.dumps(image).encode())
            | {"mediaType": f"{kind}.config.v1+json"},
            "layers": [
                self.put_blob(repository, gzip.compress(each, mtime=0))
                | {"mediaType": f"{kind}.layer.v1.tar+gzip"}
                for each in layers
            ],
        }
        body = json.dumps(manifest).encode()
        self._send("PUT", f"/v2/{repository}/manifests/{tag}", body, f"{kind}.manifest.v1+json")
        return f"{self.address}/{repository}@sha256:{hashlib.sha256(body).hexdigest()}"

    def model(self, version: str, *, ready: str = "yes", repository: str = "serving", **files: str) -> str:
        """Push the test server with a model `version`; the image's name by digest."""
        model = {"version": version, "ready": ready} | files
        bundle = layer({f"opt/ml/model/{name}": content for name, content in model.items()})
        return self.push(repository, f"v-{version}", [layer({"app/tiny.py": SERVER}), bundle])

    def _send(self, method: str, path: str, body: bytes, kind: str = "application/octet-stream") -> Any:
        connection = http.client.HTTPConnection(self.address, timeout=10)
        connection.request(method, path, body, {"Content-Type": kind, "Content-Length": str(len(body))})
        response = connection.getresponse()
        text = response.read()
        assert response.status < 300, f"{method} {path}: {response.status} {text!r}"
        connection.close()
        return response


class Sts:
    """GetCallerIdentity for whom the test says; refuses a wrong cluster name as a wrong signature."""

    def __init__(self, cluster_name: str) -> None:
        self.caller = ""
        self.seen: list[str] = []
        sts = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sts.seen.append(self.path)
                fits = self.headers["x-k8s-aws-id"] == cluster_name
                inner = {"GetCallerIdentityResult": {"Arn": sts.caller}}
                body = json.dumps({"GetCallerIdentityResponse": inner} if fits else {}).encode()
                self.send_response(200 if fits else 403)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def token(self, *, url: str | None = None, signed: str = "host;x-k8s-aws-id", **changed: str) -> str:
        """A bearer token as the release function makes it."""
        query = {
            "Action": "GetCallerIdentity",
            "Version": "2011-06-15",
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": "ASIAEXAMPLE/20261123/us-east-1/sts/aws4_request",
            "X-Amz-Date": datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
            "X-Amz-Expires": "60",
            "X-Amz-SignedHeaders": signed,
            "X-Amz-Signature": "0" * 64,
        } | {name.replace("_", "-"): value for name, value in changed.items()}
        full = f"{url or self.url}/?{urlencode(query)}"
        return "k8s-aws-v1." + urlsafe_b64encode(full.encode()).decode().rstrip("=")


class Cluster:
    """A running `python -m local.cluster` and a client for it."""

    def __init__(self, run_dir: Path, process: subprocess.Popen[bytes], registry: Registry, sts: Sts) -> None:
        self.run_dir = run_dir
        self.process = process
        self.registry = registry
        self.sts = sts
        self.facts: dict[str, Any] = json.loads((run_dir / "cluster.json").read_text())
        self._tls = ssl.create_default_context(cadata=b64decode(self.facts["ca"]).decode())
        self._namespaces = 0

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        kind: str = "application/json",
    ) -> tuple[int, Any]:
        """One API request: status and decoded answer."""
        connection = http.client.HTTPSConnection(
            urlsplit(self.facts["endpoint"]).netloc, context=self._tls, timeout=10
        )
        headers = {"Authorization": f"Bearer {token or self.facts['admin_token']}", "Content-Type": kind}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        status, answer = response.status, json.loads(response.read())
        connection.close()
        return status, answer

    def ok(self, method: str, path: str, body: object = None, *, kind: str = "application/json") -> Any:
        """As `call`, for requests that must succeed."""
        status, answer = self.call(method, path, body, kind=kind)
        assert status < 300, answer
        return answer

    def namespace(self) -> Workload:
        """A new namespace."""
        self._namespaces += 1
        name = f"test-{self._namespaces}"
        self.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return Workload(self, name)

    def state(self) -> dict[str, Any]:
        return self.ok("GET", "/_local/state")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=10)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


class Workload:
    """One Deployment `app` and its Service in a namespace of its own."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.path = f"/apis/apps/v1/namespaces/{namespace}/deployments/app"

    def deploy(
        self, image: str, *, replicas: int = 2, container: Any = None, pod: Any = None, **spec: Any
    ) -> Any:
        labels = {"app": "app"}
        server = {
            "name": "server",
            "image": image,
            "ports": [{"containerPort": 8080, "name": "http"}],
            "readinessProbe": {"httpGet": {"path": "/ping", "port": "http"}, "periodSeconds": 1},
        } | (container or {})
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "app"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [server], "terminationGracePeriodSeconds": 5} | (pod or {}),
                },
            }
            | spec,
        }
        return self.cluster.ok("POST", self.path.rpartition("/")[0], body)

    def serve(self) -> str:
        """Make the Service; its URL."""
        spec = {"selector": {"app": "app"}, "ports": [{"port": 8080, "targetPort": "http"}]}
        body = {"metadata": {"name": "app"}, "spec": spec}
        self.cluster.ok("POST", f"/api/v1/namespaces/{self.namespace}/services", body)
        key = f"{self.namespace}/app"
        return wait_until("the Service has a port", lambda: self.cluster.state()["services"].get(key))

    def set_image(self, image: str) -> None:
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "server", "image": image}]}}}}
        self.cluster.ok("PATCH", self.path, patch, kind=STRATEGIC)

    def get(self) -> Any:
        return self.cluster.ok("GET", self.path)

    def pods(self) -> list[Any]:
        return self.cluster.ok("GET", f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=app%3Dapp")[
            "items"
        ]

    def waiting(self, reason: str) -> dict[str, Any]:
        """The status of the container that waits for `reason`, with its message; when it does at last."""

        def find() -> dict[str, Any]:
            statuses = [status for pod in self.pods() for status in pod["status"]["containerStatuses"]]
            return next((s for s in statuses if s["state"].get("waiting", {}).get("reason") == reason), {})

        return wait_until(f"a container waits for {reason}", find)

    def rolled_out(self) -> bool:
        deployment = self.get()
        status, replicas = deployment.get("status") or {}, deployment["spec"]["replicas"]
        return (
            status.get("observedGeneration") == deployment["metadata"]["generation"]
            and status["updatedReplicas"] == status["replicas"] == status["availableReplicas"] == replicas
        )

    def wait(self) -> None:
        wait_until("rolled out", self.rolled_out)

    def condition(self, kind: str) -> dict[str, str]:
        conditions = (self.get().get("status") or {}).get("conditions") or []
        return next((item for item in conditions if item["type"] == kind), {})

    def events(self) -> list[dict[str, Any]]:
        return [event for event in self.cluster.state()["events"] if event.get("namespace") == self.namespace]


def fetch(url: str, path: str = "/", body: bytes | None = None) -> tuple[int, Any]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request("GET" if body is None else "POST", path, body)
    response = connection.getresponse()
    status, answer = response.status, json.loads(response.read())
    connection.close()
    return status, answer


def start(run_dir: Path, registry: str, aws_endpoint: str, *options: str) -> subprocess.Popen[bytes]:
    """Start the cluster's process; it may not be ready yet."""
    run_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "local.cluster", "--run-dir", str(run_dir), "--registry", registry]
    command += ["--aws-endpoint", aws_endpoint, "--cluster-name", "prod", "--back-off", "0.1", *options]
    with (run_dir / "cluster.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


@contextmanager
def running_registry(run_dir: Path) -> Generator[Registry]:
    """A registry of its own."""
    run_dir.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "local.registry", "--run-dir", str(run_dir)], cwd=ROOT, env=dict(os.environ)
    )
    try:
        ready = wait_until("the registry is ready", lambda: _read(run_dir / "registry.json"))
        yield Registry(ready["url"])
    finally:
        process.terminate()
        process.wait(timeout=5)


@contextmanager
def running_cluster(run_dir: Path, registry: Registry, *options: str) -> Generator[Cluster]:
    """A cluster of its own with a fake STS."""
    sts = Sts("prod")
    process = start(run_dir, registry.address, sts.url, *options)
    try:
        wait_until(
            "the cluster is ready", lambda: _read(run_dir / "cluster.json") or process.poll() is not None
        )
        assert process.poll() is None, (run_dir / "cluster.log").read_text()
        yield Cluster(run_dir, process, registry, sts)
    finally:
        process.terminate()
        process.wait(timeout=10)
        sts.close()


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def caller_of(path: str) -> dict[str, list[str]]:
    """The query of a request that the fake STS saw."""
    return parse_qs(urlsplit(path).query)
