"""Ops of a pipeline whose models are on other servers."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import uvicorn
from engine_helpers import eventually
from serving_models import HOUSE
from serving_pipelines import UciOp, asked, pipeline_of

from paddleinfer import Engine
from paddleinfer.serving import RequestOp
from paddleinfer.shim import create_app

HOUSE_TEXT = ",".join(map(str, HOUSE))


def test_an_op_asks_other_servers_for_its_model(fit_a_line: Path) -> None:
    with Engine(fit_a_line) as engine:
        config = uvicorn.Config(create_app({"uci": engine}), port=0, log_level="error", lifespan="on")
        remote = uvicorn.Server(config)
        thread = threading.Thread(target=remote.run)
        thread.start()
        eventually(lambda: remote.started)
        port = remote.servers[0].sockets[0].getsockname()[1]
        op = {
            "server_endpoints": [f"127.0.0.1:{port}"],
            "client_config": str(fit_a_line / "serving_server_conf.prototxt"),
            "client_type": "brpc",
            "timeout": 60_000,
            "fetch_list": ["price"],
        }
        try:
            with pipeline_of(UciOp("uci", [RequestOp()]), uci=op) as server:
                answer = asked(server, x=HOUSE_TEXT)
                assert "over HTTP" in server.effective_config()["op.uci.client_type"]["pipeline"]
        finally:
            remote.should_exit = True
            thread.join()
        expected = engine.infer({"x": np.array([HOUSE], "float32")})
    assert answer.value == [str(next(iter(expected.values())))]


def test_a_server_that_is_not_there_is_an_error_of_the_model(fit_a_line: Path) -> None:
    op = {
        "server_endpoints": ["127.0.0.1:1"],
        "client_config": str(fit_a_line / "serving_server_conf.prototxt"),
    }
    with pipeline_of(UciOp("uci", [RequestOp()]), uci=op) as server:
        assert asked(server, x=HOUSE_TEXT).err_no == 9000
