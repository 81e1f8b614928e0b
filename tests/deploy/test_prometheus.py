"""A real Prometheus that scrapes a real server under load answers every query under deploy/."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest
import yaml
from deploy_files import ALERTS, alert_rules, queries
from engine_helpers import PATIENCE_S, eventually
from free_ports import free_ports
from http_processes import Server, started
from system_tools import need
from zoo import Zoo

pytestmark = pytest.mark.system

SERVICE = """
from paddleinfer.serve import Service

words = Service({}, handle=lambda request, engines: request.value)
"""
ROW = {"inputs": [{"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}]}
# Several scrapes; the dashboard's own is four of them, and at least a minute.
RATE = "5s"


@pytest.fixture(scope="module")
def server(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with everything that has metrics: two models of which only one fits, a cache, a service."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "words_service.py").write_text(SERVICE)
    model = zoo.directory("mlp", zoo.formats[0])
    options = ["--model", f"model={model}", "--model", f"other={model}", "--service", "words_service:words"]
    options += ["--host", "127.0.0.1", "--port", "0", "--cache-bytes", "1000000", "--check-load", "here"]
    options += ["--instances", "1", "--max-loaded-bytes", "10000"]
    with started(
        "-m", "paddleinfer.shim", *options, environment={"PYTHONPATH": str(folder)}, folder=folder
    ) as server:
        yield server


@contextlib.contextmanager
def under_load(server: Server) -> Iterator[list[int]]:
    """Requests one after the other; the statuses of those that were answered."""
    ends = threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
            for number in itertools.count():
                if ends.wait(0.02):
                    return
                # Another one now and then has to be loaded.
                name = "other" if number % 50 == 49 else "model"
                statuses.append(client.post(f"/v2/models/{name}/infer", json=ROW).status_code)
                statuses.append(client.post("/services/words", json="word").status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        ends.set()
        thread.join(PATIENCE_S)


class Prometheus:
    """The program, and its API."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=PATIENCE_S)

    def get(self, path: str, **parameters: str) -> Any:
        answer = self._client.get(path, params=parameters).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    def ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def has_an_answer(self, query: str) -> bool:
        return bool(self.get("/api/v1/query", query=query)["result"])

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    target = {
        "targets": [server.url.rpartition("/")[2]],
        "labels": {"namespace": "default", "pod": "paddleinfer-0"},
    }
    settings = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [{"job_name": "paddleinfer", "static_configs": [target]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    [port] = free_ports(1)
    command = [need("prometheus", "prometheus"), f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    log = folder / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(command, stdout=written, stderr=written)
    running = Prometheus(f"http://127.0.0.1:{port}")
    try:
        assert eventually(running.ready), log.read_text()
        yield running
    finally:
        running.close()
        process.terminate()
        process.wait(PATIENCE_S)


def filled_in(query: str) -> str:
    """As Grafana and prometheus-adapter would send it."""
    for place, text in (
        ("$__rate_interval", RATE),
        ("$model", ".*"),
        ("$instance", ".*"),
        ("<<.LabelMatchers>>", 'namespace="default"'),
        ("<<.GroupBy>>", "pod"),
    ):
        query = query.replace(place, text)
    return query


def variable_of(query: str) -> tuple[str, str] | None:
    """Metric and label of ``label_values(metric, label)``."""
    if not query.startswith("label_values("):
        return None
    metric, _, label = query.removeprefix("label_values(").removesuffix(")").partition(", ")
    return metric, label


def test_every_query_has_an_answer_while_a_server_works(server: Server, prometheus: Prometheus) -> None:
    asked = [(where, filled_in(query)) for where, query in queries() if not where.startswith("alert")]
    assert len(asked) > 30
    with under_load(server) as statuses:
        for where, query in asked:
            variable = variable_of(query)
            if variable is not None:
                metric, label = variable
                values = prometheus.get(f"/api/v1/label/{label}/values", **{"match[]": metric})
                assert values, where
            else:
                assert eventually(lambda query=query: prometheus.has_an_answer(query)), (where, query)
    assert 200 in statuses


def test_every_alert_can_be_evaluated_and_none_is_raised_for_a_server_that_works(
    server: Server, prometheus: Prometheus
) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = prometheus.get("/api/v1/rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    with under_load(server):
        assert eventually(lambda: all(rule["health"] != "unknown" for rule in rules()))
    found = rules()
    assert {rule["name"]: rule["health"] for rule in found} == {rule["alert"]: "ok" for rule in alert_rules()}
    assert not [rule["name"] for rule in found if rule["state"] == "firing"]
