"""Damaged, foreign and useless programs and parameter files."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from model_exports import SUFFIXES, Exports, refusal

from paddleinfer.errors import ModelLoadError
from paddleinfer.models.reader import DTYPES, load_spec

SomeOf = Callable[[Sequence[Any]], Sequence[Any]]

pytestmark = pytest.mark.paddle3  # the models are exported by it


# Damaged and foreign programs


def test_every_truncation_of_a_json_program_is_refused(
    exports: Exports, tmp_path: Path, some_of: SomeOf
) -> None:
    directory = exports.copy("json", "mlp", tmp_path)
    program = directory / "inference.json"
    whole = program.read_bytes()
    for size in [*range(0, 20), *some_of(range(37, len(whole), 37))]:
        program.write_bytes(whole[:size])
        message = refusal(program)
        assert ("truncated" if size >= 37 else "not a Paddle program" if size else "empty") in message


@pytest.mark.parametrize("model", ["mlp", "loops"])
def test_every_truncation_of_a_legacy_program_is_refused(
    exports: Exports, tmp_path: Path, model: str, some_of: SomeOf
) -> None:
    directory = exports.copy("legacy", model, tmp_path)
    program = directory / "inference.pdmodel"
    whole = program.read_bytes()
    intact = load_spec(directory)
    accepted = []
    for size in [*some_of(range(0, len(whole), 41)), *range(len(whole) - 40, len(whole))]:
        program.write_bytes(whole[:size])
        try:
            spec = load_spec(program)
        except ModelLoadError as error:
            assert "\n" not in str(error)
        else:
            assert spec == replace_path(intact, program)
            accepted.append(size)
    # Behind the blocks stand versions that Paddle does not need; a cut between them is harmless.
    assert len(accepted) < 40
    assert all(size > len(whole) * 0.5 for size in accepted)


def replace_path(spec: Any, path: Path) -> Any:
    return type(spec)(**{**vars(spec), "path": path})


def test_a_legacy_program_that_lost_a_nested_block_is_refused(exports: Exports, tmp_path: Path) -> None:
    directory = exports.copy("legacy", "loops", tmp_path)
    program = directory / "inference.pdmodel"
    data = program.read_bytes()
    size, shift, position = 0, 0, 1
    while True:
        size |= (data[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if data[position - 1] < 0x80:
            break
    program.write_bytes(data[: position + size])
    assert "truncated or damaged (block 1 is missing)" in refusal(directory)


@pytest.mark.parametrize(
    "content", [b"x", b"\x80\x04\x95 pickle", b"\x08\x07\x12\x07pytorch", b"PK\x03\x04", b"\x0a\x00", b"{}"]
)
def test_foreign_files_are_not_programs(tmp_path: Path, content: bytes) -> None:
    for name in ("m.pdmodel", "__model__", "n.json"):
        path = tmp_path / name
        path.write_bytes(content)
        assert "not a Paddle program" in refusal(path)


def test_absurd_json_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "m.json"
    head = '{"base_code":{"magic":"pir","version":9},'
    for text in (
        '"program":{}}',
        '"program":[]}',
        '"program":{"regions":[{"blocks":[{"ops":[{"#":"1.fetch","A":3}]}]}]}}',
        '"program":{"regions":[{"blocks":[{"ops":[{"#":"p","A":[0,0,0,"w"],"O":{"TT":{"#":"0.t_dtensor",'
        '"D":[0,[1e999]]}}}]}]}]}}',
    ):
        program.write_text(head + text)
        assert "unknown layout" in refusal(program)
    program.write_text("[" * 100_000)
    assert "not a Paddle program" in refusal(program)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_random_damage_never_escapes_as_another_exception(
    exports: Exports, tmp_path: Path, kind: str, some_of: SomeOf
) -> None:
    directory = exports.copy(kind, "two", tmp_path)
    randomness = random.Random(7)
    files = [directory / f"inference{SUFFIXES[kind]}", directory / "inference.pdiparams"]
    for file in files:
        whole = file.read_bytes()
        for _ in some_of(range(300)):
            damaged = bytearray(whole)
            for _ in range(randomness.randint(1, 4)):
                damaged[randomness.randrange(len(damaged))] = randomness.randrange(256)
            file.write_bytes(damaged)
            try:
                load_spec(directory)
            except ModelLoadError as error:
                assert str(error)
        file.write_bytes(whole)
    load_spec(directory)


# Parameters


@pytest.mark.parametrize(
    ("kind", "model", "name"),
    [
        ("json", "mlp", "inference.pdiparams"),
        ("legacy", "mlp", "inference.pdiparams"),
        ("legacy", "combined", "__params__"),
    ],
)
def test_every_truncation_of_a_combined_parameter_file_is_refused(
    exports: Exports, tmp_path: Path, kind: str, model: str, name: str, some_of: SomeOf
) -> None:
    directory = exports.copy(kind, model, tmp_path)
    params = directory / name
    whole = params.read_bytes()
    for size in some_of(range(len(whole))):
        params.write_bytes(whole[:size])
        message = refusal(directory)
        assert str(params) in message
        assert "truncated" in message if size else "empty (0 bytes)" in message


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_missing_parameter_file_is_named(exports: Exports, tmp_path: Path, kind: str) -> None:
    directory = exports.copy(kind, "mlp", tmp_path)
    (directory / "inference.pdiparams").unlink()
    message = refusal(directory)
    assert "has 4 parameters, but inference.pdiparams is not beside it" in message
    for name in ("a.pdiparams", "b.pdiparams"):
        (directory / name).touch()
    assert "a.pdiparams, b.pdiparams" in refusal(directory)


def test_missing_and_damaged_files_of_single_parameters_are_named(exports: Exports, tmp_path: Path) -> None:
    directory = exports.copy("legacy", "separate", tmp_path)
    weights = directory / "fc_0.w_0"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert f"{weights} is truncated" in refusal(directory)
    weights.write_bytes(b"")
    assert f"{weights} is empty" in refusal(directory)
    weights.unlink()
    message = refusal(directory)
    assert "__params__" in message
    assert "1 of them ('fc_0.w_0')" in message
    for name in ("fc_0.b_0", "embedding_0.w_0"):
        (directory / name).unlink()
    assert "3 of them" in refusal(directory)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_parameters_of_another_model_are_refused(exports: Exports, tmp_path: Path, kind: str) -> None:
    directory = exports.copy(kind, "mlp", tmp_path)
    own, other = (exports.root / kind / name / "inference.pdiparams" for name in ("mlp", "two"))
    params = directory / "inference.pdiparams"
    shutil.copy(other, params)
    assert "not from the same export" in refusal(directory)
    params.write_bytes(own.read_bytes() + other.read_bytes())
    assert "goes on for" in refusal(directory)
    params.write_bytes(b"\x80\x04\x95" + bytes(100))
    assert "not a Paddle parameter file" in refusal(directory)


# Programs that are of no use


def test_an_unsupported_dtype_is_named(exports: Exports) -> None:
    for kind in SUFFIXES:
        message = refusal(exports.root / kind / "complex_output")
        assert "output" in message
        assert "complex64" in message
        assert ", ".join(DTYPES) in message


def test_a_program_without_feed_and_fetch_is_refused(exports: Exports) -> None:
    # Paddle itself crashes on it.
    assert "not made for inference" in refusal(exports.root / "legacy" / "training")


def test_a_json_program_that_returns_its_input_is_refused(exports: Exports) -> None:
    assert "returns its input 'x' unchanged" in refusal(exports.root / "json" / "passed_through")
