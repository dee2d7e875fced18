"""The registry, used as a client pushes and pulls an image."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from local.registry import Server, Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Client:
    """As much of a registry client as the tests need."""

    def __init__(self, host: str) -> None:
        self.base = f"http://{host}"
        self.pool = urllib3.PoolManager(retries=False)

    def __call__(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        address = path if path.startswith("http") else self.base + path
        return self.pool.request(method, address, **options)

    def push_blob(self, name: str, data: bytes) -> str:
        begun = self("POST", f"/v2/{name}/blobs/uploads/")
        assert begun.status == 202
        part = self("PATCH", begun.headers["Location"], body=data[: len(data) // 2])
        assert part.status == 202
        done = self(
            "PUT", f"{part.headers['Location']}?digest={digest_of(data)}", body=data[len(data) // 2 :]
        )
        assert done.status == 201, done.data
        return digest_of(data)

    def push_image(self, name: str, tag: str, layer: bytes) -> str:
        config = json.dumps({"architecture": "arm64", "os": "linux", "n": layer.hex()}).encode()
        parts = [
            {"mediaType": kind, "digest": self.push_blob(name, data), "size": len(data)}
            for kind, data in (
                ("application/vnd.oci.image.config.v1+json", config),
                ("application/vnd.oci.image.layer.v1.tar+gzip", layer),
            )
        ]
        body = json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
        )
        put = self("PUT", f"/v2/{name}/manifests/{tag}", body=body, headers={"Content-Type": MANIFEST})
        assert put.status == 201, put.data
        assert put.headers["Docker-Content-Digest"] == digest_of(body.encode())
        return digest_of(body.encode())


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    server = Server(Store(tmp_path))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield Client(server.url)
    server.shutdown()
    server.server_close()


def test_pull_what_was_pushed(client: Client) -> None:
    assert client("GET", "/v2/").status == 200
    layer = b"layer" * 100_000
    digest = client.push_image("team/serving", "abc", layer)
    by_tag = client("GET", "/v2/team/serving/manifests/abc", headers={"Accept": MANIFEST})
    assert by_tag.headers["Content-Type"] == MANIFEST
    assert by_tag.headers["Docker-Content-Digest"] == digest
    assert client("GET", f"/v2/team/serving/manifests/{digest}").data == by_tag.data
    blob = json.loads(by_tag.data)["layers"][0]
    pulled = client("GET", f"/v2/team/serving/blobs/{blob['digest']}")
    assert pulled.data == layer
    head = client("HEAD", f"/v2/team/serving/blobs/{blob['digest']}")
    assert head.headers["Content-Length"] == str(len(layer))
    assert json.loads(client("GET", "/v2/team/serving/tags/list").data) == {
        "name": "team/serving",
        "tags": ["abc"],
    }
    assert json.loads(client("GET", "/v2/_catalog").data) == {"repositories": ["team/serving"]}


def test_one_request_upload_and_mount(client: Client) -> None:
    data = b"whole"
    done = client("POST", f"/v2/a/blobs/uploads/?digest={digest_of(data)}", body=data)
    assert done.status == 201
    mounted = client("POST", f"/v2/b/blobs/uploads/?mount={digest_of(data)}&from=a")
    assert mounted.status == 201
    assert client("POST", f"/v2/b/blobs/uploads/?mount={digest_of(b'other')}&from=a").status == 202


def test_chunked_body(client: Client) -> None:
    begun = client("POST", "/v2/a/blobs/uploads/")
    part = client("PATCH", begun.headers["Location"], body=iter([b"one", b"two"]))
    done = client("PUT", f"{part.headers['Location']}?digest={digest_of(b'onetwo')}")
    assert done.status == 201
    assert client("GET", f"/v2/a/blobs/{digest_of(b'onetwo')}").data == b"onetwo"


def test_index_needs_its_manifests(client: Client) -> None:
    digest = client.push_image("a", "one", b"x")
    child = {"mediaType": MANIFEST, "digest": digest, "size": 1, "platform": {"architecture": "arm64"}}
    body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]})
    assert client("PUT", "/v2/a/manifests/all", body=body, headers={"Content-Type": INDEX}).status == 201
    missing = json.dumps({"manifests": [{**child, "digest": digest_of(b"none")}]})
    assert client("PUT", "/v2/a/manifests/none", body=missing, headers={"Content-Type": INDEX}).status == 404


def test_tags_are_immutable(client: Client) -> None:
    first = client.push_image("a", "release-1", b"one")
    assert client.push_image("a", "release-1", b"one") == first, "the same again is no change"
    body = client("GET", f"/v2/a/manifests/{first}").data + b" "
    refused = client("PUT", "/v2/a/manifests/release-1", body=body, headers={"Content-Type": MANIFEST})
    assert refused.status == 409
    message = json.loads(refused.data)["errors"][0]["message"]
    assert "immutable" in message
    assert first in message
    assert client("HEAD", "/v2/a/manifests/release-1").headers["Docker-Content-Digest"] == first


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v2/a/manifests/none", None, 404, "MANIFEST_UNKNOWN"),
        ("GET", f"/v2/a/blobs/{digest_of(b'none')}", None, 404, "BLOB_UNKNOWN"),
        ("GET", "/v2/a/blobs/sha256:..%2f..", None, 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/blobs/../../../etc/passwd", None, 404, "NAME_INVALID"),
        ("GET", "/v2/none/tags/list", None, 404, "NAME_UNKNOWN"),
        ("PUT", "/v2/a/manifests/t", b"not json", 400, "MANIFEST_INVALID"),
        ("PUT", "/v2/a/manifests/t", b"[]", 400, "MANIFEST_INVALID"),
        ("PUT", "/v2/a/manifests/t", b'{"config":{"digest":"sha256:0"}}', 400, "DIGEST_INVALID"),
        ("PUT", f"/v2/a/manifests/{digest_of(b'none')}", b"{}", 400, "DIGEST_INVALID"),
        ("PATCH", "/v2/a/blobs/uploads/00000000-0000", b"x", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("DELETE", "/v2/a/manifests/t", None, 405, "UNSUPPORTED"),
        ("GET", "/", None, 404, "NAME_INVALID"),
    ],
)
def test_refusals(client: Client, method: str, path: str, body: bytes | None, status: int, code: str) -> None:
    # urllib3 would tidy up the dots of the path.
    answer = client.pool.connection_from_url(client.base).urlopen(method, path, body=body)
    assert (answer.status, json.loads(answer.data)["errors"][0]["code"]) == (status, code)


def test_a_wrong_digest_keeps_nothing(client: Client) -> None:
    begun = client("POST", "/v2/a/blobs/uploads/")
    wrong = digest_of(b"other")
    refused = client("PUT", f"{begun.headers['Location']}?digest={wrong}", body=b"data")
    assert refused.status == 400
    assert "DIGEST_INVALID" in refused.data.decode()
    assert client("HEAD", f"/v2/a/blobs/{wrong}").status == 404
