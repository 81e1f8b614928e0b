"""More models than fit, many clients, and reloads in between: no request is lost. On the real clock."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import orjson
import pytest
from engine_helpers import PATIENCE_S, rows
from http_helpers import json_tensor, outputs_of, serving_services
from zoo import Zoo

from paddleinfer.config import EngineConfig
from paddleinfer.engine import memory
from paddleinfer.shim import ModelSource

ONE = EngineConfig.from_options({"instances": 1, "check_load": "here"})
CLIENTS = 8
MODELS = 4
ROOM = 2
BODY = orjson.dumps({"inputs": [json_tensor("x", rows())]})

pytestmark = pytest.mark.stress


def in_pieces() -> Iterator[bytes]:
    yield BODY[:10]
    yield BODY[10:]


@pytest.mark.parametrize("content", [lambda: BODY, in_pieces], ids=["on the fast path", "in pieces"])
def test_no_request_is_lost_where_half_of_the_models_fit(
    zoo: Zoo, tmp_path: Path, stress_seconds: float, content: Any
) -> None:
    for number in range(MODELS):
        shutil.copytree(zoo.directory(f"weight-{number}", zoo.formats[0]), tmp_path / str(number))
    sources: dict[str, Any] = {
        f"m{number}": ModelSource(tmp_path / str(number), ONE) for number in range(MODELS)
    }
    limit = ROOM * memory.estimate(tmp_path / "0", ONE)[1]
    requests = max(10, round(stress_seconds))
    failures: list[str] = []
    answered = []
    over = threading.Event()

    with serving_services(sources, {}, max_loaded_bytes=limit, repository_control=True) as server:
        url = f"http://127.0.0.1:{server.port}/v2"

        def ask(seed: int) -> None:
            chosen = random.Random(seed)
            with httpx.Client(timeout=PATIENCE_S) as client:
                for _ in range(requests):
                    number = chosen.randrange(MODELS)
                    response = client.post(f"{url}/models/m{number}/infer", content=content())
                    if response.status_code != 200:
                        failures.append(response.text)
                        continue
                    (values,) = outputs_of(response).values()
                    if not (values == number).all():
                        failures.append(f"m{number} answered {values}")
                    answered.append(number)

        def reload() -> None:
            chosen = random.Random(CLIENTS)
            with httpx.Client(timeout=PATIENCE_S) as client:
                while not over.wait(0.05):
                    number = chosen.randrange(MODELS)
                    response = client.post(f"{url}/repository/models/m{number}/load")
                    # While others are being loaded there may be no room for it twice.
                    if response.status_code not in (200, 503):
                        failures.append(response.text)

        reloading = threading.Thread(target=reload)
        clients = [threading.Thread(target=ask, args=(seed,)) for seed in range(CLIENTS)]
        for thread in (reloading, *clients):
            thread.start()
        for thread in clients:
            thread.join(PATIENCE_S)
        over.set()
        reloading.join(PATIENCE_S)
        room = server.service.models.room
        assert room is not None
        in_use = [model.in_use for model in server.service.models]

    assert failures == []
    assert len(answered) == CLIENTS * requests
    assert room.budget.peak_bytes <= limit
    assert room.loads.total() > MODELS
    assert in_use == MODELS * [0]
