"""Models that are loaded again over HTTP while requests go on. On the real clock."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import httpx2 as httpx
import orjson
import pytest
from engine_helpers import PATIENCE_S, rows
from http_helpers import json_tensor, outputs_of
from http_processes import started
from zoo import Zoo

CLIENTS = 4
PAUSE_S = 0.01  # about half of what the server can do besides loading


@pytest.mark.stress
def test_no_request_is_lost_or_mixed_over_reloads(zoo: Zoo, tmp_path: Path, stress_seconds: float) -> None:
    reloads = max(5, round(stress_seconds / 2))
    models = [zoo.directory(f"constant-{value}", zoo.formats[0]) for value in (1, 2)]
    served = tmp_path / "served"
    shutil.copytree(models[0], served)
    command = ["-m", "paddleinfer.shim", f"--model=m={served}", "--host", "127.0.0.1", "--port", "0"]
    with started(*command, "--repository-control", "--instances", "1") as server:
        (name,) = (
            tensor["name"]
            for tensor in httpx.get(f"{server.url}/v2/models/m", timeout=PATIENCE_S).json()["inputs"]
        )
        body = orjson.dumps({"inputs": [json_tensor(name, rows(3))]})
        over = threading.Event()
        seen: list[set[float]] = []
        failures: list[str] = []

        def ask() -> None:
            answers: set[float] = set()
            seen.append(answers)
            with httpx.Client(timeout=PATIENCE_S) as client:
                while not over.wait(PAUSE_S):
                    response = client.post(f"{server.url}/v2/models/m/infer", content=body)
                    if response.status_code != 200:
                        failures.append(response.text)
                        continue
                    (values,) = outputs_of(response).values()
                    if values.min() != values.max():
                        failures.append(f"mixed: {values}")
                    answers.add(float(values.flat[0]))

        threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for turn in range(reloads):
            for file in models[(turn + 1) % 2].iterdir():
                shutil.copy(file, served / file.name)
            response = httpx.post(f"{server.url}/v2/repository/models/m/load", timeout=PATIENCE_S)
            assert response.status_code == 200, response.text
        over.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        metrics = httpx.get(f"{server.url}/metrics", timeout=PATIENCE_S).text
    assert failures == []
    assert set().union(*seen) == {1.0, 2.0}
    assert f'paddleinfer_model_generation{{model="m"}} {reloads + 1}.0' in metrics
