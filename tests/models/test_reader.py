"""`load_spec` against models that Paddle exported and ran."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from model_exports import SUFFIXES, Exports, refusal

from paddleinfer.models.reader import ModelFormat, load_spec

DTYPE_MODELS = ("float16", "bfloat16", "float64", "int16", "int32", "uint8", "bool")
RUNNABLE = ("mlp", "two", "fixed", "scalar_input", "scalar_output", "many", "strange", "batch_norm", "loops")

pytestmark = pytest.mark.paddle3  # the models are exported by it


# What Paddle says itself


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("model", [*RUNNABLE, *DTYPE_MODELS])
def test_names_orders_and_dtypes_are_those_of_paddles_predictor(
    exports: Exports, kind: str, model: str
) -> None:
    spec = load_spec(exports.root / kind / model)
    facts = exports.facts[kind][model]
    assert [tensor.name for tensor in spec.inputs] == facts["inputs"]
    assert [tensor.name for tensor in spec.outputs] == facts["outputs"]
    for tensor, (dtype, shape) in zip(spec.outputs, facts.get("results", ()), strict=False):
        assert tensor.dtype == dtype
        assert tensor.shape is not None
        assert len(tensor.shape) == len(shape)
        assert all(said in (-1, real) for said, real in zip(tensor.shape, shape, strict=True))


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("dtype", DTYPE_MODELS)
def test_an_input_has_the_dtype_it_was_exported_with(exports: Exports, kind: str, dtype: str) -> None:
    (tensor,) = load_spec(exports.root / kind / dtype).inputs
    assert (tensor.dtype, tensor.shape, tensor.alias) == (dtype, (-1, 4), None)


def test_int8_and_int64_inputs_are_known(exports: Exports) -> None:
    assert load_spec(exports.root / "json" / "int8").inputs[0].dtype == "int8"
    assert load_spec(exports.root / "json" / "two").inputs[1].dtype == "int64"
    assert load_spec(exports.root / "legacy" / "two").inputs[1].dtype == "int64"


@pytest.mark.parametrize("kind", SUFFIXES)
def test_parameters_are_listed_in_the_order_of_the_file(exports: Exports, kind: str) -> None:
    spec = load_spec(exports.root / kind / "mlp")
    assert spec.parameters == ("linear_0.b_0", "linear_0.w_0", "linear_1.b_0", "linear_1.w_0")
    assert load_spec(exports.root / kind / "strange").parameters == ('str "änge"/w',)
    assert len(load_spec(exports.root / kind / "batch_norm").parameters) == 4


def test_looking_at_a_model_imports_neither_paddle_nor_numpy() -> None:
    code = (
        "import sys, paddleinfer.models.reader\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded & {'paddle', 'numpy', 'google'}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Forms and paths


@pytest.mark.parametrize(("kind", "format_"), [("json", "json"), ("legacy", "pdmodel")])
def test_directory_stem_and_each_file_name_the_same_model(exports: Exports, kind: str, format_: str) -> None:
    directory = exports.root / kind / "mlp"
    program, params = directory / f"inference{SUFFIXES[kind]}", directory / "inference.pdiparams"
    for path in (directory, directory / "inference", program, params, str(directory) + "/"):
        spec = load_spec(path)
        assert spec.path == Path(path)
        assert (spec.format, spec.program_path, spec.params_path) == (format_, program, params)
        assert spec.model_dir is None


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_model_without_parameters_has_no_parameter_file(
    exports: Exports, kind: str, tmp_path: Path
) -> None:
    directory = exports.copy(kind, "fixed", tmp_path)
    spec = load_spec(directory)
    assert (spec.params_path, spec.model_dir, spec.parameters) == (None, None, ())
    # Paddle fails on a parameter file for a program without any, so it is not passed on.
    (directory / "inference.pdiparams").write_bytes(b"")
    assert load_spec(directory).params_path is None


def test_model_with_combined_params(exports: Exports) -> None:
    directory = exports.root / "legacy" / "combined"
    for path in (directory, directory / "__model__", directory / "__params__"):
        spec = load_spec(path)
        assert spec.format is ModelFormat.DUNDER_MODEL
        assert (spec.params_path, spec.model_dir) == (directory / "__params__", None)
        assert [tensor.name for tensor in spec.inputs] == ["ids", "image"]


def test_model_with_one_file_per_parameter(exports: Exports) -> None:
    directory = exports.root / "legacy" / "separate"
    spec = load_spec(directory)
    assert spec.format is ModelFormat.DUNDER_MODEL
    assert (spec.params_path, spec.model_dir) == (None, directory)
    assert spec.parameters == ("embedding_0.w_0", "fc_0.b_0", "fc_0.w_0")
    assert [tensor.name for tensor in spec.inputs] == exports.facts["legacy"]["separate"]["inputs"]
    assert [tensor.name for tensor in spec.outputs] == exports.facts["legacy"]["separate"]["outputs"]


def test_other_json_beside_the_program_does_not_matter(exports: Exports, tmp_path: Path) -> None:
    directory = exports.copy("json", "mlp", tmp_path)
    (directory / "config.json").write_text('{"base_code": {"magic": "other"}}')
    (directory / "broken.json").write_text("{")
    assert load_spec(directory).program_path == directory / "inference.json"


def test_a_sole_parameter_file_belongs_to_the_sole_program(exports: Exports, tmp_path: Path) -> None:
    directory = exports.copy("legacy", "mlp", tmp_path)
    (directory / "inference.pdmodel").rename(directory / "model.pdmodel")
    (directory / "inference.pdiparams").rename(directory / "params.pdiparams")
    assert load_spec(directory).params_path == directory / "params.pdiparams"


def test_two_models_of_one_stem_are_told_apart_by_their_extension(exports: Exports, tmp_path: Path) -> None:
    directory = exports.copy("json", "fixed", tmp_path)
    shutil.copy(exports.root / "legacy" / "fixed" / "inference.pdmodel", directory)
    for path in (directory, directory / "inference"):
        message = refusal(path)
        assert "inference.json, inference.pdmodel" in message
        assert str(directory / "inference.json") in message
    json, legacy = load_spec(directory / "inference.json"), load_spec(directory / "inference.pdmodel")
    assert (json.format, json.format.is_legacy) == (ModelFormat.JSON, False)
    assert (legacy.format, legacy.format.is_legacy) == (ModelFormat.PDMODEL, True)


def test_a_stem_may_contain_dots(exports: Exports, tmp_path: Path) -> None:
    directory = exports.copy("json", "mlp", tmp_path)
    for file in list(directory.iterdir()):
        file.rename(directory / f"net.v1.2{file.suffix}")
    assert load_spec(directory / "net.v1.2").params_path == directory / "net.v1.2.pdiparams"


# Batchable


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize(
    ("model", "batchable", "reason"),
    [
        ("mlp", "unknown", "as far as its operators tell"),
        ("fixed", "no", "input 'x' has the fixed leading dimension 4"),
        ("scalar_input", "no", "input 'x' is a scalar"),
    ],
)
def test_batchable_is_never_concluded_from_a_file(
    exports: Exports, kind: str, model: str, batchable: str, reason: str
) -> None:
    spec = load_spec(exports.root / kind / model)
    assert spec.batchable == batchable
    assert reason in spec.batchable_reason


def test_a_model_without_inputs_is_not_batchable(exports: Exports) -> None:
    spec = load_spec(exports.root / "json" / "no_input")
    assert (spec.inputs, spec.batchable, spec.batchable_reason) == ((), "no", "the model has no inputs")
