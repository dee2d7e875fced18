"""What the image is made from says the same as the project."""

import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bundle import format as bundle_format

SERVING = Path(__file__).parents[2] / "serving"


def requirements() -> dict[str, str]:
    lines = (SERVING / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def needed(names: set[str]) -> set[str]:
    """These distributions and what they need, as installed."""
    found = set[str]()
    while names - found:
        name = (names - found).pop()
        found.add(name)
        lines = [Requirement(line) for line in importlib.metadata.requires(name) or []]
        names |= {
            canonicalize_name(line.name)
            for line in lines
            if not line.marker or line.marker.evaluate({"extra": ""})
        }
    return found


def test_requirements_are_the_projects_and_pinned() -> None:
    project: dict[str, Any] = tomllib.loads((SERVING / "pyproject.toml").read_text(encoding="utf-8"))
    named = {re.split(r"[<>=]", dependency)[0] for dependency in project["project"]["dependencies"]}
    # Of XGBoost only the library is used, not what its Python package needs.
    assert set(requirements()) == {"xgboost-cpu"} | needed(named - {"xgboost-cpu"})
    assert requirements()["xgboost-cpu"] == bundle_format.XGBOOST_VERSION


def test_the_image_is_pinned_and_not_root() -> None:
    dockerfile = (SERVING / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG PYTHON_IMAGE=python:\S+@sha256:[0-9a-f]{64}$", dockerfile, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", dockerfile, re.MULTILINE)
    assert dockerfile.rstrip().endswith('ENTRYPOINT ["python", "-m", "serving"]')


def test_the_build_is_valid_and_never_moves_a_tag() -> None:
    spec: dict[str, Any] = yaml.safe_load((SERVING / "buildspec.yml").read_text(encoding="utf-8"))
    (command,) = spec["phases"]["build"]["commands"]
    assert command.index("describe-images") < command.index("docker build") < command.index("docker push")
    (line,) = [line for line in command.splitlines() if line.startswith("base=")]
    base = subprocess.run(
        ["bash", "-c", f'{line}; printf %s "$base"'], cwd=SERVING, check=True, capture_output=True, text=True
    ).stdout
    dockerfile = (SERVING / "Dockerfile").read_text(encoding="utf-8")
    (digest,) = re.findall(r"^ARG PYTHON_IMAGE=python:\S+(@sha256:[0-9a-f]{64})$", dockerfile, re.MULTILINE)
    assert base == f"public.ecr.aws/docker/library/python{digest}"
    assert '--build-arg "PYTHON_IMAGE=$base"' in command
    assert "latest" not in command
