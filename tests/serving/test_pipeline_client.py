"""``PipelineClient``: what it gives of what was answered."""

from __future__ import annotations

import json
from pathlib import Path

import grpc_helpers
import ml_dtypes
import numpy as np
import pipeline_wire as wire
import pytest
from engine_helpers import echo_engine, engine_of
from pipeline_listener import Listener
from serving_models import HOUSE, HOUSE_TEXT, price_of

from paddleinfer import Engine
from paddleinfer.errors import InvalidInput
from paddleinfer.serving import Client, HttpClient, PipelineClient

GENERAL = "baidu.paddle_serving.predictor.general_model.GeneralModelService"


def test_the_documented_client_gets_the_documented_answer(client: PipelineClient, fit_a_line: Path) -> None:
    with Engine(fit_a_line) as engine, grpc_helpers.serving({"uci": engine}) as served:
        client.connect([served.server.addresses[0]])
        ret = client.predict(feed_dict={"x": HOUSE_TEXT}, fetch=["price"])
        client.release()
    assert (ret.err_no, ret.err_msg, list(ret.key)) == (0, "", ["price"])
    expected = price_of(fit_a_line, np.array([HOUSE]))
    np.testing.assert_allclose(json.loads(ret.value[0]), expected, rtol=1e-5)


def test_the_documented_future_gives_the_same(client: PipelineClient, fit_a_line: Path) -> None:
    with Engine(fit_a_line) as engine, grpc_helpers.serving({"uci": engine}) as served:
        client.connect([served.server.addresses[0]])
        asked = [client.predict({"x": HOUSE_TEXT}, asyn=True) for _ in range(8)]
        answers = [future.result() for future in asked]
        assert all(future.done() and not future.cancel() for future in asked)
        client.release()
    expected = price_of(fit_a_line, np.array([HOUSE]))
    for answer in answers:
        assert (answer.err_no, list(answer.key)) == (0, ["price"])
        np.testing.assert_allclose(json.loads(answer.value[0]), expected, rtol=1e-5)


@pytest.mark.parametrize("as_files", [False, True])
@pytest.mark.parametrize("dtype", wire.FIELD_OF)
def test_arrays_of_every_type_are_answered(client: PipelineClient, dtype: str, as_files: bool) -> None:
    np_dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(np_dtype)
    number, field = wire.FIELD_OF[dtype]
    expected = (array.view("uint16") if dtype == "bfloat16" else array).reshape(-1).tolist()
    with echo_engine(dtype) as engine, grpc_helpers.serving(engine) as served:
        for target in (served.server.addresses[0], engine):
            client.connect(target)
            ret = client.predict({"x": array}, pack_tensor_format=True, use_tensor_bytes=as_files)
            (tensor,) = ret.tensors
            assert (tensor.name, tensor.elem_type, list(tensor.shape)) == ("y", number, [2, 3])
            assert list(getattr(tensor, field)) == expected
        client.release()


def test_a_response_has_all_that_was_answered(client: PipelineClient, listener: Listener) -> None:
    tensors = (
        wire.tensor("t", 1, (2,), float_data=[1, 2]),
        wire.tensor("s", 12, (1,), texts=["ä"]),
    )
    listener.answer = wire.response({"a": "1", "b": "2"}, *tensors)
    client.connect(listener.address)
    ret = client.predict({"x": "1"})
    assert (ret.err_no, list(ret.key), list(ret.value)) == (0, ["a", "b"], ["1", "2"])
    assert [(one.name, list(one.float_data), list(one.str_data)) for one in ret.tensors] == [
        ("t", [1, 2], []),
        ("s", [], ["ä"]),
    ]
    assert ret.SerializeToString() == listener.answer


def test_fetch_chooses_and_refuses_what_is_not_there(client: PipelineClient, listener: Listener) -> None:
    listener.answer = wire.response({"a": "1", "b": "2"}, wire.tensor("t", 1, (1,), float_data=[1]))
    client.connect(listener.address)
    assert client.predict({}, fetch=["b"]).SerializeToString() == wire.response({"b": "2"})
    chosen = client.predict({}, fetch=["t", "a"])
    assert list(chosen.key) == ["a"] and [tensor.name for tensor in chosen.tensors] == ["t"]
    with pytest.raises(InvalidInput, match="no 'c'; it has a, b, t"):
        client.predict({}, fetch=["a", "c"])
    # Names of Paddle Serving's own examples, whose answers have others.
    assert list(client.predict({}, fetch=["res"]).key) == ["a", "b"]
    listener.answer = wire.response(err_no=5000, err_msg="no")
    assert client.predict({}, fetch=["c"]).err_no == 5000


def test_an_answer_that_is_none_is_an_error(client: PipelineClient, listener: Listener) -> None:
    listener.answer = b"\x0a\xff"
    client.connect(listener.address)
    with pytest.raises(ConnectionError, match=r"is no baidu\S*Response"):
        client.predict({"x": "1"})


def test_the_general_clients_say_so_too(fit_a_line: Path) -> None:
    with Listener(GENERAL) as listener:
        listener.answer = b"\x0a\xff"
        http = HttpClient()
        http.set_use_grpc_client(True)
        http.load_client_config(str(fit_a_line))
        http.connect(listener.address)
        other = Client()
        other.load_client_config(str(fit_a_line))
        other.connect(f"grpc://{listener.address}")
        for predict in (http.predict, other.predict):
            with pytest.raises(ConnectionError, match=r"is no baidu\S*Response"):
                predict({"x": HOUSE})
        http.close()
        other.release()


def test_errors_are_in_the_response() -> None:
    with engine_of() as engine, grpc_helpers.serving(engine) as served:
        for target in (served.server.addresses[0], engine):
            client = PipelineClient()
            client.connect(target)
            ret = client.predict({"nothing": "1,2,3"})
            assert ret.err_no == 5000 and "the model takes x" in ret.err_msg
            client.release()


@pytest.mark.parametrize("as_tensors", [False, True])
def test_the_stages_are_answered_where_they_are_asked_for(as_tensors: bool) -> None:
    with engine_of() as engine, grpc_helpers.serving(engine) as served:
        for target in (served.server.addresses[0], engine):
            client = PipelineClient()
            client.connect(target)
            feed = {"x": np.ones((1, 3), "float32")}
            ret = client.predict(feed, profile=True, pack_tensor_format=as_tensors)
            assert ret.err_no == 0, ret.err_msg
            assert ret.key[-1] == "pipeline.profile"
            assert ret.value[-1].startswith("PROFILE\tpid:") and " midp_0:" in ret.value[-1]
            assert "pipeline.profile" not in client.predict(feed).key
            client.release()


def test_the_client_writes_its_own_stages_if_the_environment_says_so(
    client: PipelineClient,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FLAGS_profile_client", "1")
    client.connect(listener.address)
    client.predict({"x": "1"})
    assert "py_prepro_0:" in (line := capsys.readouterr().err) and "py_client_infer_1:" in line
