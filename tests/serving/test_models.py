"""Several models in one process: names, SageMaker's /models, shares and shadows."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving import settings
from tests.serving.serving_support import Answer, Client, Made, Served, csv_body, make_bundle

ROW = b"1.5,200,7"
SEVERAL = "there are several models"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, plain: Made, mixed: Made) -> Path:
    """Two versions of a model, and another model."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(plain.directory, root / "champion")
    make_bundle(root / "challenger", version="v2")
    shutil.copytree(mixed.directory, root / "mixed")
    return root


@pytest.fixture(scope="module")
def several(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    served = Served(
        tmp_path_factory.mktemp("nothing"), tmp_path_factory.mktemp("log") / "log", models_dir=root
    )
    served.wait_for("ready")
    yield served
    served.kill()
    assert not [event for event in served.events() if event["level"] == "error"]


def invoke(client: Client, path: str = "/invocations", **headers: str) -> Answer:
    return client.ask("POST", path, ROW, "text/csv", **headers)


def post(client: Client, document: object) -> Answer:
    return client.ask("POST", "/models", json.dumps(document).encode(), "application/json")


def test_requests_say_which_model(several: Served) -> None:
    with Client(several.port) as client:
        for _ in range(2):  # the second time the head is known
            answer = invoke(client)
            assert (answer.status, SEVERAL in answer.error) == (400, True)
            for name, version in (("champion", "v1"), ("challenger", "v2")):
                for answer in (
                    invoke(client, X_Model=name),
                    invoke(client, X_Amzn_SageMaker_Target_Model=name),
                    invoke(client, f"/models/{name}/invoke"),
                    invoke(client, f"/models/{name}/invoke?x=1"),
                ):
                    assert (answer.status, answer.headers["x-model-version"]) == (200, version)
            assert invoke(client, X_Model="champ").status == 404
            assert invoke(client, "/models/champ/invoke").status == 404
            assert invoke(client, "/models/mixed/invoke").status == 400
        assert client.ask("GET", "/models/champion/invoke").headers["allow"] == "POST"
        text = client.ask("GET", "/metrics").body.decode()
    assert 'trainserve_request_seconds_count{model="challenger",protocol="sagemaker"} 8\n' in text
    assert 'trainserve_rows_total{model="champion"} 8\n' in text
    assert 'version="v2"' in text


def test_models_are_listed(several: Served, root: Path) -> None:
    with Client(several.port) as client:
        listed = client.ask("GET", "/models").json["models"]
        assert listed == [
            {"modelName": name, "modelUrl": str(root / name)} for name in ("challenger", "champion", "mixed")
        ]
        page = client.ask("GET", "/models?limit=2").json
        assert page["models"] == listed[:2]
        rest = client.ask("GET", f"/models?limit=2&next_page_token={page['nextPageToken']}").json
        assert rest == {"models": listed[2:]}
        assert client.ask("GET", "/models?limit=no").status == 400
        assert client.ask("GET", "/models/champion").json == listed[1]
        assert client.ask("GET", "/models/none").status == 404
        assert client.ask("PUT", "/models/champion").headers["allow"] == "DELETE, GET, HEAD"
        # Nobody takes a model away unless the settings say so.
        assert client.ask("DELETE", "/models/champion").status == 403
        assert post(client, {"model_name": "x", "url": str(root / "champion")}).status == 403


def test_models_come_and_go(serve: Callable[..., Served], root: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(root, tmp_path / "models"))
    shutil.rmtree(own / "mixed")
    (own / "challenger").rename(tmp_path / "later")
    served = serve(tmp_path, models_dir=own, max_models=2, models_api="on")
    served.wait_for("ready")
    with Client(served.port) as client:
        assert invoke(client).headers["x-model-version"] == "v1"
        shutil.move(tmp_path / "later", own / "later")
        wanted = {"model_name": "later", "url": str(own / "later")}
        answers = [post(client, wanted), post(client, wanted)]
        assert [answer.status for answer in answers] == [200, 409]
        assert answers[0].json == {"modelName": "later", "modelUrl": wanted["url"]}
        assert post(client, {**wanted, "model_name": "third"}).status == 507
        assert SEVERAL in invoke(client).error
        assert invoke(client, "/models/later/invoke").headers["x-model-version"] == "v2"
        assert client.ask("DELETE", "/models/champion").status == 200
        assert client.ask("DELETE", "/models/champion").status == 404
        assert invoke(client).headers["x-model-version"] == "v2"
        assert 'model="champion"' not in client.ask("GET", "/metrics").body.decode()
        (own / "link").symlink_to(root / "mixed")
        (own / "circle").symlink_to(own / "circle")
        (own / "empty").mkdir()
        for document, status in (
            ({"model_name": "none", "url": str(own / "none")}, 404),
            ({"model_name": "above", "url": str(own / ".." / "later")}, 400),
            ({"model_name": "link", "url": str(own / "link")}, 400),
            ({"model_name": "circle", "url": str(own / "circle")}, 404),
            ({"model_name": "long", "url": str(own / ("x" * 5000))}, 404),
            ({"model_name": "empty", "url": str(own / "empty")}, 404),
            ({"model_name": "file", "url": str(own / "later" / "model.ubj")}, 404),
            ({"model_name": "outside", "url": "/etc/passwd"}, 400),
            ({"model_name": "nul", "url": str(own / "later") + "\0"}, 400),
            ({"model_name": "../x", "url": str(own / "later")}, 400),
            ({"model_name": "x"}, 400),
            ([], 400),
        ):
            assert post(client, document).status == status
        assert client.ask("POST", "/models", b"{", "application/json").status == 400
        (own / "later" / "model.ubj").write_bytes(b"")
        answer = post(client, {"model_name": "spoilt", "url": str(own / "later")})
        assert (answer.status, "model.ubj" in answer.error) == (400, True)
        assert client.ask("GET", "/ping").status == 200


def test_one_model_cannot_be_taken_away_by_request(client: Client, plain: Made) -> None:
    assert client.ask("DELETE", "/models/flights").status == 403
    assert post(client, {"model_name": "other", "url": str(plain.directory)}).status == 403
    assert [model["modelName"] for model in client.ask("GET", "/models").json["models"]] == ["flights"]
    assert invoke(client, "/models/flights/invoke").status == 200


def test_an_endpoint_of_several_models_may_begin_with_none(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(tmp_path, models_dir=tmp_path / "none", models_api="on")
    served.wait_for("ready")
    with Client(served.port) as client:
        assert client.ask("GET", "/ping").status == 200
        assert client.ask("GET", "/models").json == {"models": []}
        assert invoke(client).status == 404


def test_shares(serve: Callable[..., Served], root: Path) -> None:
    served = serve(root, models_dir=root, split="champion=3, challenger=1")
    served.wait_for("ready")
    with Client(served.port) as client:
        versions = Counter(invoke(client).headers["x-model-version"] for _ in range(400))
        assert 240 < versions["v1"] < 360
        assert versions["v2"] == 400 - versions["v1"]
        assert invoke(client, X_Model="challenger").headers["x-model-version"] == "v2"
        refused = Counter(
            client.ask("POST", "/invocations", b"1", "text/csv").headers["x-model-version"] for _ in range(40)
        )
        assert set(refused) == {"v1", "v2"}


def test_the_shadow_predicts_and_does_not_answer(
    serve: Callable[..., Served], root: Path, plain: Made
) -> None:
    served = serve(root, models_dir=root, default_model="champion", shadow="challenger")
    served.wait_for("ready")
    with Client(served.port) as client:
        for rows in (plain.rows[:1], plain.rows[:50]):
            answer = client.ask("POST", "/invocations", csv_body(rows), "text/csv")
            assert answer.headers["x-model-version"] == "v1"
            assert len(answer.body.splitlines()) == len(rows)
        assert client.ask("POST", "/invocations", b"1", "text/csv").status == 400
        text = client.ask("GET", "/metrics").body.decode()
    for model, protocol in (("champion", "sagemaker"), ("challenger", "shadow")):
        assert f'trainserve_request_seconds_count{{model="{model}",protocol="{protocol}"}} 2\n' in text
        assert f'trainserve_rows_total{{model="{model}"}} 51\n' in text
    # A model of other columns has no shadow, and that is said.
    assert served.wait_for("no shadow")["model"] == "mixed"


def test_a_model_that_is_not_there_is_not_ready(serve: Callable[..., Served], root: Path) -> None:
    served = serve(root, models_dir=root, split="champion=1,chalenger=1")
    assert "SERVING_SPLIT: there is no model 'chalenger'" in served.wait_for("not ready")["reason"]


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"SPLIT": "a=1,a=2"}, "comes twice"),
        ({"SPLIT": "a=x"}, "number"),
        ({"SPLIT": "a=0"}, "every share is 0"),
        ({"SPLIT": "a b=1"}, "a model's name"),
        ({"SPLIT": "a=1", "DEFAULT_MODEL": "a"}, "excludes"),
        ({"SPLIT": "a=1,b=1", "SHADOW": "b"}, "already answers"),
        ({"SHADOW_FRACTION": "2"}, "from 0.0 to 1.0"),
        ({"MODELS_API": "yes"}, "on or off"),
        ({"MODELS_API": "on", "MODELS_DIR": ""}, "MODELS_DIR: is empty"),
    ],
)
def test_settings_that_contradict(variables: dict[str, str], reason: str) -> None:
    environment = {f"SERVING_{name}": value for name, value in {"MODELS_DIR": "/m", **variables}.items()}
    with pytest.raises(settings.SettingsError, match=reason):
        settings.from_environment(environment)


def test_sagemaker_says_that_there_are_several_models() -> None:
    chosen = settings.from_environment({"SAGEMAKER_MULTI_MODEL": "true"})
    assert (chosen.models_dir, chosen.models_api, chosen.preload) == (Path("/opt/ml/models"), True, False)
    for name, value in (("SHADOW", "a"), ("MODELS_API", "on")):
        with pytest.raises(settings.SettingsError, match=f"SERVING_{name}: needs SERVING_MODELS_DIR"):
            settings.from_environment({f"SERVING_{name}": value})
