"""Legacy programs written by hand, for what today's Paddle no longer exports."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from model_exports import refusal

from paddleinfer.models.reader import load_spec

pytestmark = pytest.mark.paddle3  # the models are exported by it


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    head = b""
    while value > 0x7F:
        head += struct.pack("B", value & 0x7F | 0x80)
        value >>= 7
    return head + struct.pack("B", value)


def variable(
    name: str, kind: int = 7, dtype: int = 5, dims: tuple[int, ...] = (-1, 4), lod: int = 0
) -> bytes:
    tensor = field(1, dtype) + b"".join(field(2, size) for size in dims)
    described = field(1, kind)
    if kind == 7:
        described += field(3, field(1, tensor) + field(2, lod))
    return field(3, field(1, name) + field(2, described))


def port(kind: str, name: str, column: int) -> bytes:
    side, parameter = (2, "Out") if kind == "feed" else (1, "X")
    attribute = field(1, "col") + field(2, 0) + field(3, column)
    return field(4, field(side, field(1, parameter) + field(2, name)) + field(3, kind) + field(4, attribute))


def write_program(path: Path, *parts: bytes) -> Path:
    path.write_bytes(field(1, field(1, 0) + field(2, -1) + b"".join(parts)))
    return path


def test_feeds_and_fetches_are_ordered_by_their_column(tmp_path: Path) -> None:
    program = write_program(
        tmp_path / "m.pdmodel",
        *(variable(name) for name in "abcd"),
        port("feed", "b", 1),
        port("feed", "a", 0),
        port("fetch", "c", 10),
        port("fetch", "d", 2),
    )
    spec = load_spec(program)
    assert [tensor.name for tensor in spec.inputs] == ["a", "b"]
    assert [tensor.name for tensor in spec.outputs] == ["d", "c"]


@pytest.mark.parametrize("kind", ["feed", "fetch"])
@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ((0, -1), "the column -1, and columns are whole numbers from 0 to 65535"),
        ((0, 65536), "the column 65536, and"),
        ((2**62,), "has the column 4611686018427387904, and"),
        ((0, 0), "puts have the column 0"),
    ],
)
def test_a_column_that_paddle_would_take_for_an_index_is_refused(
    tmp_path: Path, kind: str, columns: tuple[int, ...], why: str
) -> None:
    others = port("fetch", "y", 0) if kind == "feed" else port("feed", "y", 0)
    ports = (port(kind, f"x{place}", column) for place, column in enumerate(columns))
    program = write_program(
        tmp_path / "m.pdmodel", variable("x0"), variable("x1"), variable("y"), others, *ports
    )
    message = refusal(program)
    assert f"{program} is a Paddle program that is truncated or damaged" in message
    assert why in message


@pytest.mark.parametrize("column", ["-1", "65536", "1e9", "true", '"0"', "null"])
def test_a_column_of_a_json_program_that_is_no_index_is_refused(tmp_path: Path, column: str) -> None:
    fetch = (
        '{"#":"1.fetch","A":[{"N":"name","AT":{"D":"y"}},{"N":"col","AT":{"D":%s}}],"I":[{"%%":1}],'
        '"O":[{"%%":1,"TT":{"#":"0.t_dtensor","D":[{"#":"0.t_f32"},[-1,4]]}}]}'
    )
    path = tmp_path / "m.json"
    path.write_text(
        '{"base_code":{"magic":"pir","version":1,"trainable":true},'
        '"program":{"regions":[{"blocks":[{"ops":[' + fetch % column + "]}]}]}}"
    )
    assert "columns are whole numbers from 0 to 65535" in refusal(path)


@pytest.mark.parametrize(("kind", "word"), [(25, "string"), (13, "array of tensors"), (99, "number 99")])
def test_inputs_that_are_no_tensors_are_refused_by_type(tmp_path: Path, kind: int, word: str) -> None:
    program = write_program(
        tmp_path / "m.pdmodel",
        variable("text", kind=kind),
        variable("y"),
        port("feed", "text", 0),
        port("fetch", "y", 0),
    )
    assert f"input 'text' of {program} has the dtype {word}" in refusal(program)


def test_an_input_with_sequence_levels_is_refused_with_what_to_do(tmp_path: Path) -> None:
    program = write_program(
        tmp_path / "m.pdmodel",
        variable("words", dtype=3, dims=(-1, 1), lod=1),
        variable("y"),
        port("feed", "words", 0),
        port("fetch", "y", 0),
    )
    message = refusal(program)
    assert "input 'words'" in message
    assert "export the model with padded inputs" in message


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    parts = (variable("x"), variable("y"), port("feed", "x", 0), port("feed", "x", 1), port("fetch", "y", 0))
    assert "two inputs named 'x'" in refusal(write_program(tmp_path / "m.pdmodel", *parts))


def test_a_feed_of_an_undeclared_variable_is_refused(tmp_path: Path) -> None:
    program = write_program(tmp_path / "m.pdmodel", port("feed", "x", 0))
    assert "the variable 'x' is missing" in refusal(program)


@pytest.mark.parametrize("inner", [0, -1])
def test_a_block_that_holds_itself_is_refused(tmp_path: Path, inner: int) -> None:
    attribute = field(1, "sub_block") + field(2, 8) + field(12, inner)
    loop = field(4, field(3, "while") + field(4, attribute))
    ends = (variable("y"), port("fetch", "y", 0))
    message = refusal(write_program(tmp_path / "m.pdmodel", *ends, loop))
    assert f"block 0 holds block {inner}, and blocks hold later ones only" in message


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    fetch = (
        '{"#":"1.fetch","A":[{"N":"name","AT":{"D":"\\ud800"}},{"N":"col","AT":{"D":0}}],"I":[{"%":1}],'
        '"O":[{"%":1,"TT":{"#":"0.t_dtensor","D":[{"#":"0.t_f32"},[-1,4]]}}]}'
    )
    path = tmp_path / "m.json"
    path.write_text(
        '{"base_code":{"magic":"pir","version":1,"trainable":true},'
        '"program":{"regions":[{"blocks":[{"ops":[' + fetch + "]}]}]}}"
    )
    assert "UnicodeEncodeError" in refusal(path)
