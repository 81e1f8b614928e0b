"""Dtypes, Python numbers and layouts of what callers pass; a refusal is one sentence that names the input."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest
from conversions import BFLOAT16, DTYPES, FLOATS, INTEGERS, convert, refusal
from engine_helpers import echo_engine, engine_of, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import paddleinfer

# Arrays of another dtype


@pytest.mark.parametrize("given_name", DTYPES)
@pytest.mark.parametrize("wanted", DTYPES)
def test_numpy_arrays_convert_within_their_kind_only(given_name: str, wanted: str) -> None:
    value = np.array([0, 1, 1], DTYPES[given_name])
    kinds = [FLOATS, INTEGERS, ("bool",)]
    same_kind = any(given_name in kind and wanted in kind for kind in kinds)
    if same_kind or given_name == "bool":
        assert convert(value, wanted).tolist() == [0, 1, 1]
    else:
        said = refusal(value, wanted)
        assert wanted in said and given_name in said
    if given_name == wanted:
        assert convert(value, wanted, strict=True) is value
    else:
        assert "strict_dtypes" in refusal(value, wanted, strict=True)


@pytest.mark.parametrize(
    "value",
    [
        np.array([1j]),
        np.array(["1"]),
        np.array([b"1"]),
        np.array([1, None], object),
        np.array([1.0, 2.0], object),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.array([1], "timedelta64[s]"),
        np.zeros(1, [("f", "float32")]),
        1j,
        [1j],
        ["1", "2"],
        [None],
        [1.0, None],
        [object()],
        [{}],
    ],
)
@pytest.mark.parametrize("wanted", ["float32", "int64", "bool", "bfloat16"])
def test_what_is_no_number_is_refused(value: Any, wanted: str) -> None:
    assert wanted in refusal(value, wanted)


@pytest.mark.parametrize(
    "value", [np.ma.masked_array([1.0, 2.0], [True, False]), np.ma.masked_array(np.ones(2, "float32"))]
)
def test_masked_arrays_are_refused_also_when_nothing_is_masked(value: Any) -> None:
    assert "fill it first" in refusal(value)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "int64"])
def test_integers_out_of_range_are_refused_with_the_culprit(dtype: str) -> None:
    limits = np.iinfo(dtype)
    edges = np.array([limits.min, limits.max], "int64")
    assert convert(edges, dtype).tolist() == edges.tolist() == convert(edges.tolist(), dtype).tolist()
    for beyond in (limits.min - 1, limits.max + 1):
        if -(2**63) <= beyond < 2**63:
            assert str(beyond) in refusal(np.array([0, beyond]), dtype)
        if beyond >= 0:
            assert str(beyond) in refusal(np.array([0, beyond], "uint64"), dtype)
        assert refusal([0, beyond], dtype)


def test_floats_beyond_the_range_become_infinite_without_a_warning() -> None:
    assert convert(np.array([1e300, -1e300])).tolist() == [np.inf, -np.inf]
    assert convert([1e300], "float16").tolist() == [np.inf]
    assert convert(np.array([1e300]), "bfloat16").astype("float32").tolist() == [np.inf]


@pytest.mark.parametrize("given_name", FLOATS)
@pytest.mark.parametrize("wanted", FLOATS)
def test_nan_and_infinities_pass_through(given_name: str, wanted: str) -> None:
    converted = convert(np.array([np.nan, np.inf, -np.inf], DTYPES[given_name]), wanted).astype("float64")
    np.testing.assert_array_equal(converted, [np.nan, np.inf, -np.inf])


def test_uint16_counts_as_bfloat16_only_where_bfloat16_is_declared() -> None:
    values = np.array([1.5, -2.0], BFLOAT16)
    converted = convert(values.view("uint16"), "bfloat16")
    assert converted.tolist() == values.tolist()
    assert convert(np.array([3], "uint16"), "int32").tolist() == [3]  # an integer among integers
    for name in ("float32", "float16", "float64"):
        assert "uint16" in refusal(values.view("uint16"), name)


def test_strict_dtypes_refuses_python_numbers_and_takes_any_layout_of_the_dtype() -> None:
    for value in ([1.0], 1.0, (1, 2), True):
        assert "strict_dtypes" in refusal(value, strict=True)
    for value in (np.ones(4, "float32")[::2], np.ones(2, ">f4"), np.ones(2, "<f4")):
        assert convert(value, strict=True).tolist() == [1, 1]
    with engine_of(strict_dtypes=True) as engine:
        with pytest.raises(paddleinfer.InvalidInput, match="strict_dtypes"):
            engine.infer(rows().astype("float64"))
        assert engine.infer(rows())["y"].tolist() == [[2, 2, 2]]


# Python numbers and lists


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([1, 2], "float32", [1, 2]),
        ([1, 2.5], "float64", [1, 2.5]),
        ([True, 2], "int8", [1, 2]),
        ([True, False], "bool", [True, False]),
        ([True, False], "float16", [1, 0]),
        ((1, 2), "uint8", [1, 2]),
        (range(3), "int64", [0, 1, 2]),
        ([0.5, 2], "bfloat16", [0.5, 2]),
        ([np.float32(1), 2], "float32", [1, 2]),
        ([np.int64(1), np.int8(2)], "int32", [1, 2]),
        (array.array("d", [1, 2]), "float32", [1, 2]),
        (memoryview(b"\1\2"), "int64", [1, 2]),
    ],
)
def test_python_numbers_take_the_inputs_dtype(value: Any, dtype: str, expected: list[Any]) -> None:
    assert convert(value, dtype).tolist() == expected


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        ([1.0], "int64", "floats were given"),
        ([1, 2.0], "uint8", "floats were given"),
        ([float("nan")], "int32", "floats were given"),
        ([1], "bool", "bool"),
        ([1.0], "bool", "bool"),
        ([-1], "uint8", "-1"),
        ([256], "uint8", "256"),
        ([128], "int8", "128"),
        ([2**40], "int32", str(2**40)),
        ([2**63], "int64", str(2**63)),
        ([2**64], "int64", "beyond 64 bits"),
        ([10**400], "int64", "beyond 64 bits"),
        ([[1, 2], [3]], "float32", "rectangular"),
        ([[1, 2], 3], "int64", "rectangular"),
        ([np.ones(2), np.ones(3)], "float32", "rectangular"),
    ],
)
def test_python_numbers_that_do_not_fit_are_refused(value: Any, dtype: str, words: str) -> None:
    assert words in refusal(value, dtype)


@pytest.mark.parametrize("value", [[], (), np.zeros(0), np.zeros((0, 3)), np.zeros((0,), "float32")])
def test_inputs_without_rows_are_refused_as_such(value: Any) -> None:
    assert "no rows" in refusal(value, shape=(-1,) * np.ndim(value))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [[[]], [[], []], np.zeros((2, 0), "bool")])
def test_inputs_without_elements_convert_to_every_dtype(value: Any, dtype: str) -> None:
    assert convert(value, dtype, (-1, -1)).shape == np.shape(value)


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: list[Any] = [1.0]
    for _ in range(5000):
        deep = [deep]
    for value in (endless, deep, [2**70, endless]):
        refusal(value)
        refusal(value, "int64")


# Layouts and kinds of arrays


def layouts() -> list[tuple[str, np.ndarray]]:
    base = np.arange(24, dtype="float32").reshape(4, 6)
    frozen = base.copy()
    frozen.flags.writeable = False
    odd = np.frombuffer(b"\0" + base.tobytes(), "float32", offset=1).reshape(4, 6)
    assert not odd.flags.aligned
    return [
        ("strided", base[::2, ::2]),
        ("reversed", base[::-1, ::-1]),
        ("transposed", base.T),
        ("fortran", np.asfortranarray(base)),
        ("broadcast", np.broadcast_to(base[:1], (4, 6))),
        ("big-endian", base.astype(">f4")),
        ("big-endian double", base.astype(">f8")),
        ("read-only", frozen),
        ("misaligned", odd),
        ("matrix", base.view(type("Subclass", (np.ndarray,), {}))),
    ]


@pytest.mark.parametrize(("name", "value"), layouts())
def test_every_layout_of_an_array_is_accepted_and_left_alone(name: str, value: np.ndarray) -> None:
    before = value.copy()
    with echo_engine(shape=(-1, -1)) as engine:
        for result in (engine.infer(value)["y"], engine.submit([value]).result()["y"]):
            np.testing.assert_array_equal(result, before)
            assert not np.shares_memory(result, value) and result.flags.writeable
    np.testing.assert_array_equal(value, before)


class Tensor:
    """Another library's tensor."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def test_objects_with_array_are_arrays() -> None:
    assert convert(Tensor(np.ones(2, "float32"))).tolist() == [1, 1]
    assert convert(Tensor(np.ones(2, "float64"))).tolist() == [1, 1]
    assert "int64" in refusal(Tensor(np.ones(2, "int64")))
    assert convert([Tensor(np.ones(2)), Tensor(np.zeros(2))], shape=(-1, 2)).tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("value", [RuntimeError("lives on a GPU"), 3, None, "text"])
def test_objects_whose_array_fails_are_refused(value: Any) -> None:
    refusal(Tensor(value))
    refusal([Tensor(value)])


@pytest.mark.parametrize("kind", [FLOATS, INTEGERS, ("bool",)])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_array_of_the_right_kind_becomes_what_astype_makes(
    kind: tuple[str, ...], data: st.DataObject
) -> None:
    given_name, wanted = data.draw(st.sampled_from(kind)), data.draw(st.sampled_from(kind))
    drawn_dtype = np.dtype("float32") if given_name == "bfloat16" else DTYPES[given_name]
    if drawn_dtype.itemsize > 1:
        drawn_dtype = drawn_dtype.newbyteorder(data.draw(st.sampled_from("<>")))
    value = data.draw(hnp.arrays(drawn_dtype, hnp.array_shapes(min_dims=1, max_dims=4)))
    if given_name == "bfloat16":
        value = value.astype(BFLOAT16)
    if data.draw(st.booleans()):
        value = value[::-1].swapaxes(0, -1)
    shape = (-1,) * value.ndim
    if kind is INTEGERS and (value.min() < np.iinfo(wanted).min or value.max() > np.iinfo(wanted).max):
        assert "cannot" in refusal(value, wanted, shape)
        return
    with np.errstate(over="ignore", invalid="ignore"):
        expected = value.astype(DTYPES[wanted])
    converted = convert(value, wanted, shape)
    assert converted.shape == expected.shape
    assert ((converted == expected) | (np.isnan(converted) & np.isnan(expected))).all()
