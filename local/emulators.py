"""Where the emulators of one session are, for the engine's threads, which may start before they are ready."""

from __future__ import annotations

import functools
import json
import ssl
import threading
import urllib.error
import urllib.request
from base64 import b64decode
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boto3.session import Session

ACCOUNT = "123456789012"
REGION = "us-east-1"
_REQUEST_S = 30.0


class Emulators:
    """The emulated AWS, the cluster and the registry; every property waits until that one is ready."""

    def __init__(self, *, run_dir: Path, region: str = REGION) -> None:
        self.run_dir = run_dir
        self.region = region
        self._facts: dict[str, Future[Mapping[str, Any]]] = {
            name: Future() for name in ("registry", "aws", "cluster")
        }
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def ready(self, name: str, facts: Mapping[str, Any]) -> None:
        """Say that `name` (registry, aws, cluster) is ready, with what its ready file holds."""
        self._facts[name].set_result(facts)

    def fail(self, error: BaseException) -> None:
        """Wake everybody who waits for an emulator that will never come."""
        for future in self._facts.values():
            if not future.done():
                future.set_exception(error)

    @property
    def registry(self) -> str:
        """HOST:PORT of the image registry."""
        return str(self._facts["registry"].result()["url"])

    @property
    def aws_endpoint(self) -> str:
        """URL of the emulated AWS."""
        return str(self._facts["aws"].result()["endpoint"])

    @property
    def cluster(self) -> ClusterApi:
        """The cluster's API, as its administrator."""
        return ClusterApi(self._facts["cluster"].result())

    def service_urls(self) -> dict[str, str]:
        """Where the Services of the cluster answer now: "namespace/name" to base URL."""
        self._facts["cluster"].result()
        ready: dict[str, Any] = json.loads((self.run_dir / "cluster.json").read_text(encoding="utf-8"))
        return ready["services"]

    def client(self, service: str) -> Any:  # noqa: ANN401  # boto3 makes its clients at run time
        """A boto3 client of the emulated AWS; one per service, safe to share between threads."""
        endpoint = self.aws_endpoint
        with self._lock:
            if service not in self._clients:
                self._clients[service] = _client(self._session, service, endpoint)
            return self._clients[service]

    @functools.cached_property
    def _session(self) -> Session:
        # boto3 takes a quarter of a second to import: only for those who talk to AWS.
        import boto3  # noqa: PLC0415

        return boto3.Session(
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106  # the emulator takes any
            region_name=self.region,
        )


def _client(session: Session, service: str, endpoint: str) -> Any:  # noqa: ANN401
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"total_max_attempts": 2},
        max_pool_connections=20,
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
    )
    return session.client(service, endpoint_url=endpoint, config=config)  # pyright: ignore[reportCallIssue]


class ClusterApi:
    """The few Kubernetes API calls that the local cluster answers, made with the administrator's token."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.endpoint = str(facts["endpoint"])
        self.ca_data = str(facts["ca"])
        self.service = str(facts["service"])
        self._token = str(facts["admin_token"])
        authority = b64decode(self.ca_data).decode()
        self._context = ssl.create_default_context(cadata=authority)

    def get(self, path: str) -> Any:  # noqa: ANN401  # JSON
        """GET `path`, such as /apis/apps/v1/namespaces/serving/deployments; the decoded JSON."""
        return self.call("GET", path)

    def call(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json"
    ) -> Any:  # noqa: ANN401  # JSON
        """Call the API; the decoded JSON answer.

        Raises:
            LocalError: the API refused; with its status and words.
        """
        request = urllib.request.Request(  # noqa: S310  # the endpoint is our own
            self.endpoint + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": content_type},
        )
        try:
            with urllib.request.urlopen(request, timeout=_REQUEST_S, context=self._context) as answer:  # noqa: S310
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise LocalError(
                f"{method} {path}: {error.code} {error.read().decode(errors='replace')}"
            ) from error
