"""How a failed run tells its reason: to SageMaker, to who reads the log, and to the release that follows."""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec

from configuration import job_name, output_directory

# What runs this script in SageMaker's own XGBoost image. When a script fails, it fills the file `failure`
# with the command that it ran instead, and that becomes SageMaker's FailureReason.
_TOOLKIT = "sagemaker_containers"


def fail(environment: Mapping[str, str], message: str) -> int:
    """Tell the reason where SageMaker looks for it, beside the job's output, and last on stderr; return 1."""
    directory = output_directory(environment)
    with suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "failure").write_text(message, encoding="utf-8")
    if find_spec(_TOOLKIT):
        _keep(environment, message)
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    return 1


def _keep(environment: Mapping[str, str], message: str) -> None:
    """Write the reason to `<output_uri>/<job>/output/failure` on S3, where the release looks first."""
    try:
        uri = str(json.loads(environment["SM_HPS"])["output_uri"])
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        key = f"{prefix.rstrip('/')}/{job_name(environment)}/output/failure"
        # Part of SageMaker's image and of no environment of ours.
        import_module("boto3").client("s3").put_object(Bucket=bucket, Key=key, Body=message.encode())
    except Exception as error:  # noqa: BLE001 - the reason itself matters more
        print(f"the reason could not be kept on S3: {type(error).__name__}: {error}", file=sys.stderr)
