"""Large JSON requests are read in pieces: with the same result as small ones, and of few things only."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddleinfer.models.reader import TensorSpec
from paddleinfer.shim.protocol import large_json, request
from paddleinfer.shim.protocol.datatypes import DTYPE_OF
from paddleinfer.shim.protocol.errors import RequestError
from paddleinfer.shim.protocol.request import parse_request

SPECS = (TensorSpec(name="x", alias=None, dtype="float32", shape=(-1, 3)),)
KINDS = {
    "FP32": st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
    "FP16": st.integers(-99, 99),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "UINT8": st.integers(0, 255),
    "BOOL": st.booleans(),
}


@pytest.fixture
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "SMALL_BYTES", 0)
    monkeypatch.setattr(large_json, "_PIECE_BYTES", 7)
    monkeypatch.setattr(large_json, "_PARSED_BYTES", 5)


def outcome(body: bytes) -> Any:
    """What is read, or that it is refused."""
    try:
        request = parse_request(body, {}, SPECS)
    except RequestError as refused:
        return refused.status
    tensors = {name: (x.dtype, x.shape, x.tobytes()) for name, x in request.inputs.items()}
    return tensors, request.outputs, request.id, request.priority


def both(body: bytes) -> tuple[Any, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request, "SMALL_BYTES", 1 << 30)
        small = outcome(body)
        patch.setattr(request, "SMALL_BYTES", 0)
        patch.setattr(large_json, "_PIECE_BYTES", 7)
        patch.setattr(large_json, "_PARSED_BYTES", 5)
        return small, outcome(body)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Any]:
    datatype = draw(st.sampled_from(sorted(KINDS)))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    count = int(np.prod(shape, dtype=int))
    flat = draw(st.lists(KINDS[datatype], min_size=count, max_size=count))
    nest = draw(st.booleans()) and shape
    data = np.array(flat, object).reshape(shape).tolist() if nest else flat
    return {"name": draw(st.sampled_from("xyz")), "shape": shape, "datatype": datatype, "data": data}


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    inputs = draw(st.lists(tensors(), max_size=3, unique_by=lambda tensor: str(tensor["name"])))
    document: dict[str, Any] = {
        "inputs": inputs,
        "id": draw(st.sampled_from(["", '"data":[1]', 'a\\"', "data"])),
    }
    if draw(st.booleans()):
        document = dict(reversed(document.items()))
    separators = draw(st.sampled_from([(",", ":"), (" ,\n", " :\t"), (", ", ": ")]))
    return json.dumps(document, separators=separators, indent=draw(st.sampled_from([None, 0, 2]))).encode()


@given(bodies())
@settings(max_examples=100, deadline=None)
def test_a_large_request_is_read_as_a_small_one_is(body: bytes) -> None:
    small, large = both(body)
    assert isinstance(small, tuple)
    assert small == large


@given(bodies(), st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_large_request_is_refused_as_a_small_one_is(body: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(body)))
        end = begin + data.draw(st.integers(0, 2))
        piece = data.draw(
            st.sampled_from([b"", *(b"%c" % c for c in b'[]{},:"1-.e t\\'), b"1,2", b"[]", b"true"])
        )
        body = body[:begin] + piece + body[end:]
    small, large = both(body)
    assert small == large


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ("[1,2,3", [3]),
        ("[1,2,3]]", [3]),
        ("[1,2],[3]", [3]),
        ("1[[,2],[3,4]]", [2, 2]),
        ("[1[,2],[3,4]]", [2, 2]),
        ("[[1,2]3,[,4]]", [2, 2]),
        ("[[1,2],[3,4],]", [2, 2]),
        ("[,1,2]", [3]),
        ("[1,2,]", [3]),
        ("[1 2,3]", [2]),
        ("[01,2]", [2]),
        ("[+1,2]", [2]),
        ("[1,nul]", [2]),
        ("[1,null]", [2]),
        ("[1,truefalse]", [2]),
        ("[1,2\f]", [2]),
        ("[[],[]]", [3, 0]),
        ("[[],[1]]", [2, 0]),
        ("[1]", [0]),
        ("[]", [1]),
        ("[[]]", [1, 1]),
        ("[[],[]]", [2, 1]),
        ("[[1,2],[3]]", [3]),
    ],
)
@pytest.mark.usefixtures("in_small_pieces")
def test_a_list_that_is_not_right_is_refused(data: str, shape: list[int]) -> None:
    body = f'{{"inputs":[{{"name":"x","shape":{shape},"datatype":"FP32","data":{data}}}]}}'.encode()
    assert outcome(body) == 400


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ("[]", [0]),
        ("[[],[]]", [2, 0]),
        ("[]", [2, 0]),
        ("[]", [0, 1 << 40]),
        ("[[],[]]", [2, 0, 1 << 40]),
        ("[7]", []),
    ],
)
@pytest.mark.usefixtures("in_small_pieces")
def test_a_list_of_few_elements_may_have_any_shape(data: str, shape: list[int]) -> None:
    body = f'{{"inputs":[{{"name":"x","shape":{shape},"datatype":"FP32","data":{data}}}]}}'.encode()
    inputs = outcome(body)[0]
    assert inputs["x"][1] == tuple(shape)


MANY = 1 << 20
BOMBS = {
    "empty lists": (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[%b[]]}]}' % (b"[]," * MANY),
        400,
    ),
    "empty rows": (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[%d,0],"data":[%b[]]}]}'
        % (MANY + 1, b"[]," * MANY),
        200,
    ),
    "deep lists": (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":%b%b}]}' % (b"[" * MANY, b"]" * MANY),
        400,
    ),
    "empty inputs": (b'{"inputs":[%b{}]}' % (b"{}," * MANY), 413),
    "fewer inputs": (b'{"inputs":[%b{}]}' % (b"{}," * 30_000), 400),
    "outputs": (b'{"outputs":[%b{"name":"y"}]}' % (b'{"name":"y"},' * (MANY // 20)), 400),
    "unknown keys": (b'{%b"k":0}' % b"".join(b'"%d":{},' % n for n in range(MANY // 16)), 400),
    "texts": (b'{"k":[%b""]}' % (b'"",' * MANY), 400),
    "texts as data": (b'{"inputs":[{"data":[%b""]}]}' % (b'"",' * MANY), 400),
    "numbers elsewhere": (b'{"k":[%b7]}' % (b"7," * 200_000), 400),
    "a long text": (b'{"id":"%b"}' % (b"x" * 2 * MANY), 413),
    "escapes": (b'{"id":"%b"}' % (b'\\"' * MANY), 413),
    "a long number": (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1%b,2]}]}' % (b"0" * 3 * MANY),
        400,
    ),
    "no comma": (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1%b,2]}]}' % (b" " * 3 * MANY),
        400,
    ),
    "integers": (
        b'{"inputs":[{"name":"x","datatype":"INT32","shape":[%d],"data":[%b257]}]}'
        % (MANY + 1, b"257," * MANY),
        200,
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_request_takes_more_than_four_times_its_size(name: str) -> None:
    body, status = BOMBS[name]
    tracemalloc.start()
    try:
        found = outcome(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (200 if isinstance(found, tuple) else found) == status
    assert peak <= 3 * len(body) + (4 << 20)  # and the body itself


def test_the_dtypes_of_the_protocol_can_all_be_read_in_pieces() -> None:
    for datatype, dtype in DTYPE_OF.items():
        values = [True, False] * 40_000 if datatype == "BOOL" else [1, 0] * 40_000
        tensor = {"name": "x", "shape": [20_000, 4], "datatype": datatype, "data": values}
        body = json.dumps({"inputs": [tensor]}).encode()
        assert len(body) > large_json.SMALL_BYTES
        found = parse_request(body, {}, SPECS).inputs["x"]
        assert found.dtype == dtype and found.shape == (20_000, 4)
        assert found.astype(np.float64).reshape(-1).tolist() == [1.0, 0.0] * 40_000
