"""`python -m local.aws --run-dir D --registry HOST:PORT`: serve the embedded AWS until SIGTERM."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from local.processes import clean_environment, log_to_file, serve_forever


def main() -> int:
    """Serve; `D/aws.json` tells where."""
    parser = argparse.ArgumentParser(prog="python -m local.aws", description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--registry", required=True, help="HOST:PORT of the image registry")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    run_dir: Path = arguments.run_dir.resolve()
    # Before anything reads it: the user's credentials and proxies do not exist here, nor does /tmp.
    environment = clean_environment(
        {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "us-east-1"},
        home=run_dir / "tmp" / "aws",
    )
    os.environ.clear()
    os.environ.update(environment)
    log_to_file(run_dir, "aws")

    from local.aws.server import Server

    server = Server(run_dir, arguments.registry, arguments.port)
    server.start()
    serve_forever(run_dir, "aws", {"endpoint": server.emulator.endpoint}, server.stop)
    # Threads of moto's interpreter may be in the middle of a wait; nothing of theirs outlives the process.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
