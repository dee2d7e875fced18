"""Fixtures of the functions' tests."""

import ssl
from collections.abc import Iterator

import pytest
from moto import mock_aws

from common.kubernetes import Kubernetes
from release_model import rollout
from tests.functions.fakes import FakeCluster, FakeRegistry, make_certificate
from tests.functions.world import World


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test forgets to replace, it must not reach a real account."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def aws(_no_account: None) -> Iterator[None]:
    # The clients stay: moto answers them by a handler that they all have, and making them takes long.
    with mock_aws():
        yield


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    fake = FakeRegistry()
    yield fake
    fake.close()


@pytest.fixture
def cluster(certificate: tuple[ssl.SSLContext, str]) -> Iterator[FakeCluster]:
    fake = FakeCluster(certificate[0])
    yield fake
    fake.close()


@pytest.fixture
def world(
    aws: None,
    registry: FakeRegistry,
    cluster: FakeCluster,
    certificate: tuple[ssl.SSLContext, str],
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    made = World(registry, cluster, certificate[1])

    def cluster_client(_: str) -> Kubernetes:
        return made.kubernetes

    monkeypatch.setattr(rollout, "cluster_client", cluster_client)
    return made
