"""Triton's own client, which knows nothing of this server, gets what it wants.

It lives in an environment of its own, made from what uv has in its cache:
`uv run --no-project --with tritonclient[http] true` puts it there.
"""

import json
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.serving.serving_support import Made, Served

SCRIPT = """
import json, sys
import numpy as np
import tritonclient.http as triton
port, rows = json.load(sys.stdin)
client = triton.InferenceServerClient(f"127.0.0.1:{port}")
matrix = np.array(rows, dtype=np.float32)
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("flights") and client.is_model_ready("flights", "v1")
assert not client.is_model_ready("other")
metadata = client.get_model_metadata("flights")
assert client.get_server_metadata()["name"] == "trainserve"
assert client.get_model_repository_index()[0]["name"] == "flights"
found = []
for binary_in in (False, True):
    for binary_out in (None, False, True):
        item = triton.InferInput(metadata["inputs"][0]["name"], matrix.shape, "FP32")
        item.set_data_from_numpy(matrix, binary_data=binary_in)
        name = metadata["outputs"][0]["name"]
        outputs = None if binary_out is None else [triton.InferRequestedOutput(name, binary_data=binary_out)]
        result = client.infer("flights", [item], outputs=outputs, request_id="r1")
        assert result.get_response()["id"] == "r1"
        found.append(result.as_numpy(name).tolist())
columns = []
for index, column in enumerate(("delay", "distance", "hour")):
    item = triton.InferInput(column, [len(rows)], "FP32")
    item.set_data_from_numpy(matrix[:, index].copy())
    columns.append(item)
found.append(client.infer("flights", columns, model_version="v1").as_numpy(name).tolist())
try:
    client.infer("flights", columns[:2])
except triton.InferenceServerException as error:
    assert "column 'hour'" in error.message(), error.message()
else:
    raise AssertionError("no error")
print(json.dumps(found))
"""


def test_triton_client(server: Served, plain: Made) -> None:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on the PATH")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = [uv, "run", "--offline", "--no-project", "--python", version, "--with", "tritonclient[http]"]
    there = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=60, check=False)
    if there.returncode:
        pytest.skip("tritonclient is not in uv's cache")
    # No missing values: JSON, as Triton's client writes it, has no way to say so.
    rows = [row for row in plain.rows if None not in row][:50]
    expected = [value for row, value in zip(plain.rows, plain.expected, strict=True) if None not in row][:50]
    done = subprocess.run(
        [*command, "python", "-c", SCRIPT],
        input=json.dumps([server.port, rows]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    assert len(answers) == 7
    for answer in answers:
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)
