"""A process runtime behind the few Kubernetes API calls that the program and its release function make.

What it does, it does as Kubernetes does it; what it does not do stands in `NOT_ENFORCED`.
"""

from __future__ import annotations

NOT_ENFORCED: tuple[str, ...] = (
    "HorizontalPodAutoscaler: stored; the number of replicas is the Deployment's",
    "NetworkPolicy: stored; every process on this machine can reach every other",
    "PodDisruptionBudget: stored; nothing here evicts pods",
    "resources: requests and limits are stored; a pod may use the whole machine",
    "securityContext: stored; pods run as the user of this machine, their root is not read-only",
    "topologySpreadConstraints, affinity, nodeSelector, tolerations: there is one node",
    "init containers and sidecars: stored; a pod runs its first container",
    "volumes, envFrom, secrets and config maps as variables: stored, not given to the process",
    "exec and gRPC probes: taken as passed",
    "admission: objects are checked for what this runtime reads, not against Kubernetes' whole schema",
)
"""What is stored and shown but has no effect here; for people who read the report."""
