"""Tensors as numbers in the message and as raw bytes, by tritonclient's messages without its clients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from triton_calls import DATATYPES, DTYPES, FIRST, SECOND, assert_sum_and_difference
from triton_grpc_calls import typed_tensor
from tritonclient.grpc import service_pb2, service_pb2_grpc

# The others have no field of their own: they go raw.
CONTENTS = {
    "bool": "bool_contents",
    "int8": "int_contents",
    "int16": "int_contents",
    "int32": "int_contents",
    "int64": "int64_contents",
    "uint8": "uint_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
}


@pytest.fixture
def stub(grpc_url: str) -> Iterator[Any]:
    with grpc.insecure_channel(grpc_url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(inputs: Sequence[Any], model: str = "simple", raw: Sequence[bytes] = ()) -> Any:
    return service_pb2.ModelInferRequest(model_name=model, inputs=inputs, raw_input_contents=raw)


def numbers(name: str, array: np.ndarray = FIRST) -> Any:
    return typed_tensor(name, array.shape, "INT32", int_contents=array.reshape(-1).tolist())


def bare(name: str, shape: Sequence[int] = (1, 16)) -> Any:
    return service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype="INT32", shape=shape)


def refused(stub: Any, given: Any) -> str:
    """The sentence of an invalid argument; the server still answers."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(given)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    both = [numbers("INPUT0"), numbers("INPUT1", SECOND)]
    assert_sum_and_difference(triton.InferResult(stub.ModelInfer(request(both))))
    message: str = caught.value.details()
    assert message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("dtype", CONTENTS)
def test_numbers_are_taken_of_every_datatype_that_has_a_field_for_them(stub: Any, dtype: str) -> None:
    x = np.array([[0, 1, 2], [3, 4, 100]]).astype(DTYPES[dtype])
    given = typed_tensor("x", x.shape, DATATYPES[dtype], **{CONTENTS[dtype]: x.reshape(-1).tolist()})
    result = triton.InferResult(stub.ModelInfer(request([given], f"same_{dtype}")))
    got = result.as_numpy(result.get_response().outputs[0].name)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, x.reshape(2, 3, 1))


@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - set(CONTENTS)))
def test_numbers_of_a_datatype_without_a_field_are_refused(stub: Any, dtype: str) -> None:
    given = typed_tensor("x", (1, 3), DATATYPES[dtype], fp32_contents=[1.0, 2.0, 3.0])
    message = refused(stub, request([given], f"same_{dtype}"))
    assert DATATYPES[dtype] in message
    assert "raw_input_contents" in message


def test_numbers_in_the_field_of_another_datatype_are_refused(stub: Any) -> None:
    wrong = typed_tensor("INPUT0", (1, 16), "INT32", fp32_contents=[1.0] * 16)
    message = refused(stub, request([wrong, numbers("INPUT1")]))
    assert "INPUT0" in message
    assert "int_contents" in message


def test_numbers_that_the_datatype_cannot_hold_are_refused(stub: Any) -> None:
    given = typed_tensor("x", (1, 3), "INT8", int_contents=[1, 2, 300])
    message = refused(stub, request([given], "same_int8"))
    assert "300" in message or "INT8" in message


def test_numbers_beside_raw_bytes_are_refused_as_triton_words_it(stub: Any) -> None:
    raw = [FIRST.tobytes(), SECOND.tobytes()]
    message = refused(stub, request([numbers("INPUT0"), bare("INPUT1")], raw=raw))
    assert (
        "contents field must not be specified when using raw_input_contents for 'INPUT0' for model 'simple'"
        in message
    )


@pytest.mark.parametrize("count", [14, 17])
def test_more_or_fewer_numbers_than_the_shape_has_are_refused(stub: Any, count: int) -> None:
    given = typed_tensor("INPUT0", (1, 16), "INT32", int_contents=[1] * count)
    message = refused(stub, request([given, numbers("INPUT1")]))
    assert "INPUT0" in message
    assert "16" in message


@pytest.mark.parametrize("parts", [1, 3])
def test_raw_bytes_for_more_or_fewer_inputs_than_there_are_are_refused(stub: Any, parts: int) -> None:
    message = refused(stub, request([bare("INPUT0"), bare("INPUT1")], raw=[FIRST.tobytes()] * parts))
    assert "raw_input_contents" in message
    assert str(parts) in message


@pytest.mark.parametrize("shape", [(-1, 16), (1, -16), (2**62, 2**62), (2**40, 16), (0, 16), ()])
def test_shapes_that_no_tensor_has_are_refused(stub: Any, shape: tuple[int, ...]) -> None:
    for given in (
        request([bare("INPUT0", shape), bare("INPUT1")], raw=[FIRST.tobytes(), SECOND.tobytes()]),
        request([typed_tensor("INPUT0", shape, "INT32", int_contents=[1] * 16), numbers("INPUT1")]),
    ):
        assert "INPUT0" in refused(stub, given)


def test_what_a_request_lacks_is_named(stub: Any) -> None:
    assert "missing input 'INPUT0', 'INPUT1'" in refused(stub, request([]))
    assert "INPUT0" in refused(stub, request([bare("INPUT0"), numbers("INPUT1")]))
    assert "INPUT1" in refused(stub, request([numbers("INPUT0")]))
    twice = [numbers("INPUT0"), numbers("INPUT0"), numbers("INPUT1")]
    assert "INPUT0" in refused(stub, request(twice))
    nameless = [numbers(""), numbers("INPUT1")]
    assert refused(stub, request(nameless))
