"""``PipelineClient`` in one process with the model or the pipeline: it asks as over the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc_helpers
import numpy as np
import pipeline_wire as wire
import pytest
from engine_helpers import PATIENCE_S, Gate, engine_of
from pipeline_doubles import EchoPipeline
from serving_models import HOUSE, HOUSE_TEXT, price_of

from paddleinfer.errors import Cancelled, ConfigError, EngineClosed
from paddleinfer.serving import Op, PipelineClient, RequestOp, WebService


def test_a_model_in_the_process_is_asked_in_the_same_way(client: PipelineClient, fit_a_line: Path) -> None:
    client.connect([f"inproc://{fit_a_line}"])
    expected = price_of(fit_a_line, np.array([HOUSE]))
    ret = client.predict({"x": HOUSE_TEXT}, fetch=["price"])
    np.testing.assert_allclose(json.loads(ret.value[0]), expected, rtol=1e-5)
    again = client.predict({"x": np.array([HOUSE], "float32")}, asyn=True, pack_tensor_format=True).result()
    np.testing.assert_allclose(again.tensors[0].float_data, expected[0], rtol=1e-5)


def test_a_pipeline_in_the_process_is_asked_in_the_same_way(client: PipelineClient) -> None:
    with EchoPipeline() as pipeline:
        client.connect(pipeline)
        ret = client.predict({"k": "välue"}, log_id=3)
        assert ret.SerializeToString() == wire.response({"k": "välue"})
        words = client.predict({"words": np.array(["ä", "b"])}, pack_tensor_format=True)
        assert words.SerializeToString() == wire.response(
            None, wire.tensor("words", 12, (2,), texts=["ä", "b"])
        )
        assert pipeline.seen[0].log_id == 3
        client.release()


def test_a_web_services_pipeline_is_asked_in_the_same_way(client: PipelineClient) -> None:
    class Doubling(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            (given,) = input_dicts.values()
            return {"x": np.array(json.loads(given["x"]), "float32")}, False, None, ""

        def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
            return {"y": str(fetch_dict["y"].tolist())}, None, ""

    class Twice(WebService):
        def get_pipeline_response(self, read_op: RequestOp) -> Op:
            return Doubling("double", [read_op])

    service = Twice("twice")
    conf = {"http_port": 9998, "rpc_port": 9999}
    with engine_of() as engine, engine_of() as other:
        service.prepare_pipeline_config(yml_dict=conf, engines={"double": engine})
        with grpc_helpers.serving(other, pipelines={"twice": service.pipeline}) as served:
            for target in (served.server.addresses[0], service.pipeline):
                client.connect(target)
                ret = client.predict({"x": "[[1, 2, 3]]"}, profile=True)
                assert (ret.err_no, list(ret.key)) == (0, ["y", "pipeline.profile"])
                assert ret.value[0] == "[[2.0, 4.0, 6.0]]"
                assert client.predict({"x": "[[1, 2]]"}).err_no == 5000
            client.release()
        service.close()


def test_a_release_ends_what_waits_and_leaves_a_given_engine_open() -> None:
    gate = Gate()
    with engine_of(gate) as engine:
        client = PipelineClient()
        client.connect(engine)
        waiting = client.predict({"x": "1,2,3"}, asyn=True)
        gate.wait_entered()
        client.release()
        with pytest.raises(Cancelled, match="released"):
            waiting.result(timeout=PATIENCE_S)
        gate.open()
        assert engine.infer({"x": np.ones((1, 3), "float32")})["y"].tolist() == [[2, 2, 2]]
        with pytest.raises(ConfigError, match="not connected"):
            client.predict({"x": "1,2,3"})


def test_a_deadline_in_the_process_is_a_number_in_the_response() -> None:
    gate = Gate()
    with engine_of(gate) as engine:
        client = PipelineClient()
        client.connect(engine)
        client.set_rpc_timeout_ms(20)
        ret = client.predict({"x": "1,2,3"})
        assert ret.err_no == 6000 and "0.02 s" in ret.err_msg
        gate.open()
        client.release()


def test_a_forked_child_is_told_to_connect_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with engine_of() as engine:
        client = PipelineClient()
        client.connect(engine)
        assert client.predict({"x": "1,2,3"}).err_no == 0
        with monkeypatch.context() as child:
            child.setattr("os.getpid", lambda: -1)
            with pytest.raises(EngineClosed, match="after the fork"):
                client.predict({"x": "1,2,3"})
        assert client.predict({"x": "1,2,3"}).err_no == 0
        client.release()
