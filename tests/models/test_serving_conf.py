"""Paddle Serving directories."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_exports import Exports, refusal

from paddleinfer.models.reader import load_spec

pytestmark = pytest.mark.paddle3  # the models are exported by it


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
