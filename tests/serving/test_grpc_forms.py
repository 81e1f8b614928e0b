"""Paddle Serving's general service over gRPC, and its clients of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc_helpers
import numpy as np
import pytest
import serving_wire as wire
from engine_helpers import PATIENCE_S, Gate, engine_of, run_threads
from grpc_helpers import Served, failure
from serving_models import HOUSE, price_of

from paddleinfer import Engine
from paddleinfer.cli.main import main
from paddleinfer.errors import DeadlineExceeded, ModelError
from paddleinfer.models.serving_conf import CLIENT_FILE_NAME
from paddleinfer.serving import Client, HttpClient

METHOD = "/baidu.paddle_serving.predictor.general_model.GeneralModelService/inference"
CONF = """feed_var { name: "x" alias_name: "x" feed_type: 1 shape: 3 }
fetch_var { name: "y" alias_name: "y" fetch_type: 1 shape: 3 }
"""
ROW = wire.request(wire.tensor("x", [1, 3], floats=[1, 2, 3], packed=True))


@pytest.fixture(scope="module")
def uci(fit_a_line: Path) -> Iterator[Served]:
    with Engine(fit_a_line) as engine, grpc_helpers.serving({"uci": engine}) as served:
        yield served


@pytest.fixture
def conf(tmp_path: Path) -> str:
    (tmp_path / CLIENT_FILE_NAME).write_text(CONF)
    return str(tmp_path)


def address(served: Served) -> str:
    return served.server.addresses[0]


def ask(served: Served, body: bytes, **how: Any) -> bytes:
    answer: bytes = served.channel.unary_unary(METHOD)(body, timeout=PATIENCE_S, **how)
    return answer


def test_a_message_is_answered_byte_for_byte(uci: Served, fit_a_line: Path) -> None:
    asked = wire.request(wire.tensor("x", [1, 13], floats=HOUSE), fetch=("price",), log_id=7)
    read = wire.read_response(ask(uci, asked))
    (output,) = read["outputs"]
    (tensor,) = output["tensor"]
    expected = price_of(fit_a_line, np.array([HOUSE]))
    np.testing.assert_allclose(tensor["float_data"], expected[0], rtol=1e-5)
    assert (tensor["alias_name"], tensor["shape"]) == ("price", [1, 1])
    assert output["engine_name"] == "GeneralInferOp_0"
    assert (read["log_id"], read["err_no"]) == (7, 0)


def test_the_documented_clients_get_their_answers_over_grpc(
    uci: Served, fit_a_line: Path, tmp_path: Path
) -> None:
    client_dir = tmp_path / "uci_housing_client"
    assert main(["convert", str(fit_a_line), "--serving_client", str(client_dir)]) == 0
    expected = price_of(fit_a_line, np.array([HOUSE]))
    client = Client()
    client.load_client_config(str(client_dir))
    client.connect([f"grpc://{address(uci)}"])
    np.testing.assert_allclose(client.predict({"x": HOUSE}, "price")["price"], expected, rtol=1e-5)
    client.release()
    other = HttpClient()
    other.load_client_config(str(client_dir))
    other.set_use_grpc_client(True)
    other.connect([address(uci)])
    new_data = np.array([HOUSE], "float32")
    fetch_map = other.predict(feed={"x": new_data}, fetch=other.get_fetch_names(), batch=True)
    np.testing.assert_allclose(fetch_map.outputs[0].tensor[0].float_data, expected[0], rtol=1e-5)
    assert other.grpc_client_predict({"x": HOUSE}).err_no == 0
    other.close()


@pytest.mark.parametrize("body", [b"\x0a", b"{}", wire.request(), wire.request(*[b""] * 1025)])
def test_what_is_wrong_is_in_the_answer(body: bytes) -> None:
    with engine_of() as engine, grpc_helpers.serving(engine) as served:
        read = wire.read_response(ask(served, body))
        assert read["err_no"] == -5000 and read["err_msg"] and read["outputs"] == []
        assert wire.read_response(ask(served, ROW))["err_no"] == 0
    with engine_of() as engine, grpc_helpers.serving(engine, http_status="real") as served:
        code, sentence = failure(lambda: ask(served, body))
        assert code is grpc.StatusCode.INVALID_ARGUMENT and sentence
        served.still_answers()


def test_a_failing_model_is_a_model_error_for_the_client(conf: str) -> None:
    def fail(inputs: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("negative")

    with engine_of(fail) as engine, grpc_helpers.serving(engine) as served:
        client = Client()
        client.load_client_config(conf)
        client.connect(f"grpc://{address(served)}")
        with pytest.raises(ModelError, match="negative"):
            client.predict({"x": [1, 2, 3]})
        client.release()


def test_of_several_models_the_service_names_them() -> None:
    with engine_of() as engine, grpc_helpers.serving({"a": engine, "b": engine}) as served:
        assert "a, b" in wire.read_response(ask(served, ROW))["err_msg"]


def test_a_key_is_asked_for_and_may_be_given_by_the_client(conf: str) -> None:
    with engine_of() as engine, grpc_helpers.serving(engine, api_key="k") as served:
        assert failure(lambda: ask(served, ROW))[0] is grpc.StatusCode.UNAUTHENTICATED
        client = HttpClient()
        client.load_client_config(conf)
        client.set_use_grpc_client(True)
        client.connect(address(served))
        with pytest.raises(ConnectionError, match="UNAUTHENTICATED"):
            client.predict({"x": [1, 2, 3]})
        client.add_http_headers({"Authorization": "Bearer k"})
        assert client.predict({"x": [1, 2, 3]}).err_no == 0
        client.close()


def test_a_silent_server_and_none_at_all_are_errors(conf: str) -> None:
    gate = Gate()
    with engine_of(gate) as engine, grpc_helpers.serving(engine) as served:
        client = HttpClient()
        client.load_client_config(conf)
        client.set_use_grpc_client(True)
        client.connect(address(served))
        client.set_timeout_ms(50)
        with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
            client.predict({"x": [1, 2, 3]})
        gate.open()
        client.close()
    client.set_timeout_ms(int(PATIENCE_S * 1000))
    with pytest.raises(ConnectionError, match="UNAVAILABLE"):
        client.predict({"x": [1, 2, 3]})
    client.close()


def test_threads_share_one_client(conf: str) -> None:
    with engine_of() as engine, grpc_helpers.serving(engine) as served:
        client = Client()
        client.load_client_config(conf)
        client.connect([f"grpc://{address(served)}"])

        def ask_often(number: int) -> None:
            for _ in range(4):
                assert client.predict({"x": [number] * 3})["y"].tolist() == [[2 * number] * 3]

        run_threads(16, ask_often)
        client.release()
