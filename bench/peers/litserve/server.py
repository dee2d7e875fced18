"""As LitServe documents a server: setup, decode, predict, encode."""

import os
import sys

import litserve as ls
import numpy as np
import xgboost as xgb


class Bench(ls.LitAPI):
    def setup(self, device):
        self.model = xgb.Booster(params={"nthread": 1}, model_file=os.environ["BENCH_MODEL"])

    def decode_request(self, request):
        return np.asarray(request["instances"], dtype=np.float32)

    def predict(self, rows):
        return self.model.inplace_predict(rows)

    def encode_response(self, output):
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    server = ls.LitServer(Bench(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
