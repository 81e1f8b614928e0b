"""``PipelineClient``: what it sends, byte for byte, what it gives, and whom it asks."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import grpc_helpers
import ml_dtypes
import numpy as np
import pipeline_wire as wire
import pytest
from engine_helpers import PATIENCE_S, Gate, echo_engine, engine_of, eventually, rows, run_threads
from pipeline_doubles import EchoPipeline
from serving_models import HOUSE, price_of

from paddleinfer import Engine
from paddleinfer.errors import Cancelled, ConfigError, DeadlineExceeded, EngineClosed, InvalidInput
from paddleinfer.serve import Service
from paddleinfer.serving import Client, HttpClient, Op, PipelineClient, RequestOp, WebService
from paddleinfer.serving.grpc_channel import GrpcChannel

PIPELINES = "baidu.paddle_serving.pipeline_serving.PipelineService"
GENERAL = "baidu.paddle_serving.predictor.general_model.GeneralModelService"
HOUSE_TEXT = ", ".join(map(str, HOUSE))


class Listener:
    """A server that keeps what it was sent, and answers the same each time."""

    def __init__(self, service: str = PIPELINES) -> None:
        self.bodies: list[bytes] = []
        self.answer = b""
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(self._inference)
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, {"inference": handler})]
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def _inference(self, body: bytes, context: Any) -> bytes:
        self.bodies.append(body)
        return self.answer

    def __enter__(self) -> Listener:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()


@pytest.fixture(scope="module")
def listening() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.fixture
def listener(listening: Listener) -> Listener:
    listening.bodies.clear()
    listening.answer = b""
    return listening


@pytest.fixture
def client() -> Iterator[PipelineClient]:
    client = PipelineClient()
    yield client
    client.release()


# The documented snippets


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
    assert {answer.SerializeToString() for answer in answers} == {answers[0].SerializeToString()}
    assert answers[0].err_no == 0


# What is sent


@pytest.mark.parametrize(
    ("feed", "options", "body"),
    [
        ({"x": "1, 2"}, {}, wire.request({"x": "1, 2"})),
        ({"ä": ""}, {"log_id": 7}, wire.request({"ä": ""}, logid=7)),
        ({"x": [[1, 2], [3, 4]]}, {}, wire.request({"x": "[[1, 2], [3, 4]]"})),
        ({"x": ["a", "b"]}, {}, wire.request({"x": '["a", "b"]'})),
        ({"x": np.array([[0.5, 2]], "float32")}, {}, wire.request({"x": "[[0.5, 2.0]]"})),
        ({"x": np.array(3)}, {}, wire.request({"x": "3"})),
        (
            {"x": "1", "logid": -9, "clientip": "1.2.3.4"},
            {},
            wire.request({"x": "1"}, logid=-9, clientip="1.2.3.4"),
        ),
        ({"x": "1"}, {"profile": True}, wire.request({"x": "1", "pipeline.profile": "1"})),
        ({}, {}, wire.request()),
        (
            {"x": np.array([[1, 2]], "float32"), "x.lod": [0, 2]},
            {"pack_tensor_format": True},
            wire.request(None, wire.tensor("x", 1, (1, 2), float_data=[1, 2], lod=[0, 2])),
        ),
        (
            {"x": "words"},
            {"pack_tensor_format": True},
            wire.request(None, wire.tensor("x", 12, texts=["words"])),
        ),
        (
            {"x": np.array([["a", "ä"], ["", "d"]])},
            {"pack_tensor_format": True},
            wire.request(None, wire.tensor("x", 12, (2, 2), texts=["a", "ä", "", "d"])),
        ),
        (
            {"x": np.array(["a", "b"], object)},
            {"pack_tensor_format": True, "use_tensor_bytes": True},
            wire.request(None, wire.tensor("x", 12, (2,), texts=["a", "b"])),
        ),
        (
            {"x": np.array([7, 9], ">u2")},
            {"pack_tensor_format": True},
            wire.request(None, wire.tensor("x", 6, (2,), uint32_data=[7, 9])),
        ),
        (
            {"x": np.zeros((0, 3), "int64")},
            {"pack_tensor_format": True},
            wire.request(None, wire.tensor("x", 0, (0, 3))),
        ),
    ],
)
def test_requests_are_sent_byte_for_byte(
    client: PipelineClient, listener: Listener, feed: dict[str, Any], options: dict[str, Any], body: bytes
) -> None:
    before = dict(feed)
    client.connect(listener.address)
    client.predict(feed, **options)
    assert wire.read_request(listener.bodies[0]) == wire.read_request(body)
    assert listener.bodies == [body]
    assert list(feed) == list(before) and all(feed[key] is before[key] for key in feed)


@pytest.mark.parametrize("as_files", [False, True])
@pytest.mark.parametrize("dtype", wire.FIELD_OF)
def test_arrays_of_every_type_arrive(
    client: PipelineClient, listener: Listener, dtype: str, as_files: bool
) -> None:
    np_dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    array = np.array([[0, 1], [1, 0], [1, 1]]).astype(np_dtype).T  # not contiguous
    client.connect(listener.address)
    client.predict({"x": array}, pack_tensor_format=True, use_tensor_bytes=as_files)
    (tensor,) = wire.read_request(listener.bodies[0])["tensors"]
    assert (tensor["name"], tensor["shape"]) == ("x", [2, 3])
    number, field = wire.FIELD_OF[dtype]
    bits = array.view("uint16") if dtype == "bfloat16" else array
    if as_files:
        assert tensor["elem_type"] == 13
        np.testing.assert_array_equal(np.load(io.BytesIO(tensor["byte_data"])), bits)
    else:
        assert tensor.get("elem_type", 0) == number
        assert tensor[field] == bits.reshape(-1).tolist()


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


@pytest.mark.parametrize(
    ("feed", "options", "says"),
    [
        ([1], {}, "must be a dict"),
        ({1: "x"}, {}, "a key of feed_dict must be a text, not 1"),
        ({"x": "a\ud800"}, {}, "'x' has half a character at 1, which UTF-8 cannot say"),
        ({"x": ["\ud800"]}, {"pack_tensor_format": True}, "half a character"),
        ({"\ud800": "x"}, {}, "a key of feed_dict has half a character"),
        ({"x": "y", "clientip": "\ud800"}, {}, "clientip has half a character"),
        ({"x": 5}, {}, "must be a text, an array or a list"),
        ({"x": None}, {"pack_tensor_format": True}, "must be a text, an array or a list"),
        ({"x": [[1], [2, 3]]}, {}, "no rectangular list"),
        ({"x": [1, "a"]}, {}, "holds both"),
        ({"x": np.array([np.nan])}, {}, "pack_tensor_format"),
        ({"x": np.array([b"a"])}, {}, "JSON cannot say"),
        ({"x": np.array([b"a"])}, {"pack_tensor_format": True}, "is of"),
        ({"x": np.zeros(1, "complex64")}, {"pack_tensor_format": True}, "is of complex64"),
        ({"x": np.array([object()])}, {"pack_tensor_format": True}, "only texts"),
        ({"x": "1", "clientip": 5}, {}, "clientip"),
        ({"x": "1", "logid": "five"}, {}, "log_id"),
        ({"x": "1"}, {"log_id": 1 << 63}, "log_id"),
        ({"x": "1"}, {"fetch": "y"}, "list of names"),
        ({"x": "1"}, {"fetch": [5]}, "list of names"),
        ({"x": "1"}, {"asyn": 1}, "asyn"),
        ({"x": "1"}, {"use_tensor_bytes": True}, "pack_tensor_format"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_a_sentence(
    client: PipelineClient, listener: Listener, feed: Any, options: dict[str, Any], says: str
) -> None:
    client.connect(listener.address)
    with pytest.raises((InvalidInput, ConfigError), match=says):
        client.predict(feed, **options)
    assert listener.bodies == []


def test_the_name_says_whom_to_ask(listener: Listener) -> None:
    client = PipelineClient(name="ocr")
    client.connect(listener.address)
    client.predict({"x": "1"})
    client.release()
    assert listener.bodies == [wire.request({"x": "1"}, name="ocr")]
    with pytest.raises(ConfigError, match="name"):
        PipelineClient(name=5)  # type: ignore[arg-type]


# What comes back


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


# Whom it asks


def test_several_servers_take_turns_and_one_that_is_gone_is_passed_over(client: PipelineClient) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = f"127.0.0.1:{unused.getsockname()[1]}"
        with Listener() as one, Listener() as other:
            client.connect([one.address, gone, f"grpc://{other.address}"])
            while not (one.bodies and other.bodies):
                assert client.predict({"x": "1"}).err_no == 0
            client.release()


@pytest.mark.parametrize(
    ("endpoints", "says"),
    [
        ([], "endpoints are a list"),
        (["nonsense"], "endpoints are a list"),
        (["127.0.0.1:99999"], "endpoints are a list"),
        (["127.0.0.1:1", 5], "in this process"),
        ([5], "an Engine is asked"),
        (object(), "an Engine is asked"),
        (["inproc://x", "127.0.0.1:1"], "cannot stand beside"),
        (["nobody.invalid:1", "127.0.0.1:1"], "not known"),
    ],
)
def test_what_cannot_be_asked_is_refused(client: PipelineClient, endpoints: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        client.connect(endpoints)
    with pytest.raises(ConfigError, match="not connected"):
        client.predict({"x": "1"})


def test_a_silent_server_and_none_at_all_are_errors(client: PipelineClient) -> None:
    gate = Gate()
    with engine_of(gate) as engine, grpc_helpers.serving(engine) as served:
        client.connect(served.server.addresses[0])
        client.set_rpc_timeout_ms(50)
        with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
            client.predict({"x": "1,2,3"})
        client.set_rpc_timeout_ms(int(PATIENCE_S * 1000))
        waiting = client.predict({"x": "1,2,3"}, asyn=True)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.01)
        assert waiting.cancel()
        with pytest.raises(Cancelled):
            waiting.result()
        gate.open()
    with pytest.raises(ConnectionError, match="UNAVAILABLE"):
        client.predict({"x": "1,2,3"})


def test_the_longest_timeout_is_no_deadline_that_has_passed(client: PipelineClient) -> None:
    with echo_engine() as engine, grpc_helpers.serving(engine) as served:
        client.connect(served.server.addresses[0])
        client.set_rpc_timeout_ms((1 << 63) - 1)
        assert client.predict({"x": "1,2,3"}).err_no == 0
        assert client.predict({"x": "1,2,3"}, asyn=True).result().err_no == 0


def test_a_channel_that_was_closed_meanwhile_is_no_connection() -> None:
    channel = GrpcChannel(["127.0.0.1:9"], "s")
    channel.close()
    for ask in (channel.post, channel.begin):
        with pytest.raises(ConnectionError, match="released meanwhile"):
            ask(b"", {}, PATIENCE_S)


def test_what_is_cancelled_or_too_late_is_given_up_by_the_server() -> None:
    gate = Gate()
    with (
        engine_of(gate) as engine,
        Service(engine, preprocess=lambda _: {"x": rows()}) as service,
        grpc_helpers.serving(engine, {"s": service}) as served,
    ):
        client = PipelineClient(name="s")
        client.connect(served.server.addresses[0])
        asked = [client.predict({"k": "v"}, asyn=True) for _ in range(5)]
        assert eventually(lambda: service.calls.under_way == 5)
        assert all(future.cancel() for future in asked)
        assert eventually(lambda: service.calls.under_way == 0)
        client.set_rpc_timeout_ms(30)
        with pytest.raises(DeadlineExceeded):
            client.predict({"k": "v"})
        assert eventually(lambda: service.calls.under_way == 0)
        assert service.stats()["outcomes"]["cancelled"] >= 5
        gate.open()
        client.release()


def test_a_key_is_sent_with_every_call(client: PipelineClient) -> None:
    with engine_of() as engine, grpc_helpers.serving(engine, api_key="k") as served:
        client.connect(served.server.addresses[0])
        with pytest.raises(ConnectionError, match="UNAUTHENTICATED"):
            client.predict({"x": "1,2,3"})
        client.add_metadata({"Authorization": "Bearer k"})
        assert client.predict({"x": "1,2,3"}).err_no == 0
        client.release()


@pytest.mark.parametrize(
    "metadata", [5, {"a b": "c"}, {"": "c"}, {5: "c"}, {"a": 5}, {"a": "ä"}, {"a": "\n"}, {"a-bin": "c"}]
)
def test_metadata_that_cannot_be_sent_is_refused(client: PipelineClient, metadata: Any) -> None:
    with pytest.raises(ConfigError, match="metadata"):
        client.add_metadata(metadata)


def test_threads_share_one_client() -> None:
    with engine_of() as engine, grpc_helpers.serving(engine) as served:
        for target in (served.server.addresses[0], engine):
            client = PipelineClient()
            client.connect(target)

            def ask_often(number: int, client: PipelineClient = client) -> None:
                for _ in range(4):
                    ret = client.predict({"x": [[number] * 3]})
                    assert json.loads(ret.value[0]) == [[2 * number] * 3]

            run_threads(16, ask_often)
            client.release()


# In this process


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
