"""Every version that this program pins, in one table."""

from typing import Final

KUBERNETES: Final = "1.36"
"""Newest version on EKS in November 2026; standard support ends in August 2027."""

KUBERNETES_SUPPORTED: Final = ("1.35", "1.36")
"""1.34 leaves standard support on 2026-12-02, and extended support costs six times as much."""

XGBOOST: Final = "3.2.0"
XGBOOST_CONTAINER_REPOSITORY: Final = "sagemaker-xgboost"
XGBOOST_CONTAINER_TAG: Final = "3.2-0"

LAMBDA_RUNTIME: Final = "python3.13"
LAMBDA_ARCHITECTURE: Final = "arm64"

POWERTOOLS_ACCOUNT: Final = "017000801446"
POWERTOOLS_LAYER: Final = "AWSLambdaPowertoolsPythonV3-python313-arm64"
POWERTOOLS_LAYER_VERSION: Final = 37

CODEBUILD_IMAGE: Final = "aws/codebuild/amazonlinux-x86_64-standard:6.0"


def powertools_layer(region: str) -> str:
    """The ARN of AWS's own Powertools layer in a region of the commercial partition."""
    layer = f"layer:{POWERTOOLS_LAYER}:{POWERTOOLS_LAYER_VERSION}"
    return f"arn:aws:lambda:{region}:{POWERTOOLS_ACCOUNT}:{layer}"
