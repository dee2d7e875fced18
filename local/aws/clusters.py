"""EKS: a cluster's endpoint is that of the local cluster, once that runs."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from local.aws.hooks import Hook

if TYPE_CHECKING:
    from local.aws.emulator import Emulator

DESCRIBE = Hook("moto.eks.models:EKSBackend.describe_cluster", "self name")
HOOKS = (DESCRIBE,)


def install(emulator: Emulator) -> None:
    """Answer DescribeCluster with what the local cluster wrote to `D/cluster.json`."""

    def describe_cluster(self: Any, name: str) -> Any:
        cluster = original(self, name)
        try:
            local = json.loads((emulator.run_dir / "cluster.json").read_text())
        except FileNotFoundError:
            return cluster
        described = copy.copy(cluster)
        described.endpoint = local["endpoint"]
        described.certificate_authority = {"data": local["ca"]}
        return described

    original = DESCRIBE.install(describe_cluster)
