"""The adapters against moto and small real servers."""

import base64
import hashlib
import ssl
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from common.aws import client, split_uri
from common.errors import Conflict, Forbidden, NotReady, Permanent
from common.kubernetes import ClusterError, Token, connect
from common.registry import OCI_MANIFEST, Registry, RegistryError, ecr_authorization
from common.state import Item
from release_model.image import ImageError, append, build_layer, pick_platform
from tests.functions.fakes import FakeCluster, FakeRegistry, make_certificate, sha256
from tests.functions.world import ARTIFACTS, LAYER, MODEL, World


def test_records_come_back_as_they_were_written(world: World) -> None:
    data = {
        "n": 1,
        "f": 1e-7,
        "s": "x",
        "none": None,
        "yes": True,
        "map": {"a": [1, 2.5, {"b": ""}]},
        "big": 10**20,
    }
    table = world.services.state
    (written,) = table.write(MODEL, Item("release#000001", data))
    assert table.get(MODEL, "release#000001") == written
    table.write(MODEL, Item("release#000002"), Item("other"))
    assert [item.record for item in table.query(MODEL, "release#")] == ["release#000001", "release#000002"]
    table.write(MODEL, written.change(nan=float("nan")))
    assert table.load(MODEL, "release#000001").data["nan"] == "nan"
    with pytest.raises(TypeError):
        table.write(MODEL, Item("x", {"set": {1}}))


def test_every_write_is_conditional(world: World) -> None:
    table = world.services.state
    (first,) = table.write(MODEL, Item("a", {"n": 1}))
    table.write(MODEL, first.change(n=2))
    for stale in (Item("a"), first.change(n=3)):
        with pytest.raises(Conflict):
            table.write(MODEL, stale)
        with pytest.raises(Conflict):
            table.write(MODEL, Item("b"), stale)
    with pytest.raises(Conflict):
        table.delete(MODEL, first)
    assert table.get(MODEL, "b") is None
    assert table.load(MODEL, "a").data == {"n": 2}
    table.delete(MODEL, table.load(MODEL, "a"))
    assert table.get(MODEL, "a") is None


def test_other_errors_of_the_table_are_not_conflicts(world: World) -> None:
    world.services.state._table = "absent"
    with pytest.raises(client("dynamodb").exceptions.ResourceNotFoundException):
        world.services.state.write(MODEL, Item("a"))
    with pytest.raises(client("dynamodb").exceptions.ResourceNotFoundException):
        world.services.state.delete(MODEL, Item("a", rev=1))


def test_documents_say_what_is_wrong(world: World, tmp_path: Path) -> None:
    documents = world.services.documents
    with pytest.raises(Permanent, match="there is no such object"):
        documents.read(f"s3://{ARTIFACTS}/absent.json")
    documents.write(f"s3://{ARTIFACTS}/bad.json", b"{")
    with pytest.raises(Permanent, match="not JSON"):
        documents.read(f"s3://{ARTIFACTS}/bad.json")
    with pytest.raises(Permanent, match="1 bytes, more than the 0 allowed"):
        documents.download(f"s3://{ARTIFACTS}/bad.json", None, 0, tmp_path / "x")
    with pytest.raises(Permanent, match="there is no such object"):
        documents.download(f"s3://{ARTIFACTS}/absent", None, 0, tmp_path / "x")
    assert documents.models() == [MODEL]
    with pytest.raises(ValueError, match="not an S3 address"):
        split_uri("https://bucket/key")


def test_the_registry_is_asked_with_its_own_credentials_only(registry: FakeRegistry) -> None:
    asked: list[int] = []

    def authorization() -> str:
        asked.append(1)
        return "Basic c2VjcmV0"

    repository = Registry(registry.uri, authorization)
    registry.add_image("1", OCI_MANIFEST, LAYER)
    assert repository.manifest("1") is not None
    assert repository.manifest("absent") is None
    assert repository.tag("absent") is None
    assert len(asked) == 1
    assert {headers["Authorization"] for headers in registry.headers} == {"Basic c2VjcmV0"}


def test_a_blob_is_uploaded_once_and_a_tag_never_moves(registry: FakeRegistry) -> None:
    repository = Registry(registry.uri, lambda: None)
    digest = sha256(b"blob")
    for _ in range(2):
        repository.push_blob(digest, b"blob")
    assert [method for method, _ in registry.requests].count("PUT") == 1
    registry.add_image("taken", OCI_MANIFEST, LAYER)
    with pytest.raises(RegistryError, match="taken names sha256:"):
        repository.push_manifest("taken", b'{"config": {"digest": "x"}, "layers": []}', OCI_MANIFEST)


def test_the_registrys_content_is_checked(registry: FakeRegistry) -> None:
    repository = Registry(registry.uri, lambda: None)
    digest = registry.add_image("1", OCI_MANIFEST, LAYER)
    manifest, _ = registry.image("1")
    registry.blobs[manifest["config"]["digest"]] = b"{}"
    with pytest.raises(RegistryError, match="the registry sent other content"):
        repository.config(manifest["config"]["digest"])
    registry.manifests[digest] = (OCI_MANIFEST, b"{}")
    with pytest.raises(RegistryError, match="the registry sent sha256:"):
        repository.manifest(digest)
    registry.manifests[registry.tags["1"]] = (OCI_MANIFEST, b"[]")
    with pytest.raises(RegistryError, match="want a JSON object"):
        repository.manifest("1")


@pytest.mark.parametrize(("status", "error"), [(401, Forbidden), (403, Forbidden), (500, RegistryError)])
def test_the_registrys_refusal_is_said(registry: FakeRegistry, status: int, error: type[Exception]) -> None:
    registry.broken = status
    with pytest.raises(error, match=rf"GET server/manifests/1: {status} no"):
        Registry(registry.uri, lambda: "Basic c2VjcmV0").manifest("1")


def test_ecr_gives_a_basic_authorization_but_not_to_this_machine(aws: None) -> None:
    header = ecr_authorization(client("ecr"), "123456789012.dkr.ecr.us-east-1.amazonaws.com/server")
    assert header is not None
    assert base64.b64decode(header.removeprefix("Basic ")).startswith(b"AWS:")
    assert ecr_authorization(None, "127.0.0.1:5000/server") is None


def _bundle(folder: Path) -> Path:
    folder.mkdir()
    for name in ("model.ubj", "bundle.json", "baseline.json", "golden.json"):
        (folder / name).write_bytes(name.encode() * 1000)
    return folder


def test_a_layer_is_the_same_bytes_for_the_same_bundle(tmp_path: Path) -> None:
    folder = _bundle(tmp_path / "bundle")
    first = build_layer(folder, tmp_path / "1")
    (folder / "model.ubj").touch(0o600)
    assert build_layer(folder, tmp_path / "2") == first
    stored = (tmp_path / "1").read_bytes()
    assert first.digest == "sha256:" + hashlib.sha256(stored).hexdigest()
    assert first.size == len(stored)


def test_odd_server_images_are_refused(tmp_path: Path) -> None:
    layer = build_layer(_bundle(tmp_path / "bundle"), tmp_path / "1")
    with pytest.raises(ImageError, match="unknown media type 'x'"):
        append({}, "x", {}, layer, {})
    with pytest.raises(ImageError, match="no layers"):
        append({"layers": []}, OCI_MANIFEST, {}, layer, {})
    index = {"manifests": [{"digest": "d", "platform": {"os": "linux", "architecture": "amd64"}}]}
    with pytest.raises(ImageError, match="no linux/arm64, only linux/amd64"):
        pick_platform(index, "arm64")


def test_the_cluster_is_called_with_a_token_over_tls(world: World, cluster: FakeCluster) -> None:
    found = world.kubernetes.deployment("models", "flights")
    assert found["metadata"]["generation"] == 1
    assert cluster.headers[-1]["Authorization"] == "Bearer token"
    world.kubernetes.pods("models", {"b": "2", "app": "flights"})
    assert cluster.requests[-1] == (
        "GET",
        "/api/v1/namespaces/models/pods?labelSelector=app%3Dflights%2Cb%3D2",
    )
    with pytest.raises(
        NotReady, match=r"GET /apis/apps/v1/namespaces/models/deployments/a%2Fb: 404 not found"
    ):
        world.kubernetes.deployment("models", "a/b")
    stale = {"metadata": {"resourceVersion": "0"}}
    with pytest.raises(ClusterError, match="409 the object has been modified"):
        world.kubernetes.patch_deployment("models", "flights", stale)
    cluster.forbidden = True
    with pytest.raises(Forbidden, match=r"403 deployments\.apps is forbidden"):
        world.kubernetes.deployment("models", "flights")


def test_a_cluster_with_another_certificate_is_not_trusted(
    aws: None, cluster: FakeCluster, tmp_path: Path
) -> None:
    _, other = make_certificate(tmp_path)
    eks = _Eks(
        {"endpoint": f"https://127.0.0.1:{cluster.port}", "certificateAuthority": {"data": _encoded(other)}}
    )
    with pytest.raises(Exception, match="certificate verify failed"):
        connect(eks, lambda: client("sts"), "c").deployment("models", "flights")


def test_the_token_is_a_presigned_identity_bound_to_the_cluster(
    aws: None, cluster: FakeCluster, certificate: tuple[ssl.SSLContext, str]
) -> None:
    authority = {"data": _encoded(certificate[1])}
    eks = _Eks({"endpoint": f"https://127.0.0.1:{cluster.port}", "certificateAuthority": authority})
    connect(eks, lambda: client("sts"), "my-cluster").deployment("models", "flights")
    token = cluster.headers[-1]["Authorization"].removeprefix("Bearer k8s-aws-v1.")
    url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    query = parse_qs(urlsplit(url).query)
    assert query["Action"] == ["GetCallerIdentity"]
    assert query["X-Amz-Expires"] == ["60"]
    assert query["X-Amz-SignedHeaders"] == ["host;x-k8s-aws-id"]
    made = Token(lambda: client("sts"), "a")
    assert made() == made()
    assert made() != Token(lambda: client("sts"), "b")()


@pytest.mark.parametrize("found", [None, {"status": "CREATING"}, {"endpoint": "https://x"}])
def test_a_cluster_that_is_being_made_is_waited_for(found: Any) -> None:
    with pytest.raises(NotReady, match="cluster c"):
        connect(_Eks(found), lambda: None, "c")


class _Eks:
    """As much of an EKS client as `connect` uses."""

    class exceptions:  # noqa: N801
        class ClientError(Exception):
            response: ClassVar = {"Error": {"Code": "ResourceNotFoundException"}}

    def __init__(self, found: dict[str, Any] | None) -> None:
        self._found = found

    def describe_cluster(self, name: str) -> dict[str, Any]:
        if self._found is None:
            raise self.exceptions.ClientError(name)
        return {"cluster": self._found}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
