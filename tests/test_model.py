"""`load_spec` against models that Paddle exported and ran, and against everything that is no model."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paddleinfer.errors import ModelLoadError
from paddleinfer.model import DTYPES, load_spec

EXPORTER = Path(__file__).with_name("model_files.py")
DTYPE_MODELS = ("float16", "bfloat16", "float64", "int16", "int32", "uint8", "bool")
RUNNABLE = ("mlp", "two", "fixed", "scalar_input", "scalar_output", "many", "strange", "batch_norm", "loops")
SUFFIXES = {"json": ".json", "legacy": ".pdmodel"}

pytestmark = pytest.mark.paddle3  # the models are exported by it


class Exports:
    """The exported models of both formats, and Paddle's own account of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.facts = {kind: json.loads((root / kind / "facts.json").read_text()) for kind in SUFFIXES}

    def copy(self, kind: str, model: str, target: Path) -> Path:
        """A copy of a model, for a test to damage."""
        return Path(shutil.copytree(self.root / kind / model, target / model))


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    root = tmp_path_factory.mktemp("exports")
    running = {}
    for kind in SUFFIXES:
        (root / kind).mkdir()
        command = [sys.executable, str(EXPORTER), kind, str(root / kind)]
        running[kind] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=root
        )
    for kind, process in running.items():
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, f"{kind} export failed:\n{output[-4000:]}"
    return Exports(root)


def refusal(path: Any) -> str:
    """The one sentence with which a path is refused."""
    with pytest.raises(ModelLoadError) as caught:
        load_spec(path)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert (
        len(message.replace(os.fspath(path), "") if isinstance(path, (str, os.PathLike)) else message) < 500
    )
    return message


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
        "import sys, paddleinfer.model\n"
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
        assert spec.format == "__model__"
        assert (spec.params_path, spec.model_dir) == (directory / "__params__", None)
        assert [tensor.name for tensor in spec.inputs] == ["ids", "image"]


def test_model_with_one_file_per_parameter(exports: Exports) -> None:
    directory = exports.root / "legacy" / "separate"
    spec = load_spec(directory)
    assert spec.format == "__model__"
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
    assert load_spec(directory / "inference.json").format == "json"
    assert load_spec(directory / "inference.pdmodel").format == "pdmodel"


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
        ("mlp", "unknown", "which axis"),
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


# Paddle Serving directories


def serving_conf(*pairs: tuple[str, str, str]) -> str:
    """A configuration as Paddle Serving writes it: its shapes lack the batch axis."""
    return "".join(
        f'{kind} {{\n  name: "{name}"\n  alias_name: "{alias}"\n  is_lod_tensor: false\n'
        f"  {kind[:-4]}_type: 1\n  shape: 4\n}}\n"
        for kind, name, alias in pairs
    )


GOOD_PAIRS = (
    ("feed_var", "zeta", "z"),
    ("feed_var", "ids", "ids"),
    ("fetch_var", "fetch_name_1", "doubled"),
)


def serving_directory(exports: Exports, target: Path, text: str) -> Path:
    directory = exports.copy("json", "two", target)
    (directory / "serving_server_conf.prototxt").write_text(text)
    return directory


def test_serving_aliases_stand_beside_the_real_names(exports: Exports, tmp_path: Path) -> None:
    directory = serving_directory(exports, tmp_path, serving_conf(*GOOD_PAIRS))
    for path in (directory, directory / "serving_server_conf.prototxt", directory / "inference"):
        spec = load_spec(path)
        assert [(tensor.name, tensor.alias) for tensor in spec.inputs] == [("zeta", "z"), ("ids", None)]
        assert [tensor.alias for tensor in spec.outputs] == [None, "doubled", None]
        assert spec.inputs[0].shape == (-1, 4)  # the program's, not the configuration's [4]


def test_serving_text_may_use_all_of_the_text_format(exports: Exports, tmp_path: Path) -> None:
    text = (
        "# a comment\nfeed_var: <name: 'ze' \"ta\"; alias_name: '\\345\\220\\215\\x41\\n', shape: [1, -2],\n"
        "unknown { deeper { a: 1.5e3 } } >\n"
    )
    assert load_spec(serving_directory(exports, tmp_path, text)).inputs[0].alias == "名A\n"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("model.pdmodel", "params.pdiparams"), "pdmodel"),
        (("__model__", "__params__"), "__model__"),
        (("__model__", "params"), "__model__"),
        (("model", "params"), "__model__"),
    ],
)
def test_serving_file_names_are_found_by_their_endings(
    exports: Exports, tmp_path: Path, names: tuple[str, str], kind: str
) -> None:
    directory = exports.copy("legacy", "combined", tmp_path)
    (directory / "serving_server_conf.prototxt").write_text(serving_conf(("feed_var", "image", "pixels")))
    (directory / "serving_server_conf.stream.prototxt").write_bytes(b"\x0a\x00")
    program, params = (directory / name for name in names)
    (directory / "__model__").rename(program)
    (directory / "__params__").rename(params)
    for path in (directory, program):
        spec = load_spec(path)
        assert (spec.format, spec.program_path, spec.params_path) == (kind, program, params)
        assert spec.inputs[1].alias == "pixels"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (serving_conf(("feed_var", "image", "x")), ["input 'image'", "'zeta', 'ids'"]),
        (serving_conf(("fetch_var", "y", "y")), ["output 'y'", "'fetch_name_0'"]),
        (serving_conf(("feed_var", "zeta", "ids")), ["'zeta'", "alias 'ids'", "another one's name"]),
        (serving_conf(("feed_var", "zeta", "a"), ("feed_var", "ids", "a")), ["two inputs the alias 'a'"]),
        (serving_conf(("feed_var", "zeta", "a"), ("feed_var", "zeta", "b")), ["input 'zeta' twice"]),
        ('feed_var { alias_name: "a" }', ["feed_var without a name"]),
        ("feed_var: 3", ["feed_var without a name"]),
        ("", ["empty"]),
        ("name: 'something else'", ["no feed_var and no fetch_var"]),
        ('feed_var {\n  name: "zeta"\n', ["truncated", "line 3", "closing }"]),
        ('feed_var {\n  name: "ze', ["truncated", "line 2"]),
        ("feed_var name", ["line 1", "':' or '{'"]),
        ("feed_var { shape: [1 2] }", ["',' or ']'"]),
        ("{", ["a field's name"]),
        ("a{" * 5000, ["nests too deep"]),
    ],
)
def test_a_serving_conf_that_does_not_fit_is_refused(
    exports: Exports, tmp_path: Path, text: str, words: list[str]
) -> None:
    message = refusal(serving_directory(exports, tmp_path, text))
    assert "serving_server_conf.prototxt" in message
    for word in words:
        assert word in message


def test_a_binary_serving_conf_is_refused(exports: Exports, tmp_path: Path) -> None:
    directory = serving_directory(exports, tmp_path, "")
    (directory / "serving_server_conf.prototxt").write_bytes(b"\x0a\x04\xff\xfe")
    assert "not UTF-8" in refusal(directory)


def test_an_encrypted_serving_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "serving_server_conf.prototxt").write_text(serving_conf(*GOOD_PAIRS))
    for name in ("encrypt_model", "encrypt_params", "key"):
        (tmp_path / name).write_bytes(b"secret")
    assert "encrypt_model is encrypted" in refusal(tmp_path)


# No model, or several


def test_paths_that_name_nothing_are_refused(exports: Exports, tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing" / "model")
    mlp = exports.root / "json" / "mlp"
    message = refusal(mlp / "interference")
    assert "does not exist" in message
    assert "inference.json, inference.pdiparams" in message
    assert "does not exist" in refusal(mlp / "inference.json" / "x")
    assert "not a path" in refusal("")
    assert "not a path" in refusal("a\0b")
    assert "not NoneType" in refusal(None)
    assert "not int" in refusal(3)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    assert "is empty" in refusal(tmp_path)


def test_a_directory_without_a_model_lists_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "inference").mkdir()
    for name in ("a.txt", "b.onnx", "weights.pdparams", "d", "e", "f", "g"):
        (tmp_path / name).touch()
    message = refusal(tmp_path)
    assert "a.txt, b.onnx, d, e, f and 3 more" in message
    assert ".json or .pdmodel" in message


def test_a_directory_whose_only_json_is_foreign_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "resnet"}')
    assert "config.json is not a Paddle program" in refusal(tmp_path)
    assert "is JSON but not a Paddle program" in refusal(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("")
    assert "config.json is empty" in refusal(tmp_path)


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    for name in ("notes.txt", "lost.pdiparams", "__params__"):
        (tmp_path / name).write_text("x")
        assert "is not a program file" in refusal(tmp_path / name)


def test_several_models_in_a_directory_are_listed(exports: Exports, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(exports.root / "json" / "fixed" / "inference.json", tmp_path / f"{name}.json")
    message = refusal(tmp_path)
    assert "holds 2 models (a.json, b.json)" in message
    assert str(tmp_path / "a.json") in message


def test_what_the_system_refuses_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cannot read" in refusal(tmp_path / ("x" * 300))

    def forbidden(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    # The tests may run as root, whom no directory keeps out.
    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert refusal(tmp_path) == f"cannot read {tmp_path}: Permission denied"


def test_links_to_nothing_and_lfs_pointers_are_recognised(exports: Exports, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    directory = exports.copy("legacy", "mlp", tmp_path)
    (directory / "inference.pdiparams").write_text(pointer)
    assert "inference.pdiparams is a Git LFS pointer" in refusal(directory)
    (directory / "inference.pdiparams").unlink()
    (directory / "inference.pdiparams").symlink_to("blobs/42")
    assert "symbolic link to blobs/42" in refusal(directory)
    (directory / "inference.pdiparams").unlink()
    for name in ("inference.pdmodel", "inference.json"):
        (directory / "inference.pdmodel").unlink(missing_ok=True)
        (directory / name).write_text(pointer)
        assert f"{name} is a Git LFS pointer" in refusal(directory)


# Damaged and foreign programs


def test_every_truncation_of_a_json_program_is_refused(exports: Exports, tmp_path: Path) -> None:
    directory = exports.copy("json", "mlp", tmp_path)
    program = directory / "inference.json"
    whole = program.read_bytes()
    for size in [*range(0, 20), *range(37, len(whole), 37)]:
        program.write_bytes(whole[:size])
        message = refusal(program)
        assert ("truncated" if size >= 37 else "not a Paddle program" if size else "empty") in message


@pytest.mark.parametrize("model", ["mlp", "loops"])
def test_every_truncation_of_a_legacy_program_is_refused(
    exports: Exports, tmp_path: Path, model: str
) -> None:
    directory = exports.copy("legacy", model, tmp_path)
    program = directory / "inference.pdmodel"
    whole = program.read_bytes()
    intact = load_spec(directory)
    accepted = []
    for size in [*range(0, len(whole), 41), *range(len(whole) - 40, len(whole))]:
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
    exports: Exports, tmp_path: Path, kind: str
) -> None:
    directory = exports.copy(kind, "two", tmp_path)
    randomness = random.Random(7)
    files = [directory / f"inference{SUFFIXES[kind]}", directory / "inference.pdiparams"]
    for file in files:
        whole = file.read_bytes()
        for _ in range(300):
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
    exports: Exports, tmp_path: Path, kind: str, model: str, name: str
) -> None:
    directory = exports.copy(kind, model, tmp_path)
    params = directory / name
    whole = params.read_bytes()
    for size in range(len(whole)):
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


# A legacy program written by hand, for what today's Paddle no longer exports


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


def test_an_input_with_sequence_levels_is_not_batchable(tmp_path: Path) -> None:
    program = write_program(
        tmp_path / "m.pdmodel",
        variable("words", dtype=3, dims=(-1, 1), lod=1),
        variable("y"),
        port("feed", "words", 0),
        port("fetch", "y", 0),
    )
    spec = load_spec(program)
    assert spec.batchable == "no"
    assert "sequences" in spec.batchable_reason


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    parts = (variable("x"), variable("y"), port("feed", "x", 0), port("feed", "x", 1), port("fetch", "y", 0))
    assert "two inputs named 'x'" in refusal(write_program(tmp_path / "m.pdmodel", *parts))


def test_a_feed_of_an_undeclared_variable_is_refused(tmp_path: Path) -> None:
    program = write_program(tmp_path / "m.pdmodel", port("feed", "x", 0))
    assert "the variable 'x' is missing" in refusal(program)
