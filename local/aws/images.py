"""ECR: repositories are those of the image registry, and the API tells what that holds."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from typing import Any
from urllib.parse import urljoin

import urllib3

from local.aws.hooks import Hook

log = logging.getLogger(__name__)

REPOSITORY = Hook(
    "moto.ecr.models:Repository.__init__",
    "self account_id region_name repository_name registry_id encryption_config image_scan_config "
    "image_tag_mutability image_tag_mutability_exclusion_filters",
)
DESCRIBE = Hook("moto.ecr.models:ECRBackend.describe_images", "self repository_name registry_id image_ids")
LIST = Hook("moto.ecr.models:ECRBackend.list_images", "self repository_name registry_id tag_status")
GET = Hook("moto.ecr.models:ECRBackend.batch_get_image", "self repository_name registry_id image_ids")
HOOKS = (REPOSITORY, DESCRIBE, LIST, GET)

_MEDIA_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


class RegistryClient:
    """Pushes to and reads from the image registry."""

    def __init__(self, host: str) -> None:
        self._base = f"http://{host}/v2/"
        self._pool = urllib3.PoolManager(retries=urllib3.Retry(2, redirect=0), timeout=30.0)

    def tags(self, name: str) -> list[str]:
        """The tags of a repository; none if nothing was ever pushed to it."""
        answer = self._pool.request("GET", f"{self._base}{name}/tags/list")
        return [] if answer.status == 404 else json.loads(_checked(answer).data)["tags"] or []

    def manifest(self, name: str, reference: str) -> tuple[str, str, str] | None:
        """(digest, media type, JSON text) of a manifest, or None."""
        headers = {"Accept": ", ".join(_MEDIA_TYPES)}
        answer = self._pool.request("GET", f"{self._base}{name}/manifests/{reference}", headers=headers)
        if answer.status == 404:
            return None
        found = _checked(answer)
        return found.headers["Docker-Content-Digest"], found.headers["Content-Type"], found.data.decode()

    def push_blob(self, name: str, data: bytes) -> str:
        """Upload a blob; its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        begun = _checked(self._pool.request("POST", f"{self._base}{name}/blobs/uploads/"))
        location = urljoin(self._base, begun.headers["Location"])
        _checked(self._pool.request("PUT", f"{location}?digest={digest}", body=data))
        return digest

    def push_manifest(self, name: str, reference: str, manifest: dict[str, Any]) -> str:
        """Upload a manifest under a tag; its digest."""
        body = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
        answer = self._pool.request(
            "PUT",
            f"{self._base}{name}/manifests/{reference}",
            body=body,
            headers={"Content-Type": manifest["mediaType"]},
        )
        return _checked(answer).headers["Docker-Content-Digest"]


def _checked(answer: urllib3.BaseHTTPResponse) -> urllib3.BaseHTTPResponse:
    if answer.status >= 400:
        raise RuntimeError(
            f"the registry answers {answer.status}: {answer.data[:500].decode(errors='replace')}"
        )
    return answer


def install(registry: str) -> None:
    """Give repositories the registry's address, and look there for images."""
    client = RegistryClient(registry)
    lock = threading.Lock()

    def create(self: Any, *args: Any, **named: Any) -> None:
        original_create(self, *args, **named)
        self.uri = f"{registry}/{self.name}"

    def refresh(backend: Any, name: str) -> None:
        if name in backend.repositories:
            with lock:
                _refresh(client, backend.repositories[name])

    def describe(self: Any, repository_name: str, *args: Any, **named: Any) -> Any:
        refresh(self, repository_name)
        return original_describe(self, repository_name, *args, **named)

    def list_images(self: Any, repository_name: str, *args: Any, **named: Any) -> Any:
        refresh(self, repository_name)
        return original_list(self, repository_name, *args, **named)

    def get(self: Any, repository_name: str, *args: Any, **named: Any) -> Any:
        refresh(self, repository_name)
        return original_get(self, repository_name, *args, **named)

    original_create = REPOSITORY.install(create)
    original_describe = DESCRIBE.install(describe)
    original_list = LIST.install(list_images)
    original_get = GET.install(get)


def _refresh(client: RegistryClient, repository: Any) -> None:
    """Add the images that were pushed since. Tags never move, so what is known stays right."""
    from moto.ecr.models import Image

    known = {tag for image in repository.images for tag in image.image_tags}
    by_digest = {image.get_image_digest(): image for image in repository.images}
    for tag in client.tags(repository.name):
        if tag in known or (found := client.manifest(repository.name, tag)) is None:
            continue
        digest, media_type, text = found
        if digest in by_digest:
            by_digest[digest].update_tag(tag)
            continue
        image = Image(
            repository.account_id,
            tag=tag,
            manifest=text,
            repository=repository.name,
            image_manifest_mediatype=media_type,
            digest=digest,
        )
        by_digest[digest] = image
        repository.images.append(image)
