"""CRDs and charts of the pinned versions, from the Go modules in which their projects publish them.

Only the ordinary `go mod download` is used, so a second run finds them in Go's own cache.
"""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from components import versions

KARPENTER = f"github.com/aws/karpenter-provider-aws@v{versions.KARPENTER}"
LOAD_BALANCER_CONTROLLER = f"sigs.k8s.io/aws-load-balancer-controller/v3@v{versions.LOAD_BALANCER_CONTROLLER}"
# What another pinned version brings along; a new one wants a look at what it brings.
PROMETHEUS_OPERATOR = (
    "github.com/prometheus-operator/prometheus-operator@v" + {"88.1.3": "0.93.0"}[versions.PROMETHEUS_STACK]
)
SECRETS_STORE = (
    "sigs.k8s.io/secrets-store-csi-driver@v" + {"v3.1.3-eksbuild.1": "1.6.1"}[versions.SECRETS_STORE_ADDON]
)


@cache
def _downloaded(module: str) -> tuple[Path | None, str]:
    """Where a module lies, or why it does not."""
    if shutil.which("go") is None:
        return None, f"needs {module}: install Go (https://go.dev/doc/install), and run the tests again"
    asked = subprocess.run(
        ["go", "mod", "download", "-json", module],
        capture_output=True,
        check=False,
        cwd="/",
        env={**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOWORK": "off"},
        text=True,
        timeout=100,
    )
    answer = json.loads(asked.stdout or "{}")
    if asked.returncode == 0 and "Dir" in answer:
        return Path(answer["Dir"]), ""
    return None, f"needs {module}: try `go mod download -json {module}`, which says why it cannot be had"


def folder(module: str) -> Path:
    """The module's files, read-only; skips the test where they cannot be had."""
    found, reason = _downloaded(module)
    if found is None:
        pytest.skip(reason)
    return found
