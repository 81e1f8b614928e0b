"""Messages that no client sends by mistake; after each the server still answers, and has kept nothing."""

from __future__ import annotations

import grpc
import pytest
from engine_helpers import PATIENCE_S, eventually
from grpc_bombs import varint
from grpc_outsider import INFER, Outsider
from grpc_server_process import ALLOWED_BYTES, LIMIT_BYTES, ServerProcess
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("still_answers")


def refused(
    outsider: Outsider, message: bytes, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT
) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        outsider.send(message)
    assert caught.value.code() == code, caught.value
    sentence: str = caught.value.details()
    assert sentence
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    "message",
    [
        b"\xff" * 64,
        b"\x0a",
        b"\x0a\x05m",  # a name of five bytes, of which one is there
        b"\x0a" + varint(1 << 31) + b"m",
        b"\x0a" + b"\xff" * 10 + b"m",  # longer than any varint
        b"\x2a" + varint((1 << 63) - 1) + b"x",  # an input
        b"\x3a" + varint((1 << 32) - 1) + bytes(100),  # raw contents
        b"\x2a\x04\x0a\x7fxy",  # an input whose name is longer than it is
        b"\x0a\x01m" * 3 + b"\x0b\x0b\x0b",  # groups without end
        b"\x0a\x02\xc3\x28",  # a text that is no UTF-8
        b"\x2a\x02" * 50_000,
    ],
    ids=lambda message: message[:8].hex(),
)
def test_what_is_no_message_is_refused(outsider: Outsider, message: bytes) -> None:
    assert "ModelInferRequest" in refused(outsider, message)
    (answer,) = outsider.stream([message])
    streamed = outsider.message("ModelStreamInferResponse").FromString(answer)
    assert "ModelInferRequest" in streamed.error_message


def test_an_empty_message_is_refused(outsider: Outsider) -> None:
    assert refused(outsider, b"", grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    "shape",
    [
        [-1, 3],
        [1, -3],
        [1 << 62, 1 << 62],
        [1 << 40, 3],
        [(1 << 63) - 1],
        [2, 3],
        [3],
        [],
        [1] * 9999,
        [0, 3],
    ],
    ids=lambda shape: str(shape[:2]),
)
def test_shapes_that_do_not_fit_are_refused(outsider: Outsider, shape: list[int]) -> None:
    assert "x" in refused(outsider, outsider.row_request(shape=shape))
    numbers = {"fp32_contents": [1.0, 1.0, 1.0]}
    assert "x" in refused(outsider, outsider.row_request(raw=None, shape=shape, contents=numbers))


@pytest.mark.parametrize("size", [0, 1, 11, 13, 24, 1 << 20])
def test_raw_contents_of_another_size_are_refused(outsider: Outsider, size: int) -> None:
    sentence = refused(outsider, outsider.row_request(raw=bytes(size)))
    assert "x" in sentence
    assert str(size) in sentence


@pytest.mark.parametrize("count", [1, 2, 4, 300_000])
def test_another_number_of_numbers_is_refused(outsider: Outsider, count: int) -> None:
    sentence = refused(outsider, outsider.row_request(raw=None, contents={"fp32_contents": [1.0] * count}))
    assert "x" in sentence
    assert str(count) in sentence


def test_numbers_and_raw_contents_together_are_refused(outsider: Outsider) -> None:
    assert "contents" in refused(outsider, outsider.row_request(contents={"fp32_contents": [1.0] * 3}))


def test_an_input_without_numbers_is_refused(outsider: Outsider) -> None:
    assert "x" in refused(outsider, outsider.row_request(raw=None))


@pytest.mark.parametrize(
    "tensor",
    [{"name": ""}, {"name": "x" * 100_000}, {"name": "é\0\n"}, {"datatype": ""}, {"datatype": "FP" * 50_000}],
    ids=["no name", "long name", "odd name", "no datatype", "long datatype"],
)
def test_names_that_mean_nothing_are_refused_in_a_short_sentence(
    outsider: Outsider, tensor: dict[str, str]
) -> None:
    assert len(refused(outsider, outsider.row_request(**tensor))) <= 2000


def test_a_model_whose_name_is_long_is_refused_in_a_short_sentence(outsider: Outsider) -> None:
    message = outsider.message("ModelInferRequest")(model_name="é\n" * 100_000)
    assert len(refused(outsider, message.SerializeToString())) <= 2000


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_message_gets_a_status(outsider: Outsider, data: st.DataObject) -> None:
    message = bytearray(outsider.row_request())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(message) - 1)))
        until = at + data.draw(st.integers(0, 4))
        message[at:until] = data.draw(st.binary(max_size=4))
    try:
        outsider.send(bytes(message))
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), error
    assert outsider.is_answered()


def test_messages_of_a_hundred_megabytes_are_refused_and_not_kept(
    grpc_process: ServerProcess, outsider: Outsider
) -> None:
    before = grpc_process.memory_bytes()
    for _ in range(5):
        assert str(LIMIT_BYTES) in refused(outsider, bytes(100 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert eventually(lambda: grpc_process.memory_bytes() < before + ALLOWED_BYTES)


def test_messages_that_are_nearly_too_long_are_not_kept(
    grpc_process: ServerProcess, outsider: Outsider
) -> None:
    before = grpc_process.memory_bytes()
    filler = b"\x7a" + varint(LIMIT_BYTES - 100) + bytes(LIMIT_BYTES - 100)  # a field that nobody knows
    for _ in range(16):
        refused(outsider, filler, grpc.StatusCode.NOT_FOUND)
        refused(outsider, b"\xff" * LIMIT_BYTES)
    del filler
    assert eventually(lambda: grpc_process.memory_bytes() < before + ALLOWED_BYTES)


def test_a_message_that_unpacks_to_more_than_the_limit_is_refused(outsider: Outsider) -> None:
    call = outsider.channel.unary_unary(INFER)
    with pytest.raises(grpc.RpcError) as caught:
        call(bytes(100 << 20), timeout=PATIENCE_S, compression=grpc.Compression.Gzip)
    assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)


def test_calls_that_are_not_there_are_unimplemented(outsider: Outsider) -> None:
    for path in ("/inference.GRPCInferenceService/Nothing", "/nothing/Nothing", "/", "/" + "x" * 3000):
        with pytest.raises(grpc.RpcError) as caught:
            outsider.send(b"", path)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
