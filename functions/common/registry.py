"""A client of one repository in an OCI registry (ECR, or any that speaks the distribution API)."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlencode, urljoin

import urllib3

from common.aws import Client
from common.errors import Forbidden

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
_ACCEPT = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"
# What is kept in memory: manifests and image configurations, never layers.
_DOCUMENT_BYTES = 8 << 20


class RegistryError(Exception):
    """The registry answered something else than the protocol says."""


class Registry:
    """One repository; `authorization` returns the header's value, or None where none is needed."""

    def __init__(self, repository_uri: str, authorization: Callable[[], str | None]) -> None:
        host, _, self._name = repository_uri.partition("/")
        local = host.partition(":")[0] in {"127.0.0.1", "localhost"}
        self._base = f"{'http' if local else 'https'}://{host}/v2/{self._name}"
        self._authorization = authorization
        self._header: str | None = None
        self._asked = False
        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=5, read=60),
            retries=urllib3.Retry(total=3, backoff_factor=0.2, redirect=3, allowed_methods={"GET", "HEAD"}),
        )

    def manifest(self, reference: str) -> tuple[dict[str, Any], str, str] | None:
        """Return a manifest or index with its media type and digest; None where there is none."""
        response = self._call("GET", f"/manifests/{reference}", {200, 404}, headers={"Accept": _ACCEPT})
        if response.status == 404:
            return None
        digest = _sha256(response.data)
        if reference.startswith("sha256:") and digest != reference:
            raise RegistryError(f"{self._name}@{reference}: the registry sent {digest}")
        document = _document(response.data, reference)
        kind = document.get("mediaType") or response.headers.get("Content-Type", "")
        return document, str(kind).partition(";")[0], digest

    def tag(self, tag: str) -> str | None:
        """Return the digest that a tag names."""
        response = self._call("HEAD", f"/manifests/{tag}", {200, 404}, headers={"Accept": _ACCEPT})
        return response.headers.get("Docker-Content-Digest") if response.status == 200 else None

    def config(self, digest: str) -> dict[str, Any]:
        """Return an image's configuration, checked against its digest."""
        data = self._call("GET", f"/blobs/{digest}", {200}).data
        if _sha256(data) != digest:
            raise RegistryError(f"{self._name}: blob {digest}: the registry sent other content")
        return _document(data, digest)

    def push_blob(self, digest: str, content: bytes | Path) -> None:
        """Upload a blob, unless it is there."""
        if self._call("HEAD", f"/blobs/{digest}", {200, 404}).status == 200:
            return
        start = self._call("POST", "/blobs/uploads/", {202}, body=b"")
        location = urljoin(f"{self._base}/", start.headers["Location"])
        address = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': digest})}"
        headers = {"Content-Type": "application/octet-stream"}
        if isinstance(content, bytes):
            self._call("PUT", address, {201}, headers=headers, body=content)
        else:
            headers["Content-Length"] = str(content.stat().st_size)
            with content.open("rb") as file:
                self._call("PUT", address, {201}, headers=headers, body=file)

    def push_manifest(self, tag: str, body: bytes, media_type: str) -> str:
        """Store a manifest under a tag and return its digest; a tag that names another one is an error."""
        digest = _sha256(body)
        found = self.tag(tag)
        if found is None:
            self._call("PUT", f"/manifests/{tag}", {201}, headers={"Content-Type": media_type}, body=body)
            found = self.tag(tag)
        if found != digest:
            raise RegistryError(f"{self._name}:{tag} names {found}, not {digest}")
        return digest

    def _call(
        self,
        method: str,
        path: str,
        wanted: set[int],
        *,
        headers: dict[str, str] | None = None,
        body: bytes | IO[bytes] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        if not self._asked:
            self._header, self._asked = self._authorization(), True
        url = path if path.startswith("http") else f"{self._base}{path}"
        sent = dict(headers or {})
        # An upload's address may lie elsewhere: credentials go to the registry only.
        if self._header and url.startswith(self._base.removesuffix(f"/v2/{self._name}") + "/"):
            sent["Authorization"] = self._header
        response = self._http.request(method, url, headers=sent, body=body)
        if response.status in wanted:
            length = int(response.headers.get("Content-Length") or 0)
            if method == "GET" and length > _DOCUMENT_BYTES:
                raise RegistryError(
                    f"{method} {path}: {length} bytes, more than the {_DOCUMENT_BYTES} allowed"
                )
            return response
        where = f"registry: {method} {self._name}{path if path.startswith('/') else ' upload'}"
        problem = f"{where}: {response.status} {response.data[:200].decode(errors='replace')}"
        raise Forbidden(problem) if response.status in {401, 403} else RegistryError(problem)


def ecr_authorization(client: Client, repository_uri: str) -> str | None:
    """Return the Basic authorization for ECR; None for a registry on this machine."""
    if repository_uri.partition("/")[0].partition(":")[0] in {"127.0.0.1", "localhost"}:
        return None
    token = client.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    return f"Basic {token}"


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _document(data: bytes, reference: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise RegistryError(f"{reference}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise RegistryError(f"{reference}: want a JSON object")
    return document
