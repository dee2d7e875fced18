"""What the functions read about one model: `config/<model>.json` in the artifact bucket."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from components import names


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The things that a model's trainings and releases need to know."""

    model: str
    stack: str
    template: Mapping[str, Any]
    gate_margin: float
    data_bucket: pulumi.Input[str]
    artifact_bucket: pulumi.Input[str]
    package_group: pulumi.Input[str]
    repository_url: pulumi.Input[str]
    server_tag: str
    cluster_name: str
    namespace: str
    queue_url: pulumi.Input[str]
    rollout_timeout_s: int
    max_attempts: int

    @property
    def key(self) -> str:
        """Where it lies in the artifact bucket."""
        return f"{names.CONFIG}{self.model}.json"

    def document(self) -> dict[str, Any]:
        """The object's content; leaves may be outputs."""
        return {
            "model": self.model,
            "stack": self.stack,
            "job_name_prefix": names.job_prefix(self.stack),
            "training_job": dict(self.template),
            "channels": {"content_type": None},
            "data_bucket": self.data_bucket,
            "artifact_bucket": self.artifact_bucket,
            "gate": {"margin": self.gate_margin},
            "package_group": self.package_group,
            "repository_uri": self.repository_url,
            "server_tag": self.server_tag,
            "architecture": "amd64",
            "workload": {
                "cluster": self.cluster_name,
                "namespace": self.namespace,
                "deployment": self.model,
                "container": names.CONTAINER,
            },
            "rollout": {"timeout_s": self.rollout_timeout_s},
            "queue_url": self.queue_url,
            "max_attempts": self.max_attempts,
        }
