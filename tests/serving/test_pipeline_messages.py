"""Messages of pipelines as bytes: each comes back as it went, and no bytes at all do any harm."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pipeline_wire as wire
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddleinfer.errors import InvalidInput
from paddleinfer.models.reader import TensorSpec
from paddleinfer.serving.formats.messages import pipeline
from paddleinfer.serving.formats.pipeline import read_document
from paddleinfer.serving.formats.prediction import read_keys_and_values
from paddleinfer.serving.formats.tensors import array_of, file_fields_of, web_fields_of
from paddleinfer.shim.protocol.errors import RequestError
from paddleinfer.shim.protocol.pipeline_message import read_message, write_message
from paddleinfer.shim.protocol.serving_json import CountedJson

SPECS = [TensorSpec("x", None, "float32", (-1, 3))]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
integers = st.integers(-(1 << 63), (1 << 63) - 1)
floats = st.floats(width=32, allow_nan=False)
shapes = st.lists(st.integers(0, 3), max_size=3)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Of any type that a tensor may have; of texts, too."""
    shape = tuple(draw(shapes))
    count = int(np.prod(shape))
    kind = draw(st.sampled_from([*wire.FIELD_OF, "texts"]))
    if kind == "texts":
        array = np.empty(count, object)
        array[:] = draw(st.lists(texts, min_size=count, max_size=count))
        return array.reshape(shape)
    dtype = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
    size = count * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    if kind == "bool":
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, dtype).reshape(shape)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Requests, of which some contradict themselves."""
    pairs = draw(st.dictionaries(texts, texts, max_size=3))
    tensors = []
    for _ in range(draw(st.integers(0, 3))):
        fields: dict[str, Any] = {}
        for field, (_, form) in wire.NUMBERS.items():
            if draw(st.booleans()):
                fields[field] = draw(st.lists(integers if form == "varint" else floats, max_size=4))
        tensors.append(
            wire.tensor(
                draw(texts),
                draw(st.integers(0, 21)),
                draw(st.lists(st.integers(-1, 1 << 31), max_size=3)),
                texts=draw(st.lists(texts, max_size=2)),
                file=draw(st.binary(max_size=20)),
                lod=draw(st.lists(st.integers(0, 9), max_size=2)),
                **fields,
            )
        )
    return wire.request(pairs, *tensors, name=draw(texts), logid=draw(integers), clientip=draw(texts))


def refused(body: bytes) -> str | None:
    """What the server says of a body that is no request for a model, or None."""
    try:
        fields = read_message(body)
        request = read_document(fields, fields.get("name", ""), fields.get("method", ""))
        assert len(request.keys) == len(request.values)
        read_keys_and_values(fields, SPECS, CountedJson().loads)
    except (RequestError, InvalidInput) as error:
        return str(error)
    return None


@given(st.binary(max_size=64))
def test_any_bytes_are_a_request_or_are_refused_in_a_sentence(body: bytes) -> None:
    sentence = refused(body)
    assert sentence is None or sentence


@given(messages(), st.data())
def test_a_damaged_message_is_refused_in_a_sentence(body: bytes, data: st.DataObject) -> None:
    if body:
        place = data.draw(st.integers(0, len(body) - 1))
        body = body[:place] + data.draw(st.binary(max_size=4)) + body[place + 1 :]
    sentence = refused(body)
    assert sentence is None or sentence


# A number on the wire has 64 bits, whatever its field takes.
_NARROW = {
    "int_data": "int32",
    "uint32_data": "uint32",
    "bool_data": "bool",
    "shape": "int32",
    "lod": "int32",
}


def plain(tensor: dict[str, Any]) -> dict[str, Any]:
    """The fields that say something, with lists of Python's numbers."""
    fields = {}
    for name, value in tensor.items():
        if isinstance(value, (str, int)):
            fields[name] = value
        elif name == "byte_data":
            fields[name] = bytes(value)
        elif name in _NARROW:
            fields[name] = np.array(list(value), "int64").astype(_NARROW[name]).tolist()
        else:
            fields[name] = list(value)
    return {name: value for name, value in fields.items() if value}


@given(messages())
def test_a_request_is_read_as_it_was_written(body: bytes) -> None:
    expected, read = wire.read_request(body), read_message(body)
    for name in ("key", "value", "name", "method", "logid", "clientip"):
        assert read.get(name, type(expected[name])()) == expected[name]
    assert [plain(tensor) for tensor in read["tensors"]] == [plain(tensor) for tensor in expected["tensors"]]


@given(names, arrays(), st.booleans())
def test_an_array_comes_back_from_its_bytes(name: str, array: np.ndarray[Any, Any], as_file: bool) -> None:
    fields = (file_fields_of if as_file else web_fields_of)(name, array)
    body = write_message({"err_no": 0, "err_msg": "", "key": [], "value": [], "tensors": [fields]})
    (tensor,) = wire.read_response(body)["tensors"]
    assert tensor["name"] == name and tensor.get("shape", []) == list(array.shape)
    if array.dtype == object:
        assert tensor.get("str_data", []) == array.reshape(-1).tolist()
        return
    request = pipeline("Request")(tensors=pipeline("Response").FromString(body).tensors)
    (read,) = read_message(request.SerializeToString())["tensors"]
    back_name, back = array_of(read)
    assert back_name == name and back.shape == array.shape
    if as_file and array.dtype == ml_dtypes.bfloat16:
        back = back.view(ml_dtypes.bfloat16)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back.astype("float64"), array.astype("float64"))


@given(st.integers(-(1 << 31), (1 << 31) - 1), texts, st.dictionaries(texts, texts, max_size=3))
def test_a_response_is_written_as_the_document_says(
    number: int, sentence: str, pairs: dict[str, str]
) -> None:
    written = write_message(
        {"err_no": number, "err_msg": sentence, "key": [*pairs], "value": [*pairs.values()], "tensors": []}
    )
    assert written == wire.response(pairs, err_no=number, err_msg=sentence)


def test_large_floats_are_written_without_an_object_for_each() -> None:
    numbers = np.arange(100_000, dtype="float32")
    fields = web_fields_of("x", numbers)
    body = write_message({"err_no": 0, "err_msg": "", "key": [], "value": [], "tensors": [fields]})
    assert struct.pack("<100000f", *range(100_000)) in body


@pytest.mark.parametrize("dtype", ["uint32", "uint64", "complex64", "datetime64[s]", "S3"])
def test_what_tensors_do_not_have_is_refused_in_a_sentence(dtype: str) -> None:
    for fields_of in (web_fields_of, file_fields_of):
        with pytest.raises(InvalidInput, match="'x' is of"):
            fields_of("x", np.zeros(2, dtype))


def test_objects_are_refused_unless_they_are_texts() -> None:
    with pytest.raises(InvalidInput, match="only texts"):
        web_fields_of("x", np.array([1, "a"], object))


def a_file(shape: str, numbers: bytes, *, spaces: int = 0, dtype: str = "<f4") -> bytes:
    """As of ``numpy.save``, in the version of the format whose header may be of any length."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}{' ' * spaces}\n".encode()
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header + numbers


@pytest.mark.parametrize(
    ("shape", "numbers"),
    [
        ("(-2, -2)", bytes(16)),
        ("(-1, 0)", b""),
        ("(True,)", bytes(4)),
        (f"(0, {10**30})", b""),
        (f"(0, {1 << 62}, {1 << 62})", b""),
        (f"({'1, ' * 100})", bytes(4)),
    ],
)
def test_a_file_of_a_shape_that_no_array_has_is_refused_in_a_sentence(shape: str, numbers: bytes) -> None:
    with pytest.raises(InvalidInput, match="tensor 'x' cannot be"):
        array_of({"name": "x", "elem_type": 13, "byte_data": a_file(shape, numbers)})


def test_an_empty_shape_beyond_memory_is_refused_in_a_sentence() -> None:
    dims = [0, *[(1 << 31) - 1] * 3]
    with pytest.raises(InvalidInput, match="tensor 'x' cannot be"):
        array_of({"name": "x", "elem_type": 1, "shape": dims, "float_data": []})


def test_the_longest_header_of_a_file_is_refused_without_being_copied() -> None:
    file = a_file("(1,)", bytes(4), spaces=32 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match=r"numpy\.save"):
            array_of({"name": "x", "elem_type": 13, "byte_data": memoryview(file)})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_numbers_of_a_file_are_aligned_and_its_truths_are_true_or_false() -> None:
    for gap in range(8):
        file = memoryview(bytes(gap) + a_file("(2,)", struct.pack("<2f", 1, 2)))[gap:]
        _, array = array_of({"name": "x", "elem_type": 13, "byte_data": file})
        assert array.flags.aligned and array.tolist() == [1, 2]
    _, truths = array_of({"name": "x", "elem_type": 13, "byte_data": a_file("(3,)", b"\0\1\2", dtype="|b1")})
    assert truths.view("uint8").tolist() == [0, 1, 1]
