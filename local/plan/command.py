"""`python -m local plan`: its options, and what it does."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import sys
from pathlib import Path
from typing import Final

from local.errors import LocalError

FORMATS: Final = ("terminal", "json", "markdown", "html")
_REFUSED: Final = 2
_ROOT: Final = Path(__file__).resolve().parent.parent.parent


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options, beside --project."""
    parser.add_argument("stack", help="whose plan it is: there is a file Pulumi.STACK.yaml")
    parser.add_argument("--format", choices=FORMATS, default="terminal", help="default: %(default)s")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write there; to standard output if not given"
    )
    parser.add_argument(
        "--against", metavar="OTHER", help="what changes: another stack, or a git revision such as HEAD~1"
    )
    parser.add_argument(
        "--region-factor",
        type=_positive,
        default=1.0,
        metavar="X",
        help="prices in the stack's region against those of us-east-1 (default: %(default)s)",
    )
    parser.add_argument(
        "--requests-per-second",
        type=_positive,
        default=1000.0,
        metavar="N",
        help="predictions a second, all models together, for the cost of a million (default: 1000)",
    )
    parser.add_argument(
        "--requests-per-core",
        type=_positive,
        default=5000.0,
        metavar="N",
        help="predictions a second that one core of a pod serves (default: 5000)",
    )
    parser.add_argument(
        "--fail-on",
        choices=("mandatory", "advisory"),
        help=f"exit with status {_REFUSED} if there is a policy finding of this level, or of a worse one",
    )


def run(options: argparse.Namespace) -> int:
    """Make the plan and show it; the exit status."""
    if options.output is None and sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise LocalError("standard output is closed, so the plan has nowhere to go: want --output FILE")
    # A short process that makes few cycles and loads thousands of classes: collecting takes a third of it.
    gc.disable()
    keep_bytecode()
    from local.plan import cost  # noqa: PLC0415  # imports after the bytecode cache is set
    from local.plan import plan as plans  # noqa: PLC0415

    assumptions = cost.Assumptions(
        region_factor=options.region_factor,
        requests_per_second=options.requests_per_second,
        requests_per_core=options.requests_per_core,
    )
    # What the program itself prints is not the plan.
    with contextlib.redirect_stdout(sys.stderr):
        plan = plans.make(options.project, options.stack, assumptions, options.against)
    colour = options.output is None and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    text = _render(plan, options.format, colour=colour)
    if options.output is None:
        _write(text)
    else:
        try:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise LocalError(f"--output {options.output}: {error.strerror or error}") from error
    levels = {"mandatory": {"mandatory"}, "advisory": {"mandatory", "advisory"}}.get(
        options.fail_on, set[str]()
    )
    refused = sum(finding.level in levels for finding in plan.snapshot.findings)
    if refused:
        print(f"error: {refused} policy finding(s), see the plan", file=sys.stderr)
    return _REFUSED if refused else 0


def keep_bytecode() -> None:
    """Where Python may not write bytecode beside the sources, keep it in our own .local/.

    Compiling Pulumi's classes takes twice as long as all the rest of a plan.
    """
    if sys.dont_write_bytecode and sys.pycache_prefix is None and os.access(_ROOT, os.W_OK):
        sys.pycache_prefix = str(_ROOT / ".local" / "bytecode")
        sys.dont_write_bytecode = False


def _write(text: str) -> None:
    """To standard output; whoever reads it may stop when it has seen enough."""
    try:
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail once more as Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise LocalError(f"standard output takes no plan: {error.strerror or error}") from error


def _render(plan: object, wanted: str, *, colour: bool) -> str:
    from local.plan import html, markdown, terminal  # noqa: PLC0415
    from local.plan import plan as plans  # noqa: PLC0415

    assert isinstance(plan, plans.Plan)  # noqa: S101  # made above
    match wanted:
        case "json":
            return json.dumps(plans.to_json(plan), indent=1) + "\n"
        case "markdown":
            return markdown.render(plan)
        case "html":
            return html.render(plan)
        case _:
            return terminal.render(plan, colour=colour)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and 0 < number <= 1e9):
        raise argparse.ArgumentTypeError(f"want a number above 0, got {text!r}")
    return number
