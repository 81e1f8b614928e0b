"""Limits of what is parsed of Paddle Serving's forms: none is passed by writing the same in another way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import serving_wire as wire
from engine_helpers import echo_engine
from starlette.testclient import TestClient

from paddleinfer.serving.formats.messages import general_model
from paddleinfer.shim import create_app
from paddleinfer.shim.protocol.errors import RequestError
from paddleinfer.shim.protocol.general_model_message import read_message

MILLION = 1 << 20
VARINT, BYTES = 0, 2  # kinds of a field on the wire
PIECES = 16  # of one field, as they are read where they lie


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with echo_engine("float32", (-1, -1)) as engine, TestClient(create_app({"m": engine})) as made:
        yield made


@pytest.mark.parametrize("comma", [b",", rb"\u002c"])
def test_the_numbers_of_texts_are_counted_however_they_are_written(client: TestClient, comma: bytes) -> None:
    body = b'{"key":["x"],"value":["' + (b"1" + comma) * (MILLION + 1) + b'1"]}'
    answer = client.post("/m/prediction", content=body).json()
    assert answer["err_no"] != 0
    assert f"more than {MILLION} values" in answer["err_msg"]


def test_the_texts_of_a_request_are_counted_together(client: TestClient) -> None:
    half = rb"1\u002c" * (MILLION // 2) + b"1"
    body = b'{"key":["x","x"],"value":["%b","%b"]}' % (half, half + rb"\u002c1")
    assert f"more than {MILLION} values" in client.post("/m/prediction", content=body).json()["err_msg"]


def test_escaped_lists_are_counted(client: TestClient) -> None:
    body = b'{"key":["x"],"value":["[' + rb"\u005b\u005d," * 70_000 + b'[]]"]}'
    assert "65536 lists and objects" in client.post("/m/prediction", content=body).json()["err_msg"]


def packed_floats(pieces: int, each: int) -> tuple[bytes, list[float]]:
    """A Request with its floats in so many packed pieces."""
    numbers = np.arange(pieces * each, dtype="<f4")
    parts = [wire.field(2, BYTES, piece.tobytes()) for piece in numbers.reshape(pieces, each)]
    return wire.field(1, BYTES, b"".join(parts) + wire.field(10, VARINT, wire.varint(1))), numbers.tolist()


@pytest.mark.parametrize("pieces", [1, PIECES, PIECES + 1, 1000])
def test_packed_floats_may_come_in_pieces(pieces: int) -> None:
    body, numbers = packed_floats(pieces, 3)
    assert general_model("Request").FromString(body).tensor[0].float_data == numbers
    (tensor,) = read_message(body)["tensor"]
    assert list(tensor["float_data"]) == numbers


def test_floats_in_more_pieces_are_limited_in_bytes() -> None:
    body, numbers = packed_floats(PIECES, 100_000)
    assert len(read_message(body)["tensor"][0]["float_data"]) == len(numbers)
    body, _ = packed_floats(PIECES + 1, 100_000)
    with pytest.raises(RequestError, match="4194304 bytes beside packed floats"):
        read_message(body)
