"""Write the version of every package, transitive ones included, into pyproject.toml.

The table `constraint-dependencies` is the project's one lock: it holds for every member, every supported
Python and platform. `uv.lock` follows from it on each machine and is not committed, because it would fix the
address of one package index; behind a mirror or a proxy the same pins install as they are.

Usage: pins.py [--upgrade] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
BLOCK = re.compile(r"^constraint-dependencies = \[\n.*?^\]\n", re.MULTILINE | re.DOTALL)


def uv(*arguments: str) -> str:
    """Run uv at the project's root and return what it prints."""
    return subprocess.run(
        [os.environ.get("UV", "uv"), *arguments],
        cwd=PYPROJECT.parent,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def exported() -> list[str]:
    """Every resolved requirement, for the default groups and then for the optional ones."""
    plain = ("--quiet", "--no-hashes", "--no-emit-workspace", "--no-header", "--no-annotate")
    everything = uv("export", *plain, "--all-packages", "--all-groups", "--no-group", "xgboost")
    gpu = uv("export", *plain, "--only-group", "xgboost")
    return sorted({line for text in (everything, gpu) for line in text.splitlines() if line.strip()})


def main() -> int:
    """Resolve, then write the table; with --check only say whether it is up to date."""
    parser = argparse.ArgumentParser(description="Pin every package version in pyproject.toml.")
    parser.add_argument("--upgrade", action="store_true", help="forget the present pins first")
    parser.add_argument("--check", action="store_true", help="exit 1 if the pins are not what is resolved")
    options = parser.parse_args()
    before = PYPROJECT.read_text()
    if options.upgrade:
        PYPROJECT.write_text(BLOCK.sub("constraint-dependencies = [\n]\n", before))
        uv("lock", "--quiet", "--upgrade")
    pins = "".join(f"  {json.dumps(line)},\n" for line in exported())
    after = BLOCK.sub(lambda _: f"constraint-dependencies = [\n{pins}]\n", before)
    if options.check:
        return int(after != before)
    PYPROJECT.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
