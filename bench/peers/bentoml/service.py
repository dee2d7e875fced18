"""As BentoML documents a service around a saved model."""

import os

import bentoml
import numpy as np
import xgboost as xgb


@bentoml.service(workers=1, traffic={"timeout": 30})
class Bench:
    def __init__(self) -> None:
        self.model = xgb.Booster(params={"nthread": 1}, model_file=os.environ["BENCH_MODEL"])

    @bentoml.api
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(xgb.DMatrix(rows, nthread=1))
