"""Every version that this program pins, in one table."""

from typing import Final

KUBERNETES: Final = "1.36"
"""Newest version on EKS in November 2026; standard support ends in August 2027."""

KUBERNETES_SUPPORTED: Final = ("1.35", "1.36")
"""1.34 leaves standard support on 2026-12-02, and extended support costs six times as much."""

ADDONS: Final[dict[str, dict[str, str]]] = {
    "1.35": {"coredns": "v1.13.2-eksbuild.31", "kube-proxy": "v1.35.3-eksbuild.29"},
    "1.36": {"coredns": "v1.14.3-eksbuild.16", "kube-proxy": "v1.36.0-eksbuild.21"},
}
"""Add-ons that go with one Kubernetes version."""

ADDONS_ANYWHERE: Final[dict[str, str]] = {
    "amazon-cloudwatch-observability": "v6.4.0-eksbuild.1",
    "aws-ebs-csi-driver": "v1.66.0-eksbuild.1",
    "eks-pod-identity-agent": "v1.3.10-eksbuild.3",
    "metrics-server": "v0.8.1-eksbuild.1",
    "vpc-cni": "v1.22.4-eksbuild.3",
}
"""Add-ons that serve every Kubernetes version above."""

KARPENTER: Final = "1.14.1"
"""Controller and CRDs, which must be the same; Kubernetes 1.36 needs 1.13 or newer."""

LOAD_BALANCER_CONTROLLER: Final = "3.5.0"

NODE_IMAGE: Final = "al2023@v20260930"
GPU_NODE_IMAGE: Final = "bottlerocket@v1.63.0"
"""Karpenter's aliases. Never `@latest`: a new image would replace every node on the day it comes out."""

XGBOOST: Final = "3.2.0"
XGBOOST_CONTAINER_REPOSITORY: Final = "sagemaker-xgboost"
XGBOOST_CONTAINER_TAG: Final = "3.2-0"

LAMBDA_RUNTIME: Final = "python3.13"
LAMBDA_ARCHITECTURE: Final = "arm64"

POWERTOOLS_ACCOUNT: Final = "017000801446"
POWERTOOLS_LAYER: Final = "AWSLambdaPowertoolsPythonV3-python313-arm64"
POWERTOOLS_LAYER_VERSION: Final = 37

CODEBUILD_IMAGE: Final = "aws/codebuild/amazonlinux-x86_64-standard:6.0"


def addon(name: str, kubernetes: str) -> str:
    """The pinned version of an EKS add-on under a Kubernetes version."""
    return {**ADDONS_ANYWHERE, **ADDONS[kubernetes]}[name]


PROMETHEUS_STACK: Final = "88.1.3"
"""The chart kube-prometheus-stack (operator 0.93)."""

SECRETS_STORE_ADDON: Final = "v3.1.3-eksbuild.1"
"""EKS add-on aws-secrets-store-csi-driver-provider: the CSI driver and AWS's provider in one."""

GUARDDUTY_ADDON: Final = "v1.12.1-eksbuild.2"
"""EKS add-on aws-guardduty-agent."""

KUBE_BENCH_IMAGE: Final = (
    "docker.io/aquasec/kube-bench@sha256:75506f222d1eb6ce2a751a5533bdc0a3b54c898e2e49e7751d0ee22cfb862679"
)
"""v0.16.0, for amd64 and arm64."""

KUBE_BENCH_BENCHMARK: Final = "eks-1.7.0"
MODEL_MONITOR_REPOSITORY: Final = "sagemaker-model-monitor-analyzer"
CIS_STANDARD: Final = "cis-aws-foundations-benchmark/v/3.0.0"
FSBP_STANDARD: Final = "aws-foundational-security-best-practices/v/1.0.0"


def powertools_layer(region: str) -> str:
    """The ARN of AWS's own Powertools layer in a region of the commercial partition."""
    layer = f"layer:{POWERTOOLS_LAYER}:{POWERTOOLS_LAYER_VERSION}"
    return f"arn:aws:lambda:{region}:{POWERTOOLS_ACCOUNT}:{layer}"
