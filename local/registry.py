"""A small image registry: the part of the OCI distribution API that pushing, pulling and listing need.

`python -m local.registry --run-dir D` serves on 127.0.0.1 and keeps everything below `D/registry/`:
`blobs/sha256/<hex>`, and per repository `manifests/<hex>` (the media type in `<hex>.type`) and `tags/<tag>`.
Tags are immutable, as the program's ECR repositories have them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import threading
import uuid
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qs, urlsplit

from local.processes import log_to_file, serve_forever

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
_ROUTES = (
    ("ping", re.compile(r"/v2/?")),
    ("catalog", re.compile(r"/v2/_catalog")),
    ("tags", re.compile(rf"/v2/(?P<name>{_NAME})/tags/list")),
    ("upload", re.compile(rf"/v2/(?P<name>{_NAME})/blobs/uploads/(?P<reference>[0-9a-f-]*)")),
    ("blob", re.compile(rf"/v2/(?P<name>{_NAME})/blobs/(?P<reference>[^/]+)")),
    ("manifest", re.compile(rf"/v2/(?P<name>{_NAME})/manifests/(?P<reference>[^/]+)")),
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1 << 20
_MAX_MANIFEST_BYTES = 4 << 20


class RegistryError(Exception):
    """A request that cannot be served: HTTP status, the API's error code, and why."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Manifest(NamedTuple):
    """A stored manifest."""

    digest: str
    media_type: str
    body: bytes


class Store:
    """Blobs, manifests and tags in a folder. A file is complete as soon as it has its name."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs" / "sha256"
        self._uploads = folder / "uploads"
        self._repositories = folder / "repositories"
        for each in (self._blobs, self._uploads, self._repositories):
            each.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()

    def blob(self, digest: str) -> Path:
        """The file that holds a blob."""
        path = self._blobs / _hex(digest)
        if not path.is_file():
            raise RegistryError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", f"no blob {digest}")
        return path

    def start_upload(self) -> str:
        """Begin an upload; its name."""
        name = str(uuid.uuid4())
        (self._uploads / name).touch()
        return name

    def upload(self, name: str) -> Path:
        """The file of an upload that has begun."""
        path = self._uploads / name
        if not name or not path.is_file():
            raise RegistryError(HTTPStatus.NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", f"no upload {name!r}")
        return path

    def finish_upload(self, name: str, digest: str) -> None:
        """Keep what was uploaded, if it has this digest."""
        path = self.upload(name)
        wanted = _hex(digest)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != wanted:
            path.unlink()
            raise RegistryError(
                HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", f"the content is sha256:{found}, not {digest}"
            )
        path.replace(self._blobs / wanted)

    def manifest(self, name: str, reference: str) -> Manifest:
        """A manifest by tag or digest."""
        folder = self._repositories / name
        digest = reference
        if not _DIGEST.fullmatch(reference):
            tag = folder / "tags" / reference
            if not _TAG.fullmatch(reference) or not tag.is_file():
                raise RegistryError(
                    HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"{name} has no tag {reference!r}"
                )
            digest = tag.read_text()
        path = folder / "manifests" / _hex(digest)
        if not path.is_file():
            raise RegistryError(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"{name} has no manifest {digest}")
        return Manifest(digest, path.with_suffix(".type").read_text(), path.read_bytes())

    def put_manifest(self, name: str, reference: str, media_type: str, body: bytes) -> str:
        """Store a manifest whose parts are here, tag it if `reference` is a tag; its digest."""
        self._check_parts(name, body)
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        folder = self._repositories / name
        is_digest = _DIGEST.fullmatch(reference) is not None
        if is_digest and reference != digest:
            raise RegistryError(
                HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", f"the content is {digest}, not {reference}"
            )
        if not is_digest and not _TAG.fullmatch(reference):
            raise RegistryError(HTTPStatus.BAD_REQUEST, "TAG_INVALID", f"not a tag: {reference!r}")
        with self._lock:
            tag = folder / "tags" / reference
            if not is_digest and tag.is_file() and (present := tag.read_text()) != digest:
                raise RegistryError(
                    HTTPStatus.CONFLICT,
                    "TAG_INVALID",
                    f"tag {reference!r} of {name} is {present} and tags are immutable: refused {digest}",
                )
            path = folder / "manifests" / _hex(digest)
            _write(path.with_suffix(".type"), media_type.encode())
            _write(path, body)
            if not is_digest:
                _write(tag, digest.encode())
        return digest

    def tags(self, name: str) -> list[str]:
        """The tags of a repository, sorted."""
        folder = self._repositories / name
        if not folder.is_dir():
            raise RegistryError(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", f"no repository {name!r}")
        return sorted(path.name for path in (folder / "tags").glob("*") if _TAG.fullmatch(path.name))

    def repositories(self) -> list[str]:
        """The names of all repositories, sorted."""
        return sorted(
            str(path.parent.relative_to(self._repositories)) for path in self._repositories.rglob("manifests")
        )

    def _check_parts(self, name: str, body: bytes) -> None:
        try:
            manifest: dict[str, Any] = json.loads(body)
            blobs = [part["digest"] for part in [manifest.get("config"), *manifest.get("layers", [])] if part]
            children = [part["digest"] for part in manifest.get("manifests", [])]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(
                HTTPStatus.BAD_REQUEST, "MANIFEST_INVALID", f"not a manifest: {error!r}"
            ) from error
        for digest in blobs:
            if not (self._blobs / _hex(digest)).is_file():
                raise RegistryError(HTTPStatus.BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", f"no blob {digest}")
        for digest in children:
            self.manifest(name, digest)


def _hex(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise RegistryError(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", f"not a sha256 digest: {digest!r}")
    return digest.removeprefix("sha256:")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}")
    temporary.write_bytes(data)
    temporary.replace(path)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    @property
    def _store(self) -> Store:
        return cast("Server", self.server).store

    def _serve(self) -> None:
        self._unread = int(self.headers.get("Content-Length") or 0)
        try:
            self._dispatch()
        except RegistryError as error:
            self._drain()
            body = json.dumps({"errors": [{"code": error.code, "message": str(error)}]}).encode()
            self._answer(error.status, body, {"Content-Type": "application/json"})

    def _dispatch(self) -> None:
        address = urlsplit(self.path)
        self._query = {key: values[0] for key, values in parse_qs(address.query).items()}
        method = "get" if self.command == "HEAD" else self.command.lower()
        for route, pattern in _ROUTES:
            if found := pattern.fullmatch(address.path):
                action = getattr(self, f"_{method}_{route}", None)
                if action is None:
                    what = f"{self.command} {address.path}"
                    raise RegistryError(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", what)
                action(**found.groupdict())
                return
        raise RegistryError(HTTPStatus.NOT_FOUND, "NAME_INVALID", f"no such address: {address.path}")

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815

    def _get_ping(self) -> None:
        self._answer(HTTPStatus.OK, b"{}", {"Content-Type": "application/json"})

    def _get_catalog(self) -> None:
        self._json({"repositories": self._store.repositories()})

    def _get_tags(self, name: str) -> None:
        self._json({"name": name, "tags": self._store.tags(name)})

    def _get_blob(self, name: str, reference: str) -> None:
        del name
        path = self._store.blob(reference)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(path.stat().st_size))
        self.send_header("Docker-Content-Digest", reference)
        self.end_headers()
        if self.command != "HEAD":
            with path.open("rb") as file:
                shutil.copyfileobj(file, self.wfile, _CHUNK)

    def _post_upload(self, name: str, reference: str) -> None:
        if reference:
            raise RegistryError(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "POST to an upload")
        store = self._store
        if "mount" in self._query:
            # All repositories share their blobs.
            digest = self._query["mount"]
            try:
                store.blob(digest)
            except RegistryError:
                pass
            else:
                self._created(f"/v2/{name}/blobs/{digest}", digest)
                return
        upload = store.start_upload()
        if "digest" in self._query:
            self._receive(store.upload(upload))
            self._finish(name, upload)
            return
        self._drain()
        self._accepted(name, upload)

    def _patch_upload(self, name: str, reference: str) -> None:
        self._receive(self._store.upload(reference))
        self._accepted(name, reference)

    def _put_upload(self, name: str, reference: str) -> None:
        self._receive(self._store.upload(reference))
        self._finish(name, reference)

    def _get_upload(self, name: str, reference: str) -> None:
        self._store.upload(reference)
        self._accepted(name, reference, HTTPStatus.NO_CONTENT)

    def _get_manifest(self, name: str, reference: str) -> None:
        found = self._store.manifest(name, reference)
        headers = {"Content-Type": found.media_type, "Docker-Content-Digest": found.digest}
        self._answer(HTTPStatus.OK, found.body, headers)

    def _put_manifest(self, name: str, reference: str) -> None:
        if self._unread > _MAX_MANIFEST_BYTES:
            raise RegistryError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "SIZE_INVALID", "manifest too large")
        body = b"".join(self._pieces())
        media_type = self.headers.get("Content-Type") or "application/vnd.oci.image.manifest.v1+json"
        digest = self._store.put_manifest(name, reference, media_type, body)
        self._created(f"/v2/{name}/manifests/{digest}", digest)

    def _finish(self, name: str, upload: str) -> None:
        digest = self._query.get("digest", "")
        self._store.finish_upload(upload, digest)
        self._created(f"/v2/{name}/blobs/{digest}", digest)

    def _created(self, location: str, digest: str) -> None:
        self._drain()
        self._answer(HTTPStatus.CREATED, b"", {"Location": location, "Docker-Content-Digest": digest})

    def _accepted(self, name: str, upload: str, status: HTTPStatus = HTTPStatus.ACCEPTED) -> None:
        size = self._store.upload(upload).stat().st_size
        headers = {"Location": f"/v2/{name}/blobs/uploads/{upload}", "Docker-Upload-UUID": upload}
        self._answer(status, b"", headers | {"Range": f"0-{max(0, size - 1)}"})

    def _receive(self, path: Path) -> None:
        with path.open("ab") as file:
            for piece in self._pieces():
                file.write(piece)

    def _pieces(self) -> Iterator[bytes]:
        """The request's body; clients send a length or chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        while self._unread:
            piece = self.rfile.read(min(self._unread, _CHUNK))
            if not piece:
                raise ConnectionError("the client went away")
            self._unread -= len(piece)
            yield piece

    def _drain(self) -> None:
        while self._unread and (piece := self.rfile.read(min(self._unread, _CHUNK))):
            self._unread -= len(piece)

    def _json(self, value: object) -> None:
        self._answer(HTTPStatus.OK, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Docker-Distribution-Api-Version": "registry/2.0"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log writes and refusals only."""
        if self.command not in {"GET", "HEAD"} or str(args[1:2]) >= "('4":
            super().log_message(format, *args)


class Server(ThreadingHTTPServer):
    """The registry's HTTP server, on 127.0.0.1."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, store: Store, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.store = store

    @property
    def url(self) -> str:
        """`HOST:PORT`, as image names begin with it."""
        return f"127.0.0.1:{self.server_port}"


def main() -> int:
    """Serve until SIGTERM; `D/registry.json` tells where."""
    parser = argparse.ArgumentParser(prog="python -m local.registry", description="Serve an image registry.")
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    run_dir: Path = arguments.run_dir.resolve()
    log_to_file(run_dir, "registry")
    server = Server(Store(run_dir / "registry"), arguments.port)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    serve_forever(run_dir, "registry", {"url": server.url}, server.shutdown)
    os._exit(0)


if __name__ == "__main__":
    main()
