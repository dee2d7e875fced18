"""As SageMaker's "bring your own container" example has it: Flask, pandas, CSV in and out."""

import io
import os

import flask
import pandas as pd
import xgboost as xgb

app = flask.Flask(__name__)
model = xgb.XGBClassifier(n_jobs=1)
model.load_model(os.environ["BENCH_MODEL"])


@app.route("/ping", methods=["GET"])
def ping():
    return flask.Response(response="\n", status=200, mimetype="application/json")


@app.route("/invocations", methods=["POST"])
def invocations():
    if flask.request.content_type != "text/csv":
        return flask.Response(
            response="This predictor only supports CSV data", status=415, mimetype="text/plain"
        )
    data = pd.read_csv(io.StringIO(flask.request.data.decode("utf-8")), header=None)
    predictions = model.predict_proba(data.to_numpy())[:, 1]
    out = io.StringIO()
    pd.DataFrame({"results": predictions}).to_csv(out, header=False, index=False)
    return flask.Response(response=out.getvalue(), status=200, mimetype="text/csv")
