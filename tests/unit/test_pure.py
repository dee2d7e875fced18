"""The pure functions of the program."""

import gzip
import hashlib
import io
import ipaddress
import json
import tarfile
import zipfile
from pathlib import Path
from typing import get_args

import pytest

from bundle.steps import OPERATIONS, TimestampParts
from common.datasets import DataSet, dataset_hash
from components import archives, bootstrap, datasets, names, network, registry, steps, versions
from components.iam import Statement
from components.quantities import cpu_milli, memory_mib
from components.settings import Model
from components.training import hyperparameters

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("prefix", range(16, 21))
def test_subnets_do_not_overlap_and_lie_in_the_vpc(prefix: int) -> None:
    vpc = ipaddress.IPv4Network(f"10.0.0.0/{prefix}")
    cut = network.cut(str(vpc))
    parts = [ipaddress.IPv4Network(text) for text in (*cut.private, *cut.public)]
    assert all(part.subnet_of(vpc) for part in parts)
    assert not any(a.overlaps(b) for i, a in enumerate(parts) for b in parts[:i])
    # EKS wants room in every subnet, even the smallest VPC's.
    assert min(part.num_addresses for part in parts) >= 256


def test_a_network_has_two_or_three_zones() -> None:
    with pytest.raises(ValueError, match="availability_zones: want 2 or 3"):
        network.NetworkArgs(
            cidr="10.0.0.0/16",
            availability_zones=["us-east-1a"],
            nat_per_zone=False,
            region="us-east-1",
            account_id="123456789012",
            cluster_name="c",
            interface_endpoints=[],
            flow_logs="cloudwatch",
            peering=None,
            key_arn="key",
            log_retention_days=7,
        )


def test_archives_are_the_same_bytes_whatever_the_order_and_readable() -> None:
    files = {"b/x.py": b"x = 1\n" * 40_000, "a.py": b"", "c.txt": "ü".encode()}
    backwards = dict(reversed(files.items()))
    assert archives.zip_bytes(files) == archives.zip_bytes(backwards)
    assert archives.tar_gz_bytes(files) == archives.tar_gz_bytes(backwards)
    with zipfile.ZipFile(io.BytesIO(archives.zip_bytes(files))) as zipped:
        assert {name: zipped.read(name) for name in zipped.namelist()} == files
    packed = archives.tar_gz_bytes(files)
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar.getmembers()} == files  # pyright: ignore[reportOptionalMemberAccess]
    assert len(gzip.decompress(packed)) > 240_000


def test_an_archives_digest_tells_names_and_contents_apart() -> None:
    contents = [{"a": b"b"}, {"ab": b""}, {"a": b"", "b": b""}, {"a": b"b", "c": b""}, {"a": b"c"}]
    assert len({archives.digest(files) for files in contents}) == len(contents)


def test_sources_are_found_without_what_running_them_leaves(tmp_path: Path) -> None:
    for name in ("a.py", "sub/b.py", "__pycache__/a.pyc", "sub/__pycache__/b.py", ".cache/c.py", "notes.bin"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert list(archives.source_files(tmp_path, "p")) == ["p/a.py", "p/sub/b.py"]


def test_the_image_sources_have_what_builds_them_on_top() -> None:
    files = archives.server_files()
    assert {"Dockerfile", "buildspec.yml", "serving/__main__.py", "bundle/format.py"} <= files.keys()
    dockerfile = files["Dockerfile"].read_text(encoding="utf-8")
    for line in dockerfile.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            source = line.split()[1]
            assert any(Path(name).match(source) for name in files), line
    assert "IMAGE_TAG" in files["buildspec.yml"].read_text(encoding="utf-8")


def test_the_training_sources_lie_at_the_root() -> None:
    files = archives.training_files()
    assert {"train.py", "bundle/__init__.py", "bundle/preprocess.py"} <= files.keys()


def test_data_sets_have_the_same_identity_here_and_in_the_functions(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("x\n2\n")
    (tmp_path / "a.csv").write_text("x\n1\n")
    files = datasets.bootstrap_files(tmp_path, ["b.csv", "a.csv"])
    identity = datasets.bootstrap_hash("flights", files)
    assert identity == datasets.bootstrap_hash("flights", list(reversed(files)))
    assert identity == dataset_hash((file.key("flights"), file.version) for file in files)
    manifest = datasets.manifest("flights", files, "data")
    read = DataSet.from_json(manifest, "here")
    assert read.digest == identity == manifest["hash"]
    assert json.loads(read.to_json()) == manifest
    assert json.loads(read.sagemaker_manifest("data")) == datasets.sagemaker_manifest(
        "flights", files, "data"
    )


def test_two_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text(folder)
    first, second = datasets.bootstrap_files(tmp_path, ["x/a.csv", "y/a.csv"])
    assert first.key("m") != second.key("m")
    assert first.name == f"{hashlib.sha256(b'x').hexdigest()[:8]}-a.csv"


def test_job_names_fit_and_begin_as_the_rules_expect() -> None:
    longest = bootstrap.bootstrap_job_name("s" * 16, "m" * 20, "f" * 64, "version")
    assert len(longest) <= 63
    assert longest.startswith(names.job_prefix("s" * 16))
    other = bootstrap.bootstrap_job_name("s" * 16, "m" * 20, "f" * 64, "another")
    assert other != longest
    assert other[:-6] == longest[:-6]


def test_steps_are_those_that_a_bundle_can_hold() -> None:
    declared = {
        get_args(kind.model_fields["op"].annotation)[0]: kind for kind in get_args(get_args(steps.Step)[0])
    }
    assert declared.keys() == OPERATIONS.keys()
    for op, kind in declared.items():
        fields = OPERATIONS[op].__dataclass_fields__  # pyright: ignore[reportAttributeAccessIssue]
        assert kind.model_fields.keys() - {"op"} == fields.keys(), op
    parts = get_args(get_args(TimestampParts.__annotations__["parts"])[0])
    assert get_args(steps.Part) == parts


def test_hyperparameters_are_flat_text() -> None:
    model = Model.model_validate_json(
        json.dumps(
            {
                "target": "late",
                "task": "binary",
                "steps": [{"op": "clip", "column": "a", "max": 3}],
                "hyperparameters": {
                    "max_depth": 6,
                    "eta": 0.1,
                    "enable_categorical": True,
                    "tree_method": "hist",
                },
            }
        )
    )
    found = hyperparameters("flights", model)
    assert found == {
        "model": "flights",
        "target": "late",
        "task": "binary",
        "metric": "auc",
        "unknown_category": "missing",
        "holdout_fraction": "0.2",
        "steps": '[{"op":"clip","column":"a","max":3.0}]',
        "drop": "[]",
        "max_depth": "6",
        "eta": "0.1",
        "enable_categorical": "true",
        "tree_method": "hist",
    }


def test_releases_never_expire() -> None:
    rules = json.loads(registry.lifecycle_policy(50))["rules"]
    first = min(rules, key=lambda rule: rule["rulePriority"])
    assert first["selection"]["tagPatternList"] == ["release-*"]
    assert first["selection"]["countNumber"] >= 10_000
    assert [rule["selection"]["tagStatus"] for rule in rules] == ["tagged", "untagged", "any"]
    assert rules[-1]["selection"]["countNumber"] == 50


def test_a_statement_names_what_it_is_about() -> None:
    with pytest.raises(ValueError, match="Nothing: a statement needs actions and resources"):
        Statement(sid="Nothing", actions=["s3:GetObject"], resources=[])


def test_quantities() -> None:
    assert [cpu_milli(text) for text in ("100m", "1", "0.5", "1.25")] == [100, 1000, 500, 1250]
    assert [memory_mib(text) for text in ("128Mi", "2Gi")] == [128, 2048]


def test_the_container_speaks_the_version_that_everything_else_is_pinned_to() -> None:
    assert versions.XGBOOST.rsplit(".", 1)[0] == versions.XGBOOST_CONTAINER_TAG.partition("-")[0]
    for member in ("serving", "training"):
        pins = (ROOT / member / "pyproject.toml").read_text(encoding="utf-8")
        assert f"xgboost-cpu=={versions.XGBOOST}" in pins, member
