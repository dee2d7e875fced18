"""Triton's and KServe's own clients, which know nothing of this server, get what they want.

They live in environments of their own, made from what uv has in its cache; what is not there is skipped,
and the reason says how to get it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.serving.serving_support import Made, Served

TRITON = """
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


KSERVE = """
import asyncio, json, sys
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
port, rows = json.load(sys.stdin)
base = f"http://127.0.0.1:{port}"
async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    assert await client.is_server_live(base) and await client.is_server_ready(base)
    assert await client.is_model_ready(base, "flights")
    found = []
    for binary in (False, True):
        item = InferInput("input", [len(rows), 3], "FP32")
        item.set_data_from_numpy(np.array(rows, dtype=np.float32), binary_data=binary)
        request = InferRequest(model_name="flights", infer_inputs=[item])
        answer = await client.infer(base, request, model_name="flights")
        found.append(answer.outputs[0].as_numpy().tolist())
    return found
print(json.dumps(asyncio.run(main())))
"""


TRITON_GRPC = """
import json, sys
import numpy as np
import tritonclient.grpc as triton
port, rows = json.load(sys.stdin)
client = triton.InferenceServerClient(f"127.0.0.1:{port}")
matrix = np.array(rows, dtype=np.float32)
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("flights") and client.is_model_ready("flights", "v1")
assert not client.is_model_ready("other")
metadata = client.get_model_metadata("flights")
assert client.get_server_metadata().name == "trainserve"
assert client.get_model_repository_index().models[0].name == "flights"
name = metadata.outputs[0].name
item = triton.InferInput(metadata.inputs[0].name, matrix.shape, "FP32")
item.set_data_from_numpy(matrix)
result = client.infer("flights", [item], outputs=[triton.InferRequestedOutput(name)], request_id="r1")
assert result.get_response().id == "r1"
columns = []
for index, column in enumerate(("delay", "distance", "hour")):
    item_ = triton.InferInput(column, [len(rows)], "FP32")
    item_.set_data_from_numpy(matrix[:, index].copy())
    columns.append(item_)
both = (result, client.infer("flights", columns, model_version="v1"))
found = [answer.as_numpy(name).tolist() for answer in both]
try:
    client.infer("flights", columns[:2])
except triton.InferenceServerException as error:
    assert "column 'hour'" in error.message(), error.message()
    assert error.status() == "StatusCode.INVALID_ARGUMENT", error.status()
else:
    raise AssertionError("no error")
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("package", "script", "count"), [("tritonclient[http]", TRITON, 7), ("kserve>=0.15", KSERVE, 2)]
)
def test_clients(server: Served, plain: Made, package: str, script: str, count: int) -> None:
    if package.startswith("kserve") and os.environ.get("SERVING_CLIENTS") != "all":
        pytest.skip("takes a while to import: set SERVING_CLIENTS=all")
    check_answers(server.port, plain, package, script, count)


def test_a_grpc_client(serve: Callable[..., Served], plain: Made) -> None:
    served = serve(plain.directory, grpc_port=0)
    served.wait_until_ready()
    check_answers(served.wait_for("started")["grpc_port"], plain, "tritonclient[grpc]", TRITON_GRPC, 2)


def check_answers(port: int, plain: Made, package: str, script: str, count: int) -> None:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on the PATH: install it to try other projects' clients")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = [uv, "run", "--offline", "--no-project", "--python", version, "--with", package]
    there = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=60, check=False)
    if there.returncode:
        pytest.skip(f"not in uv's cache: uv run --no-project --python {version} --with '{package}' true")
    # No missing values: JSON, as Triton's client writes it, has no way to say so.
    rows = [row for row in plain.rows if None not in row][:50]
    expected = [value for row, value in zip(plain.rows, plain.expected, strict=True) if None not in row][:50]
    done = subprocess.run(
        [*command, "python", "-W", "ignore", "-c", script],
        input=json.dumps([port, rows]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    assert len(answers) == count
    for answer in answers:
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)
