"""What a .onnx file says of its tensors, and files that are none."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddleinfer.errors import ModelLoadError
from paddleinfer.models import wire
from paddleinfer.models.reader import Batchable, ModelFormat, ModelSpec, load_spec


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    data = b""
    while number >= 0x80:
        data += bytes([number & 0x7F | 0x80])
        number >>= 7
    return data + bytes([number])


def field(number: int, content: bytes | str | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, dtype: int, sizes: list[int | str] | None) -> bytes:
    """A ValueInfoProto."""
    described = field(1, dtype)
    if sizes is not None:
        dims = [field(1, field(2 if isinstance(size, str) else 1, size)) for size in sizes]
        described += field(2, b"".join(dims))
    return field(1, name) + field(2, field(1, described))


def model(inputs: list[bytes], outputs: list[bytes], constants: tuple[str, ...] = ()) -> bytes:
    graph = field(1, field(4, "Relu")) + field(2, "main")
    for name in constants:
        graph += field(5, field(1, 4) + field(2, 1) + field(8, name) + field(9, b"weights!" * 1000))
    graph += b"".join(field(11, one) for one in inputs) + b"".join(field(12, one) for one in outputs)
    return field(1, 8) + field(2, "a producer") + field(7, graph) + field(8, field(2, 17))


def spec_of(tmp_path: Path, data: bytes) -> ModelSpec:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return load_spec(path)


OUTPUT = [tensor("y", 1, ["n", 4])]


def test_names_dtypes_and_shapes_are_read(tmp_path: Path) -> None:
    spec = spec_of(
        tmp_path,
        model([tensor("x", 1, ["n", 3, -1, 0]), tensor("ids", 7, None), tensor("b", 16, [])], OUTPUT),
    )
    assert spec.format is ModelFormat.ONNX
    assert [(one.name, one.dtype, one.shape) for one in spec.inputs] == [
        ("x", "float32", (-1, 3, -1, -1)),
        ("ids", "int64", None),
        ("b", "bfloat16", ()),
    ]
    assert [(one.name, one.dtype, one.shape) for one in spec.outputs] == [("y", "float32", (-1, 4))]


def test_weights_that_are_listed_as_inputs_are_none(tmp_path: Path) -> None:
    inputs = [tensor("x", 1, ["n", 4]), tensor("w", 1, [4, 4])]
    assert [one.name for one in spec_of(tmp_path, model(inputs, OUTPUT, ("w",))).inputs] == ["x"]


@pytest.mark.parametrize(
    ("inputs", "batchable", "reason"),
    [
        ([tensor("x", 1, ["n", 4])], Batchable.UNKNOWN, "the first batches are compared"),
        ([tensor("x", 1, [8, 4])], Batchable.NO, "input 'x' has the fixed leading dimension 8"),
        ([tensor("x", 1, [])], Batchable.NO, "input 'x' is a scalar"),
        ([], Batchable.NO, "the model has no inputs"),
    ],
)
def test_whether_rows_may_share_a_run(
    tmp_path: Path, inputs: list[bytes], batchable: Batchable, reason: str
) -> None:
    spec = spec_of(tmp_path, model(inputs, OUTPUT))
    assert spec.batchable is batchable and reason in spec.batchable_reason


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty"),
        (b"hello world", "is not an ONNX model, or is damaged"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        (field(1, 8), "has no outputs"),
        (model([], []), "has no outputs"),
        (model([], OUTPUT)[:-20], "is damaged"),
        (
            model([tensor("x", 8, ["n"])], OUTPUT),
            "input 'x' of .* has the dtype string, and paddleinfer takes",
        ),
        (model([tensor("x", 99, ["n"])], OUTPUT), "has the dtype number 99"),
        (model([field(1, "seq") + field(2, field(4, b""))], OUTPUT), "input 'seq' of .* is not a tensor"),
        (model([tensor("x", 1, ["n"] * 65)], OUTPUT), "a tensor of 65 dimensions"),
        (model([field(1, b"\xff\xfe") + tensor("x", 1, [])[3:]], OUTPUT), "is damaged"),
    ],
)
def test_a_file_that_is_no_such_model_is_one_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(ModelLoadError, match=sentence):
        spec_of(tmp_path, data)


@pytest.mark.parametrize(
    "data",
    [
        field(1, 8) * 200,
        field(2, b"") * 200,
        field(7, field(1, b"") * 200),
        field(7, field(5, field(8, "w") * 200)),
        field(7, field(11, tensor("x", 1, ["n"]) * 60)),
        field(7, b"".join(field(11, tensor(f"x{number}", 1, ["n"])) for number in range(60))),
    ],
    ids=["model", "texts", "graph", "weights", "one input", "inputs"],
)
def test_fields_without_end_are_refused_wherever_they_stand(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model([], OUTPUT) + data
    assert spec_of(tmp_path, whole).outputs
    monkeypatch.setattr(wire, "MOST_FIELDS", 150)
    with pytest.raises(ModelLoadError, match="more than 150 fields"):
        spec_of(tmp_path, whole)


def test_zeros_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="a field numbered 0"):
        spec_of(tmp_path, bytes(1000))


def test_it_takes_no_parameter_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model([], OUTPUT))
    with pytest.raises(ModelLoadError, match="holds its weights itself"):
        load_spec(tmp_path / "model.onnx", params="w.pdiparams")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


WHOLE = model([tensor("x", 1, ["n", 3])], OUTPUT, ("w",))


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 200)
)
def test_no_damage_does_more_than_a_refusal(scratch: Path, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    with contextlib.suppress(ModelLoadError):
        spec_of(scratch, bytes(data[: len(data) - cut]))
