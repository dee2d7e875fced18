"""`python -m local`: the whole system on this machine, with no cloud account."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.errors import Interrupted, LocalError
from local.plan.command import add_options as add_plan_options
from local.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local.session import LocalSession, SessionOptions

_PROJECT = Path(__file__).resolve().parent.parent
_LOCAL_DEFAULTS = {"retraining.batchDelaySeconds": "1"}
"""One machine has no bursts worth a minute's wait; any of these can be set back with --set."""
_DEATH_NOTICED_S = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run the command; the exit status."""
    signals = Signals()
    signals.install()
    try:
        options = _parser().parse_args(argv)
        _forget_aws_credentials()
        return options.command(options, signals)
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (Interrupted, KeyboardInterrupt) as error:
        print("interrupted: everything that was started has been ended", file=sys.stderr)
        return 128 + (error.signum if isinstance(error, Interrupted) else 2)


def up(options: argparse.Namespace, signals: Signals) -> int:
    """Bring the system up and stay until Ctrl-C."""
    from local import up as command  # noqa: PLC0415  # imports after the signal handlers
    from local.console import Steps  # noqa: PLC0415

    session, steps, is_up = _session(options, signals), Steps(), False

    def work() -> int:
        nonlocal is_up
        try:
            with steps:
                command.bring_up(session, steps, wait=not options.no_wait)
            is_up = True
            command.stay(session, steps)
        except LocalError:
            raise
        except Exception:
            # A dead emulator explains more than the call that it failed to answer, which may fail first.
            time.sleep(_DEATH_NOTICED_S)
            session.check()
            raise
        return 0

    try:
        return signals.guarded(work, session.close)
    except Interrupted:
        if not is_up:
            raise
        steps.console.print("\nEnded; nothing is left behind.", markup=False)
        return 0


def demo(options: argparse.Namespace, signals: Signals) -> int:
    """Run the whole story, write its report."""
    from local import demo as command  # noqa: PLC0415

    session = _session(options, signals, command.settings(options.project))
    session.check_free()  # before anything is told, and before an earlier run's report goes
    return signals.guarded(lambda: command.run(session, command.DemoOptions()), session.close)


def plan(options: argparse.Namespace, _signals: Signals) -> int:
    """Show what a stack would be: resources, policy, cost, critical path, changes; without credentials."""
    from local.plan import command  # noqa: PLC0415

    return command.run(options)


def down(options: argparse.Namespace, _signals: Signals) -> int:
    """End the session that runs here, or what a killed one left."""
    from local.workspace import Workspace  # noqa: PLC0415

    if Workspace(options.project).stop(print):
        print("the local session has ended")
    else:
        print("no local session is running")
    return 0


def status(options: argparse.Namespace, _signals: Signals) -> int:
    """Show what runs here; exit status 3 if nothing does."""
    from local.workspace import Workspace  # noqa: PLC0415

    workspace = Workspace(options.project)
    if not workspace.running():
        print("no local session is running")
        return 3
    facts = workspace.read_session()
    if facts is None:
        owner = workspace.owner()
        print(
            f"a local session is coming up (process {owner.pid})" if owner else "a local session is coming up"
        )
        return 0
    print(json.dumps(facts, indent=2) if options.json else _status_text(facts))
    return 0


def data(options: argparse.Namespace, _signals: Signals) -> int:
    """Write months of the flights as CSV files and, if asked, upload them to the running session."""
    from local import flights  # noqa: PLC0415

    folder: Path = options.out or options.project / ".local" / "flights"
    try:
        files = flights.write_months(folder, options.months)
    except flights.FlightsMissingError as error:
        raise LocalError(str(error)) from error
    for file in files:
        print(file)
    if options.upload:
        _upload(options.project, options.model, files)
    return 0


def upload(options: argparse.Namespace, _signals: Signals) -> int:
    """Upload files of your own, CSV or Parquet, to a model of the running session."""
    if absent := [str(file) for file in options.files if not file.is_file()]:
        raise LocalError(f"no such file: {', '.join(absent)}")
    if wrong := [str(file) for file in options.files if file.suffix not in {".csv", ".parquet"}]:
        raise LocalError(f"nothing reads {', '.join(wrong)}: want names that end in .csv or .parquet")
    _upload(options.project, options.model, options.files)
    return 0


def _upload(project: Path, model: str, files: Sequence[Path]) -> None:
    from local.emulators import Emulators  # noqa: PLC0415
    from local.workspace import Workspace  # noqa: PLC0415

    facts = Workspace(project).read_session()
    if facts is None:
        raise LocalError("no local session is running: start one with `python -m local up`")
    if model not in facts["models"]:
        raise LocalError(f"no model {model!r} there; there are: {', '.join(facts['models'])}")
    emulators = Emulators(run_dir=Path(facts["run_dir"]))
    emulators.ready("aws", {"endpoint": facts["aws_endpoint"]})
    bucket, _, prefix = str(facts["models"][model]["incoming"]).removeprefix("s3://").partition("/")
    for file in files:
        emulators.client("s3").upload_file(str(file), bucket, f"{prefix}{file.name}")
        print(f"uploaded to s3://{bucket}/{prefix}{file.name}")


def _session(
    options: argparse.Namespace, signals: Signals, defaults: Mapping[str, str] | None = None
) -> LocalSession:
    from local.session import LocalSession, SessionOptions  # noqa: PLC0415

    wanted: SessionOptions = SessionOptions(
        project=options.project,
        stack=options.stack,
        port=options.port,
        config=_LOCAL_DEFAULTS | dict(defaults or {}) | dict(options.set),
    )
    return LocalSession(wanted, on_death=signals.child_died)


def _status_text(facts: dict[str, Any]) -> str:
    from local.up import served_version  # noqa: PLC0415

    width = max(map(len, facts["models"]), default=0)
    models = [
        f"{name:{width}}  {model['url']}  {served_version(model['url']) or 'no model released yet'}"
        for name, model in facts["models"].items()
    ]
    minutes = (time.time() - float(facts["started"])) / 60
    return "\n".join(
        [
            f"stack {facts['stack']}, process {facts['pid']}, up for {minutes:.0f} min",
            f"resources  {facts['resources']['local']} of {facts['resources']['declared']} run here",
            *(f"{'' if index else 'models':9}  {line}" for index, line in enumerate(models)),
            f"AWS        {facts['aws_endpoint']}",
            f"cluster    {facts['cluster_endpoint']}",
            f"registry   {facts['registry']}",
            f"logs       {facts['run_dir']}",
        ]
    )


def _forget_aws_credentials() -> None:
    """Nothing here is meant for a real account: neither profile nor region nor keys of the user count."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"want KEY=VALUE, got {text!r}")
    return key, value


def _months(text: str) -> list[int]:
    with suppress(ValueError):
        months = [int(part) for part in text.split(",")]
        if all(1 <= month <= 12 for month in months):
            return months
    raise argparse.ArgumentTypeError(f"want months from 1 to 12, separated by commas, got {text!r}")


def _port(text: str) -> int:
    with suppress(ValueError):
        if 0 <= int(text) < 1 << 16:
            return int(text)
    raise argparse.ArgumentTypeError(f"want a port from 0 to 65535, got {text!r}")


def _project(text: str) -> Path:
    path = Path(text).resolve()
    if not (path / "Pulumi.yaml").is_file():
        raise argparse.ArgumentTypeError(f"{path} holds no Pulumi.yaml")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description="The whole system on this machine, from the infrastructure program itself.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    def add(name: str, command: Callable[[argparse.Namespace, Signals], int]) -> argparse.ArgumentParser:
        text = (command.__doc__ or "").strip()
        added = commands.add_parser(name, help=text[0].lower() + text[1:].rstrip("."), description=text)
        added.set_defaults(command=command)
        added.add_argument(
            "--project",
            type=_project,
            default=_PROJECT,
            metavar="DIR",
            help="holds Pulumi.yaml; here if not given",
        )
        return added

    for name, command in (("up", up), ("demo", demo)):
        runs = add(name, command)
        runs.add_argument("--stack", default="dev", help="whose settings to use (default: %(default)s)")
        runs.add_argument(
            "--port",
            type=_port,
            default=8080,
            help="of the first model's Service on 127.0.0.1 (default: %(default)s; 0: any free one); "
            "further models take free ones",
        )
        runs.add_argument(
            "--set",
            type=_setting,
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="replace a setting of the stack file, such as models.flights.hyperparameters.num_round=10",
        )
        if name == "up":
            runs.add_argument("--no-wait", action="store_true", help="do not wait for the first model")
    add_plan_options(add("plan", plan))
    add("down", down)
    add("status", status).add_argument("--json", action="store_true", help="as JSON, with all outputs")
    writes = add("data", data)
    writes.add_argument(
        "--months", type=_months, default=[4], help="of 2013, separated by commas (default: 4)"
    )
    writes.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: .local/flights)")
    writes.add_argument("--upload", action="store_true", help="upload them to the running session")
    writes.add_argument("--model", default="flights", help="whose data it is (default: %(default)s)")
    sends = add("upload", upload)
    sends.add_argument("files", type=Path, nargs="+", metavar="FILE", help="CSV with a header, or Parquet")
    sends.add_argument("--model", required=True, help="whose data it is")
    return parser


if __name__ == "__main__":
    sys.exit(main())
