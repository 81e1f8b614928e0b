"""Paddle Serving's public examples of pipelines, by its documented clients, as its documents answer them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import grpc_helpers
import numpy as np
import pytest
from serving_models import HOUSE, price_of
from serving_pipelines import (
    WORDS,
    UciService,
    imdb_server,
    make_sentiment,
    uci_conf,
)
from starlette.testclient import TestClient

from paddleinfer import Engine
from paddleinfer.serving import PipelineClient

HOUSE_TEXT = ", ".join(map(str, HOUSE))


def numbers(text: str) -> list[float]:
    """Those of an array's ``str``."""
    return [float(part) for part in re.findall(r"-?[\d.]+(?:e[-+]?\d+)?", text)]


def test_the_simple_web_service_gives_the_documented_answer(fit_a_line: Path, tmp_path: Path) -> None:
    conf = tmp_path / "config.yml"
    conf.write_text(json.dumps(uci_conf(fit_a_line)))  # JSON is YAML
    service = UciService(name="uci")
    service.prepare_pipeline_config(str(conf))
    expected = price_of(fit_a_line, np.array([HOUSE, np.zeros(13)]))
    with TestClient(service.get_app_instance()) as client:
        data = {"key": ["x"], "value": [HOUSE_TEXT]}
        answer = client.post("/uci/prediction", content=json.dumps(data))
        zeros = ",".join(["0"] * 13)
        both = client.post("/uci/prediction", json={"key": ["x"], "value": [f"{HOUSE_TEXT};{zeros}"]})
        metrics = client.get("/metrics").text
    service.close()
    assert answer.status_code == 200
    assert list(answer.json()) == ["err_no", "err_msg", "key", "value", "tensors"]
    document = answer.json()
    (text,) = document.pop("value")
    assert document == {"err_no": 0, "err_msg": "", "key": ["price"], "tensors": []}
    np.testing.assert_allclose(json.loads(text), expected[:1], rtol=1e-5)
    np.testing.assert_allclose(numbers(both.json()["value"][0]), expected[:, 0], rtol=1e-5)
    assert 'paddleinfer_requests_total{model="uci.uci",outcome="result"} 2.0' in metrics


def test_the_ensemble_of_two_models_gives_their_mean(tmp_path: Path) -> None:
    models = [make_sentiment(tmp_path / name, seed) for seed, name in enumerate(("bow", "cnn"))]
    server = imdb_server(*models)
    client = PipelineClient()
    try:
        with grpc_helpers.serving({}, pipelines={"pipeline": server}) as served:
            client.connect([served.server.addresses[0]])
            words = "i am very sad | 0"
            futures = [
                client.predict(
                    feed_dict={"words": words, "logid": 10000 + i},
                    fetch=["prediction"],
                    asyn=True,
                    profile=False,
                )
                for i in range(100)
            ]
            responses = [future.result() for future in futures]
    finally:
        client.release()
        server.close()
    ids = np.array([[WORDS.index(word) + 1 for word in ("i", "am", "very", "sad")] + [0] * 4])
    length = np.array([[6]])  # with the bar and the label, which are no words
    plain = []
    for model in models:
        with Engine(model) as engine:
            (output,) = engine.infer({"words": ids, "length": length}).values()
            plain.append(output)
    for response in responses:
        assert (response.err_no, list(response.key)) == (0, ["prediction"])
        found = eval(response.value[0], {"array": np.array, "float32": np.float32})
        np.testing.assert_allclose(found, sum(plain) / 2, rtol=1e-5)


def test_the_page_of_the_documentation_leads_to_a_web_service(
    fit_a_line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/paddle-serving.md").read_text()
    files = dict(re.findall(r'^```\w+ title="([\w.]+)"\n(.*?)^```$', page, re.MULTILINE | re.DOTALL))
    (tmp_path / "config.yml").write_text(files["config.yml"])
    (tmp_path / "uci_housing_model").symlink_to(fit_a_line)
    monkeypatch.chdir(tmp_path)
    code, _, last = files["web_service.py"].rstrip().rpartition("\n")
    assert last == "uci_service.run_service()"
    names: dict[str, Any] = {}
    exec(code, names)
    with TestClient(names["uci_service"].get_app_instance()) as client:
        answer = client.post("/uci/prediction", json={"key": ["x"], "value": [HOUSE_TEXT]}).json()
    names["uci_service"].close()
    np.testing.assert_allclose(
        json.loads(answer["value"][0]), price_of(fit_a_line, np.array([HOUSE])), rtol=1e-5
    )
