"""Images: verified, cached, unpacked with whiteouts, and never outside their root."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from local.cluster.images import ImageError, ImageStore, apply_layer
from tests.local.cluster_rig import Registry, layer, running_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def unpack(tmp_path: Path, *layers: bytes) -> Path:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    for data in layers:
        blob = tmp_path / "layer"
        blob.write_bytes(data)
        plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        apply_layer(blob, root, f"sha256:{hashlib.sha256(plain).hexdigest()}")
    return root


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_a_tag_and_a_digest_give_the_same_unpacked_image(tmp_path: Path, registry: Registry) -> None:
    settings = {"Entrypoint": ["python"], "Cmd": ["x"], "Env": ["A=b=c"], "Labels": {"k": "v"}}
    layers = [layer({"app/a": "1", "app/b": "1"}), layer({"app/a": "2", "opt/ml/model/m": "3"})]
    name = registry.push("repo/app", "v1", layers, settings)
    store = ImageStore(tmp_path, registry.address)
    image = store.pull(name)
    assert store.pull(f"{registry.address}/repo/app:v1") is image
    assert files(image.root) == {"app/a": "2", "app/b": "1", "opt/ml/model/m": "3"}
    assert (image.entrypoint, image.command, image.environment) == (("python",), ("x",), {"A": "b=c"})
    assert image.digest == name.partition("@")[2]
    assert store.known() == [image]


def test_layers_are_fetched_once(tmp_path: Path, registry: Registry) -> None:
    server = layer({"app/server": "s"})
    first = registry.push("repo/cache", "v1", [server, layer({"m": "1"})])
    second = registry.push("repo/cache", "v2", [server, layer({"m": "2"})])
    store = ImageStore(tmp_path, registry.address)
    roots = [store.pull(name).root for name in (first, second)]
    assert [files(root)["m"] for root in roots] == ["1", "2"]
    assert len(list((tmp_path / "blobs").iterdir())) == 5  # the server's, two models', two configurations


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("docker.io/library/python:3", "only the registry"),
        ("Bad Name", "invalid reference format"),
        ("{registry}/repo/none:v1", "not found"),
        ("{registry}/repo/none@sha256:" + "0" * 64, "not found"),
    ],
)
def test_what_cannot_be_pulled_is_told(tmp_path: Path, registry: Registry, name: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        ImageStore(tmp_path, registry.address).pull(name.format(registry=registry.address))


def test_a_changed_blob_is_refused(tmp_path: Path) -> None:
    with running_registry(tmp_path / "registry") as registry:
        name = registry.push("app", "v1", [layer({"a": "1"})])
        for blob in (tmp_path / "registry/registry/blobs/sha256").iterdir():
            if blob.read_bytes().startswith(b"\x1f\x8b"):
                blob.write_bytes(gzip.compress(layer({"a": "2"}), mtime=0))
        with pytest.raises(ImageError, match="not what was asked for"):
            ImageStore(tmp_path / "images", registry.address).pull(name)
    assert list((tmp_path / "images/roots").iterdir()) == []


def test_a_changed_manifest_is_refused(tmp_path: Path) -> None:
    with running_registry(tmp_path / "registry") as registry:
        name = registry.push("app", "v1", [layer({"a": "1"})])
        for manifest in (tmp_path / "registry/registry").rglob(f"*{name[-60:]}*"):
            content = manifest.read_bytes()
            if content.startswith(b"{"):
                manifest.write_text(json.dumps(json.loads(content), indent=1))
        with pytest.raises(ImageError, match=r"manifest|status"):
            ImageStore(tmp_path / "images", registry.address).pull(name)


def test_whiteouts_remove_what_lower_layers_hold(tmp_path: Path) -> None:
    root = unpack(
        tmp_path,
        layer({"a/1": "x", "a/2": "x", "b/1": "x", "c": "x"}),
        gzip.compress(layer({"a/.wh.1": "", "b/.wh..wh..opq": "", "b/2": "y", ".wh.c": ""})),
    )
    assert files(root) == {"a/2": "x", "b/2": "y"}


def member(change: Callable[[tarfile.TarInfo], object], data: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.size = len(data)
        change(info)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(name: str, target: str) -> Callable[[tarfile.TarInfo], object]:
    def change(info: tarfile.TarInfo) -> None:
        info.name, info.linkname, info.type = name, target, tarfile.SYMTYPE

    return change


@pytest.mark.parametrize(
    "layers",
    [
        [member(lambda info: setattr(info, "name", "../outside"), b"x")],
        [member(lambda info: setattr(info, "name", "a/../../outside"), b"x")],
        [member(lambda info: setattr(info, "name", "../.wh.outside"))],
        [member(lambda info: setattr(info, "type", tarfile.CHRTYPE))],
        [member(link("link", "/etc/passwd"))],
        [member(link("link", "../../outside"))],
        [b"not a tar archive" * 100],
        [gzip.compress(layer({"a": "x" * 10_000}))[:-20]],
    ],
)
def test_unsafe_or_broken_layers_are_refused(tmp_path: Path, layers: list[bytes]) -> None:
    (tmp_path / "outside").write_text("kept")
    root = tmp_path / "root"
    root.mkdir()
    for data in layers:
        blob = tmp_path / "layer"
        blob.write_bytes(data)
        with pytest.raises(ImageError):
            apply_layer(blob, root, "sha256:0")
    assert (tmp_path / "outside").read_text() == "kept"


def test_a_layer_that_unpacks_to_something_else_is_refused(tmp_path: Path) -> None:
    blob = tmp_path / "layer"
    blob.write_bytes(layer({"a": "1"}))
    with pytest.raises(ImageError, match="the configuration says"):
        apply_layer(blob, tmp_path, "sha256:" + "0" * 64)
