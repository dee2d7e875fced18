"""As tutorials have it: a pydantic model, the sklearn interface, a plain function."""

import os

import numpy as np
import xgboost as xgb
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = xgb.XGBClassifier(n_jobs=1)
model.load_model(os.environ["BENCH_MODEL"])


class Request(BaseModel):
    instances: list[list[float]]


@app.get("/ping")
def ping():
    return {"status": "ok"}


@app.post("/predict")
def predict(request: Request):
    return {"predictions": model.predict_proba(np.array(request.instances))[:, 1].tolist()}
