"""ModelInfer, and the server's metadata over gRPC: the same answers as over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from engine_helpers import echo_engine, engine_of, rows
from google.protobuf.json_format import MessageToDict
from grpc_helpers import ModelInferRequest, Served, described, failure, outputs_of, raw, read_message, serving
from zoo import Zoo

import paddleinfer
from paddleinfer import Engine, metrics
from paddleinfer.backends.paddle import runtime
from paddleinfer.config import EngineConfig
from paddleinfer.shim import ModelSource
from paddleinfer.shim.grpc.messages import message_class
from paddleinfer.shim.grpc.tensors import encode_response
from paddleinfer.shim.protocol.datatypes import DATATYPES
from paddleinfer.shim.protocol.request import InferRequest

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with engine_of() as engine, serving(engine) as server:
        yield server


# -- inference


@pytest.mark.parametrize("dtype", DATATYPES)
def test_raw_tensors_of_every_datatype_are_read(dtype: str) -> None:
    x = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    (read,) = read_message(ModelInferRequest(**raw(x=x))).inputs.values()
    assert read.dtype == x.dtype
    assert np.array_equal(read, x)


@pytest.mark.parametrize("dtype", ["bool", "float16", "bfloat16", "float64", "int8", "int64", "uint8"])
def test_tensors_come_back_in_their_datatype(dtype: str) -> None:
    x = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    with echo_engine(dtype) as engine, serving(engine) as server:
        y = outputs_of(server.infer(**raw(x=x)))["y"]
    assert y.dtype == x.dtype
    assert np.array_equal(y, x)


@pytest.mark.parametrize(
    ("dtype", "field", "values"),
    [
        ("bool", "bool_contents", [True, False, True]),
        ("int8", "int_contents", [-128, 0, 127]),
        ("int16", "int_contents", [-32768, 0, 32767]),
        ("int32", "int_contents", [-(2**31), 0, 2**31 - 1]),
        ("int64", "int64_contents", [-(2**63), 0, 2**63 - 1]),
        ("uint8", "uint_contents", [0, 1, 255]),
        ("uint16", "uint_contents", [0, 1, 65535]),
        ("uint32", "uint_contents", [0, 1, 2**32 - 1]),
        ("uint64", "uint64_contents", [0, 1, 2**64 - 1]),
        ("float32", "fp32_contents", [1.5, float("inf"), -0.0]),
        ("float64", "fp64_contents", [1e300, -1.5, 0.1]),
    ],
)
def test_typed_contents_of_every_datatype_are_read(dtype: str, field: str, values: list[Any]) -> None:
    x = np.array([values], dtype)
    message = ModelInferRequest(model_name="m", inputs=[described("x", x, contents={field: values})])
    (read,) = read_message(message).inputs.values()
    assert read.dtype == x.dtype
    assert np.array_equal(read, x)


def test_typed_contents_are_answered_in_raw_ones_as_triton_does(server: Served) -> None:
    tensor = described("x", rows(), contents={"fp32_contents": [1.0, 1.0, 1.0]})
    assert np.array_equal(outputs_of(server.infer(model_name="m", inputs=[tensor]))["y"], rows() * 2)


def test_an_empty_tensor_needs_no_contents() -> None:
    x = np.zeros((0, 3), "float32")
    for fields in (raw(x=x), {"inputs": [described("x", x)]}):
        (read,) = read_message(ModelInferRequest(**fields)).inputs.values()
        assert read.shape == (0, 3)


def test_an_answer_names_its_model_its_version_and_its_request(server: Served) -> None:
    response = server.infer(**raw(x=rows()), id="7", model_version="1")
    assert (response.model_name, response.model_version, response.id) == ("m", "1", "7")
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", "FP32", [1, 3])
    assert not output.HasField("contents")


def test_outputs_are_selected_and_classified() -> None:
    x = np.array([[1, 3, 2]], "float32")
    with (
        Engine.from_callable(
            lambda inputs: {"a": inputs["x"], "b": inputs["x"]}, {"x": ("float32", (-1, 3))}, ["a", "b"]
        ) as engine,
        serving(engine) as server,
    ):
        response = server.infer(**raw(x=x), outputs=[{"name": "b"}])
        assert list(outputs_of(response)) == ["b"]
        wanted = [{"name": "a", "parameters": {"classification": {"int64_param": 2}}}, {"name": "b"}]
        response = server.infer(**raw(x=x), outputs=wanted)
        assert [output.datatype for output in response.outputs] == ["BYTES", "FP32"]
        assert list(response.outputs[0].shape) == [1, 2]
        texts = b"".join(len(text).to_bytes(4, "little") + text for text in (b"3.000000:1", b"2.000000:2"))
        assert response.raw_output_contents[0] == texts
        _, sentence = server.refused(**raw(x=x), outputs=[{"name": "b"}, {"name": "b"}])
        assert "'b' is asked for twice" in sentence


def test_a_tensor_larger_than_a_varint_of_one_byte_is_written_right(server: Served) -> None:
    x = rows(1000)
    assert np.array_equal(outputs_of(server.infer(**raw(x=x)))["y"], x * 2)


def test_a_result_is_not_copied_before_the_message_is_put_together() -> None:
    y = rows(1000)
    request = InferRequest({}, None, True, "", 1, None)
    parts = encode_response("m", "1", request, {"y": y}, {})
    assert any(np.shares_memory(np.frombuffer(part, np.uint8), y) for part in parts)
    assert np.array_equal(outputs_of(message_class("ModelInferResponse").FromString(b"".join(parts)))["y"], y)


def test_a_parameter_without_a_value_is_none(server: Served) -> None:
    server.infer(**raw(x=rows()), parameters={"priority": {}, "sequence_id": {"int64_param": 0}})


X = described("x", rows())
DATA = rows().tobytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"inputs": []}, "1 raw_input_contents for 0 inputs"),
        ({"inputs": [], "raw_input_contents": []}, "missing input 'x'"),
        ({"inputs": [X, X], "raw_input_contents": [DATA, DATA]}, "'x' is given twice"),
        ({"raw_input_contents": [DATA, DATA]}, "2 raw_input_contents for 1 inputs"),
        ({"raw_input_contents": [DATA[:-1]]}, "has 11 bytes, but [1, 3] of FP32 takes 12"),
        ({"raw_input_contents": [b""]}, "has 0 bytes"),
        ({"raw_input_contents": []}, "neither fp32_contents nor raw_input_contents"),
        (
            {"inputs": [{**X, "contents": {"fp32_contents": [1, 2, 3]}}]},
            "contents field must not be specified",
        ),
        ({"inputs": [{**X, "name": "q"}]}, "q"),
        ({"inputs": [{**X, "datatype": ""}]}, "datatype of input 'x' must be one of"),
        ({"inputs": [{**X, "datatype": "FP8"}]}, "FP8"),
        ({"inputs": [{**X, "datatype": "BYTES"}]}, "take no strings"),
        ({"inputs": [{**X, "shape": [-1, 3]}]}, "from 0 up"),
        ({"inputs": [{**X, "shape": [1, 4]}]}, "[1, 4] of FP32 takes 16"),
        ({"inputs": [{**X, "shape": [1] * 40}]}, "40 dimensions"),
        ({"inputs": [{**X, "shape": [2**40, 2**40]}]}, "counted"),
        ({"inputs": [{**X, "parameters": {"shared_memory_region": {"string_param": "r"}}}]}, "shared memory"),
        ({"parameters": {"sequence_id": {"int64_param": 3}}}, "sequences are not offered"),
        ({"parameters": {"timeout": {"string_param": "3"}}}, "timeout of the request must be an integer"),
        ({"parameters": {"timeout": {"int64_param": -3}}}, "timeout of the request must be an integer"),
        ({"parameters": {"priority": {"bool_param": True}}}, "priority of the request must be an integer"),
        ({"outputs": [{"name": "z"}]}, "z"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_in_a_sentence(
    server: Served, change: dict[str, Any], says: str
) -> None:
    code, sentence = server.refused(**{**raw(x=rows()), **change})
    assert code == INVALID
    assert says in sentence
    server.still_answers()


@pytest.mark.parametrize(
    ("datatype", "contents", "says"),
    [
        ("FP32", {"fp32_contents": [1, 2]}, "2 elements in its fp32_contents, but its shape is [1, 3]"),
        ("FP32", {"fp64_contents": [1, 2, 3]}, "has fp64_contents, where fp32_contents would be right"),
        ("FP32", {"fp32_contents": [1, 2, 3], "int_contents": [1]}, "has int_contents"),
        ("FP16", {"fp32_contents": [1, 2, 3]}, "FP16, which only raw_input_contents can hold"),
        ("BF16", {}, "BF16, which only raw_input_contents can hold"),
        ("INT8", {"int_contents": [1, 2, 128]}, "from 1 to 128, and INT8 from -128 to 127"),
        ("UINT8", {"uint_contents": [1, 2, 256]}, "from 1 to 256, and UINT8 from 0 to 255"),
        ("BYTES", {"bytes_contents": [b"a"] * 3}, "take no strings"),
    ],
)
def test_typed_contents_that_do_not_fit_are_refused_in_a_sentence(
    server: Served, datatype: str, contents: dict[str, Any], says: str
) -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": datatype, "contents": contents}
    code, sentence = server.refused(model_name="m", inputs=[tensor])
    assert code == INVALID
    assert says in sentence
    server.still_answers()


@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "ServerLive"])
def test_bytes_that_are_no_message_are_refused_in_a_sentence(server: Served, method: str) -> None:
    ask = server.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    code, sentence = failure(lambda: ask(b"\x2a\xff"))
    assert code == INVALID
    assert f"the message is not an inference.{method}Request" in sentence
    server.still_answers()


@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_an_unknown_model_or_version_is_not_found(server: Served, method: str) -> None:
    name, version = ("model_name", "model_version") if method == "ModelInfer" else ("name", "version")
    code, sentence = server.refused(method, **{name: "q"})
    assert code == grpc.StatusCode.NOT_FOUND
    assert "unknown model 'q'; the server has m" in sentence
    code, sentence = server.refused(method, **{name: "m", version: "2"})
    assert code == grpc.StatusCode.NOT_FOUND
    assert "no version '2'" in sentence


# -- what the server says of itself


def test_the_server_and_its_models_are_live_ready_and_described(server: Served) -> None:
    assert server.call("ServerLive").live
    assert server.call("ServerReady").ready
    assert server.call("ModelReady", name="m").ready
    assert not server.call("ModelReady", name="q").ready
    about = server.call("ServerMetadata")
    assert (about.name, about.version) == ("paddleinfer", paddleinfer.__version__)
    assert "classification" in about.extensions
    model = server.call("ModelMetadata", name="m", version="1")
    assert (model.name, list(model.versions), model.platform) == ("m", ["1"], "python")
    (tensor,) = model.inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("x", "FP32", [-1, 3])


def test_a_model_that_is_loaded_is_not_ready() -> None:
    with engine_of() as engine, serving(engine) as server:
        (model,) = server.service.models
        model.state, model.reason = "LOADING", "it is being loaded"
        assert not server.call("ServerReady").ready
        assert not server.call("ModelReady", name="m").ready
        for method, fields in (("ModelInfer", raw(x=rows())), ("ModelMetadata", {"name": "m"})):
            code, sentence = server.refused(method, **fields)
            assert code == grpc.StatusCode.UNAVAILABLE
            assert "it is being loaded" in sentence
        model.state = "READY"
        server.still_answers()


def test_the_configuration_is_tritons() -> None:
    with engine_of(max_batch_size=16) as engine, serving(engine) as server:
        config = server.call("ModelConfig", name="m").config
    assert (config.name, config.backend, config.max_batch_size) == ("m", "paddleinfer", 16)
    assert MessageToDict(config.input[0]) == {"name": "x", "dataType": "TYPE_FP32", "dims": ["3"]}
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert MessageToDict(config.instance_group[0]) == {"name": "m", "count": 1, "kind": "KIND_CPU"}
    assert config.parameters["max_batch_size"].string_value == "16"


def test_requests_count_in_the_statistics_the_metrics_the_latencies_and_the_stages() -> None:
    with engine_of() as engine, serving(engine) as server:
        for _ in range(3):
            server.still_answers()
        for fields in ({"name": "m"}, {}):
            (stats,) = server.call("ModelStatistics", **fields).model_stats
            assert (stats.name, stats.version) == ("m", "1")
            assert (stats.inference_count, stats.inference_stats.success.count) == (3, 3)
            assert stats.inference_stats.success.ns > 0
            assert stats.batch_stats[0].batch_size == 1
        assert b'paddleinfer_requests_total{model="m",outcome="result"} 3.0' in metrics.exposition(
            {"m": engine}
        )
        (model,) = server.service.models
        assert model.latencies.as_dict()["count"] == 3
        times = model.stage_log.since(0)
        assert len(times) == 3
        assert all(list(each[:6]) == sorted(each[:6]) for each in times)


def test_a_load_without_memory_is_told_to_the_client(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    config = EngineConfig.from_options({"instances": 1, "check_load": "here"})
    source = ModelSource(zoo.directory("mlp", zoo.formats[0]), config)

    def fails(*_: object) -> None:
        raise MemoryError("std::bad_alloc")

    with serving({"mlp": source}, repository_control=True) as server:
        with monkeypatch.context() as patched:
            patched.setattr(runtime.Runtime, "_start", fails)
            code, sentence = server.refused("RepositoryModelLoad", model_name="mlp")
        assert code == grpc.StatusCode.UNAVAILABLE
        assert "failed to load 'mlp': there was not enough memory to load" in sentence
        server.call("RepositoryModelLoad", model_name="mlp")


def test_models_are_listed_loaded_and_unloaded_where_that_is_allowed(zoo: Zoo) -> None:
    source = ModelSource(zoo.directory("mlp", zoo.formats[0]), EngineConfig.from_options({"instances": 1}))
    with serving({"mlp": source}, repository_control=True) as server:

        def states(**fields: Any) -> list[tuple[str, str]]:
            models = server.call("RepositoryIndex", **fields).models
            return [(model.name, model.state) for model in models]

        assert "model_repository" in server.call("ServerMetadata").extensions
        assert states() == [("mlp", "READY")]
        server.call("RepositoryModelUnload", model_name="mlp")
        assert states() == [("mlp", "UNAVAILABLE")]
        assert states(ready=True) == []
        parameters = {"config": {"string_param": '{"max_batch_size": 16}'}}
        server.call("RepositoryModelLoad", model_name="mlp", parameters=parameters)
        assert server.call("ModelConfig", name="mlp").config.max_batch_size == 16
        code, sentence = server.refused("RepositoryModelLoad", model_name="q")
        assert code == grpc.StatusCode.NOT_FOUND
        assert "failed to load 'q'" in sentence
        wrong = {"file:1/model.json": {"bytes_param": b"x"}}
        code, sentence = server.refused("RepositoryModelLoad", model_name="mlp", parameters=wrong)
        assert code == INVALID
        assert "file:1/model.json" in sentence


def test_models_are_not_loaded_where_that_is_not_allowed(server: Served) -> None:
    for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
        code, sentence = server.refused(method, model_name="m")
        assert code == grpc.StatusCode.PERMISSION_DENIED
        assert "--repository-control" in sentence


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("SystemSharedMemoryRegister", "shared memory is not offered"),
        ("CudaSharedMemoryStatus", "shared memory is not offered"),
        ("TraceSetting", "settings of traces are not offered"),
        ("LogSettings", "settings of the log are not offered"),
    ],
)
def test_what_triton_has_and_this_server_has_not_is_unimplemented(
    server: Served, method: str, says: str
) -> None:
    ask = server.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    code, sentence = failure(lambda: ask(b""))
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert says in sentence


def test_an_equal_request_is_answered_out_of_the_cache() -> None:
    with engine_of(cache_bytes=1 << 20) as engine, serving(engine) as server:
        for _ in range(3):
            assert np.array_equal(outputs_of(server.infer(**raw(x=rows(2))))["y"], rows(2, value=2))
        (stats,) = server.call("ModelStatistics", name="m").model_stats
        assert (stats.execution_count, stats.inference_stats.cache_hit.count) == (1, 2)
