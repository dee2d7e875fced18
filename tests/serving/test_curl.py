"""curl, as people call it: large bodies, chunks, old versions and offers of newer ones."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serving.serving_support import Client, Served

ROW = b"1.5,200,7"


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-H", "Expect: 100-continue"],
        ["-H", "Transfer-Encoding: chunked"],
        ["-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"],
        ["-0"],
        ["-0", "-H", "Connection: keep-alive"],
        ["--http2"],
        ["-H", "Connection: close"],
    ],
    ids=" ".join,
)
def test_curl(server: Served, client: Client, tmp_path: Path, options: list[str]) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not on the PATH: install it with the system's packages")
    wanted = client.ask("POST", "/invocations", ROW, "text/csv").body
    body = tmp_path / "rows.csv"
    body.write_bytes(b"\n".join([ROW] * 500))
    url = f"http://127.0.0.1:{server.port}/invocations"
    command = [curl, "-sS", "-m", "20", *options, "-H", "Content-Type: text/csv", "--data-binary", f"@{body}"]
    # Twice on one connection, where the connection is kept.
    done = subprocess.run([*command, url, url], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == wanted * 1000
