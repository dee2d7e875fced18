"""Who may import whom: each deployable stands alone, and the program knows nothing of what runs it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import archives

ROOT = Path(__file__).resolve().parents[2]
STANDARD = frozenset(sys.stdlib_module_names)
TRAINING = frozenset(path.stem for path in (ROOT / "training").glob("*.py"))
FUNCTIONS = frozenset(path.name for path in (ROOT / "functions").iterdir() if (path / "__init__.py").exists())
OURS = (
    frozenset({"components", "local", "policy", "portal", "serving", "tests", "bundle"})
    | TRAINING
    | FUNCTIONS
)
LAMBDA = frozenset({"aws_lambda_powertools", "boto3", "botocore", "urllib3"})
RESOURCES = frozenset(
    {
        "account_baseline",
        "account_records",
        "addons",
        "alerts",
        "benchmark",
        "bootstrap",
        "cluster",
        "cluster_security",
    }
    | {
        "compute_layer",
        "fargate_logs",
        "functions",
        "load_balancer",
        "loop_layer",
        "network",
        "node_pools",
        "observability",
    }
    | {"platform", "prometheus", "registry", "releases", "retraining", "sagemaker_extras", "storage"}
    | {"training", "workload"}
)


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [ROOT / "__main__.py", *files("components")], ids=name)
def test_the_program_imports_nothing_else_of_ours(path: Path) -> None:
    assert tops(path) & OURS <= {"components"}


@pytest.mark.parametrize("path", files("serving"), ids=name)
def test_the_server_knows_only_the_bundle(path: Path) -> None:
    assert tops(path) & OURS <= {"serving", "bundle"}


@pytest.mark.parametrize("path", files("training"), ids=name)
def test_training_knows_only_the_bundle(path: Path) -> None:
    bundle = path.parent.name == "bundle"
    assert tops(path) & (OURS - {"errors"}) <= ({"bundle"} if bundle else {"bundle"} | TRAINING)


@pytest.mark.parametrize("file", archives.BUNDLE_FORMAT)
def test_the_bundles_format_needs_the_standard_library_only(file: str) -> None:
    path = ROOT / "training" / "bundle" / file
    assert tops(path) <= STANDARD | {"bundle"}
    inside = {f"bundle.{Path(module).stem}" for module in archives.BUNDLE_FORMAT}
    assert {n for n in imports(path) if n.startswith("bundle.") and n.count(".") == 1} <= inside


@pytest.mark.parametrize("path", files("functions"), ids=name)
def test_a_function_is_packaged_with_all_that_it_imports(path: Path) -> None:
    package = path.relative_to(ROOT / "functions").parts[0]
    assert tops(path) <= STANDARD | LAMBDA | {package, "common", "bundle"}
    inside = {f"bundle.{Path(module).stem}" for module in archives.BUNDLE_FORMAT}
    assert {n for n in imports(path) if n.startswith("bundle.") and n.count(".") == 1} <= inside


def test_a_function_without_the_bundle_does_not_reach_it() -> None:
    reached = {"empty_registry", "start_build"}
    seen: set[str] = set()
    while reached - seen:
        module = (reached - seen).pop()
        seen.add(module)
        base = ROOT / "functions" / Path(*module.split("."))
        paths = [base.with_suffix(".py")] if base.with_suffix(".py").exists() else sorted(base.glob("*.py"))
        for path in paths:
            found = set(imports(path))
            assert not {n for n in found if n.partition(".")[0] == "bundle"}, path
            reached |= {n for n in found if n.partition(".")[0] in FUNCTIONS - {"common"} and module != n}
            reached |= {
                n
                for n in found
                if n.startswith("common.")
                and (ROOT / "functions" / Path(*n.split("."))).with_suffix(".py").exists()
            }


@pytest.mark.parametrize("path", files("components"), ids=name)
def test_components_are_put_together_in_one_place(path: Path) -> None:
    """A component with resources uses another only as its child: the platform's layers do the rest."""
    used = {n.split(".")[1] for n in imports(path) if n.startswith("components.")} & RESOURCES
    allowed = {
        "platform": {"bootstrap", "compute_layer", "loop_layer"},
        "loop_layer": RESOURCES - {"compute_layer", "loop_layer", "platform"},
        "compute_layer": RESOURCES - {"compute_layer", "platform"},
        "registry": {"functions"},
        "package_groups": {"functions"},
        "retraining": {"functions"},
        "releases": {"functions", "package_groups", "registry", "retraining"},
        "model_checks": {"training"},
        "cluster": {"addons"},
        "account_baseline": {"account_records"},
    }
    assert used <= allowed.get(path.stem, set())


def test_nothing_but_tests_and_local_imports_local() -> None:
    for path in files("components", "serving", "training", "functions"):
        assert "local" not in tops(path), path


@pytest.mark.parametrize("path", files("components"), ids=name)
def test_a_component_is_read_in_one_go(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, node.name
