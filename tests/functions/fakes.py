"""Small real servers: an OCI registry, and the part of a cluster's API that releases use."""

import hashlib
import json
import re
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet per answer: two would wait for each other's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    fake: Any

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, headers, answer = self.fake.answer(self.command, self.path, dict(self.headers), body)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class _Fake:
    """A server on a free port, of which `answer` is the whole behaviour."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class FakeRegistry(_Fake):
    """The distribution API of one repository, in memory."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.tags: dict[str, str] = {}
        self.broken: int | None = None
        super().__init__()

    @property
    def uri(self) -> str:
        return f"127.0.0.1:{self.port}/server"

    def add_image(
        self,
        tag: str,
        media_type: str,
        layer_type: str,
        architecture: str = "amd64",
        content: bytes = b"server",
    ) -> str:
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["python", "-m", "serving"], "Labels": {"kept": "yes"}},
            "rootfs": {"type": "layers", "diff_ids": [sha256(content)]},
        }
        document = json.dumps(config).encode()
        self.blobs |= {sha256(document): document, sha256(content): content}
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {"mediaType": "application/x", "digest": sha256(document), "size": len(document)},
            "layers": [{"mediaType": layer_type, "digest": sha256(content), "size": len(content)}],
        }
        return self.add_manifest(tag, media_type, manifest)

    def add_manifest(self, tag: str, media_type: str, manifest: dict[str, Any]) -> str:
        body = json.dumps(manifest).encode()
        self.manifests[sha256(body)] = (media_type, body)
        self.tags[tag] = sha256(body)
        return sha256(body)

    def image(self, reference: str) -> tuple[dict[str, Any], dict[str, Any]]:
        manifest = json.loads(self.manifests[self.tags.get(reference, reference)][1])
        return manifest, json.loads(self.blobs[manifest["config"]["digest"]])

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        self.requests.append((method, path))
        self.headers.append(headers)
        if self.broken:
            return self.broken, {}, b"no"
        if match := re.fullmatch(r"/v2/server/manifests/(.+)", path):
            return self._manifest(method, match[1], headers, body)
        return self._blob(method, path, body)

    def _blob(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if method == "POST" and path == "/v2/server/blobs/uploads/":
            return 202, {"Location": "/v2/server/blobs/uploads/1?state=x"}, b""
        if method == "PUT" and path.startswith("/v2/server/blobs/uploads/1"):
            digest = parse_qs(urlsplit(path).query)["digest"][0]
            if digest != sha256(body):
                return 400, {}, b"digest"
            self.blobs[digest] = body
            return 201, {}, b""
        found = self.blobs.get(path.removeprefix("/v2/server/blobs/"))
        return (404, {}, b"") if found is None else (200, {}, found)

    def _manifest(
        self, method: str, reference: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if method == "PUT":
            document = json.loads(body)
            wanted = [document["config"]["digest"], *(layer["digest"] for layer in document["layers"])]
            if any(digest not in self.blobs for digest in wanted):
                return 400, {}, b"MANIFEST_BLOB_UNKNOWN"
            if self.tags.get(reference, sha256(body)) != sha256(body):
                return 400, {}, b"TAG_INVALID: immutable"
            self.manifests[sha256(body)] = (headers["Content-Type"], body)
            self.tags[reference] = sha256(body)
            return 201, {"Docker-Content-Digest": sha256(body)}, b""
        found = self.manifests.get(self.tags.get(reference, reference))
        if found is None:
            return 404, {}, b"{}"
        return 200, {"Content-Type": found[0], "Docker-Content-Digest": sha256(found[1])}, found[1]


class FakeCluster(_Fake):
    """One Deployment whose rollouts end as `behaviour` says: healthy, stuck or crashing."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.behaviour = "healthy"
        self.first_image = "registry/server:1234"
        self.forbidden = False
        self._good: set[str] = set()
        self.patches: list[dict[str, Any]] = []
        self.object: dict[str, Any] | None = {
            "metadata": {"name": "flights", "generation": 1, "resourceVersion": "1", "annotations": {}},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "flights"}},
                "template": {"spec": {"containers": [{"name": "server", "image": self.first_image}]}},
            },
        }
        super().__init__(tls)

    @property
    def image(self) -> str:
        assert self.object is not None
        return self.object["spec"]["template"]["spec"]["containers"][0]["image"]

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        self.requests.append((method, path))
        self.headers.append(headers)
        if self.forbidden or not headers.get("Authorization", "").startswith("Bearer "):
            return 403, {}, b'{"message":"deployments.apps is forbidden"}'
        if path.startswith("/api/v1/namespaces/models/pods?"):
            return 200, {}, json.dumps({"items": self._pods()}).encode()
        if (
            urlsplit(path).path != "/apis/apps/v1/namespaces/models/deployments/flights"
            or self.object is None
        ):
            return 404, {}, b'{"message":"not found"}'
        if method == "PATCH":
            assert headers["Content-Type"] == "application/strategic-merge-patch+json"
            return self._patch(json.loads(body))
        return 200, {}, json.dumps({**self.object, "status": self._status()}).encode()

    def _patch(self, patch: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        assert self.object is not None
        metadata = self.object["metadata"]
        if patch["metadata"].get("resourceVersion") not in {None, metadata["resourceVersion"]}:
            return 409, {}, b'{"message":"the object has been modified"}'
        self.patches.append(patch)
        annotations = metadata["annotations"] | patch["metadata"]["annotations"]
        metadata["annotations"] = {k: v for k, v in annotations.items() if v is not None}
        metadata["generation"] += 1
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
        container = patch["spec"]["template"]["spec"]["containers"][0]
        self.object["spec"]["template"]["spec"]["containers"][0]["image"] = container["image"]
        if self.behaviour == "healthy":
            self._good.add(container["image"])
        return 200, {}, json.dumps({**self.object, "status": self._status()}).encode()

    def _status(self) -> dict[str, Any]:
        assert self.object is not None
        generation = self.object["metadata"]["generation"]
        done = self.image in self._good or "@" not in self.image
        # Before the first release the pods have no model: never available.
        available = 0 if "@" not in self.image else 2
        if done:
            counts = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": available}
            return {"observedGeneration": generation, "availableReplicas": available, **counts}
        return {"observedGeneration": generation, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 2}

    def _pods(self) -> list[dict[str, Any]]:
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off"}
        last = {"terminated": {"reason": "Error", "exitCode": 3, "message": "golden predictions differ"}}
        crashing = {"restartCount": 5, "state": {"waiting": waiting}, "lastState": last}
        running = {"restartCount": 0, "state": {"running": {}}}
        status = {"name": "server", "ready": self.behaviour == "healthy"}
        status |= crashing if self.behaviour == "crashing" else running
        containers = [{"name": "server", "image": self.image}]
        return [
            {
                "metadata": {"name": "flights-1"},
                "spec": {"containers": containers},
                "status": {"containerStatuses": [status]},
            }
        ]


def make_certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    """Return a server's TLS context for 127.0.0.1 and its certificate as PEM text."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake cluster")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(days=1))
    builder = builder.not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, pem.decode()
