"""``paddleinfer convert``: configurations that Paddle Serving's protobuf reads, and checks of those there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import serving_conf_message
from commands import said
from model_exports import Exports
from serving_models import HOUSE
from zoo import Zoo

from paddleinfer.cli.main import main
from paddleinfer.models.reader import load_spec
from paddleinfer.models.serving_conf import CLIENT_FILE_NAME, FILE_NAME, read_conf
from paddleinfer.models.serving_conf_text import conf_of, conf_text
from paddleinfer.serving import LocalPredictor


def convert(*arguments: object) -> None:
    assert main(["convert", *map(str, arguments)]) == 0


@pytest.fixture
def conv(zoo: Zoo, tmp_path: Path) -> Path:
    """A model with dynamic axes and two outputs."""
    return Path(shutil.copytree(zoo.directory("conv", zoo.formats[0]), tmp_path / "conv"))


def test_both_configurations_are_what_the_documents_say(conv: Path) -> None:
    convert(conv)
    spec = load_spec(conv)
    for name in (FILE_NAME, CLIENT_FILE_NAME):
        message = serving_conf_message.read(conv / name)
        (feed,) = message.feed_var
        assert (feed.name, feed.alias_name, feed.feed_type) == (spec.inputs[0].name, spec.inputs[0].name, 1)
        assert list(feed.shape) == [3]  # the rows and the free axes are left out
        assert feed.HasField("is_lod_tensor") and not feed.is_lod_tensor
        assert [fetch.name for fetch in message.fetch_var] == [tensor.name for tensor in spec.outputs]
        assert [(fetch.fetch_type, list(fetch.shape)) for fetch in message.fetch_var] == [(1, [5]), (1, [16])]


@pytest.mark.parametrize(
    ("dtype", "number"),
    [
        ("int64", 0),
        ("int32", 2),
        ("float64", 3),
        ("int16", 4),
        ("float16", 5),
        ("uint8", 7),
        ("int8", 8),
        ("bool", 9),
    ],
)
def test_each_dtype_has_its_number(zoo: Zoo, tmp_path: Path, dtype: str, number: int) -> None:
    model = Path(shutil.copytree(zoo.directory(f"same-{dtype}", zoo.formats[0]), tmp_path / dtype))
    convert(model)
    message = serving_conf_message.read(model / FILE_NAME)
    assert message.feed_var[0].feed_type == message.fetch_var[0].fetch_type == number


def test_aliases_are_taken_in_order_and_work(conv: Path) -> None:
    convert(conv, "--feed_alias_names", "picture", "--fetch-alias-names", "scores,features")
    with LocalPredictor() as predictor:
        predictor.load_model_config(conv)
        results = predictor.predict({"picture": np.zeros((3, 8, 8), "f4")}, ["features", "scores"])
    assert {name: array.shape for name, array in results.items()} == {
        "features": (1, 16, 4, 4),
        "scores": (1, 5),
    }


def test_the_model_is_copied_where_a_directory_is_named(conv: Path, tmp_path: Path) -> None:
    server, client = tmp_path / "serving_server", tmp_path / "serving_client"
    convert(conv, "--serving_server", server, "--serving_client", client, "--fetch_alias_names", "a,b")
    assert [tensor.alias for tensor in load_spec(server).outputs] == ["a", "b"]
    assert [path.name for path in client.iterdir()] == [CLIENT_FILE_NAME]
    assert not (conv / FILE_NAME).exists() and (conv / next(server.glob("*.pdiparams")).name).exists()
    with LocalPredictor() as predictor:
        predictor.load_model_config(server)


@pytest.mark.paddle3
def test_a_model_of_separate_parameter_files_is_copied_whole(exports: Exports, tmp_path: Path) -> None:
    model = exports.copy("legacy", "separate", tmp_path)
    convert(model, "--serving_server", tmp_path / "copy")
    spec = load_spec(tmp_path / "copy")
    assert spec.parameters and spec.model_dir == tmp_path / "copy"


def test_what_is_there_and_fits_stays_and_the_clients_gets_its_aliases(
    fit_a_line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(fit_a_line, tmp_path / "m"))
    before = (model / FILE_NAME).read_bytes()
    convert(model, "--json")
    files = json.loads(capsys.readouterr().out)["files"]
    assert [(Path(file["path"]).name, file["state"]) for file in files] == [
        (FILE_NAME, "fits"),
        (CLIENT_FILE_NAME, "written"),
    ]
    assert (model / FILE_NAME).read_bytes() == before
    assert serving_conf_message.read(model / CLIENT_FILE_NAME).fetch_var[0].alias_name == "price"
    convert(model, "--check")


def test_a_check_writes_nothing(conv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(conv.iterdir())
    assert f"{FILE_NAME} is missing" in said(capsys, 2, "convert", conv, "--check")
    assert sorted(conv.iterdir()) == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("feed_type: 1", "feed_type: 0", "input 'x' has type 0, and it has 1, float32"),
        ("shape: 13", "shape: 12", "input 'x' has shape [12] beyond its rows, and with them it has [-1, 13]"),
        ("shape: 13", "shape: none", "shape of feed_var 'x'"),
        ("shape: 13", "shape: -1", ""),
        ("shape: 13", "shape: 1\n  shape: 13", ""),
        ('alias_name: "x"', "", ""),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_with_what_is_wrong(
    fit_a_line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str
) -> None:
    model = Path(shutil.copytree(fit_a_line, tmp_path / "m"))
    text = (model / FILE_NAME).read_text()
    assert old in text
    (model / FILE_NAME).write_text(text.replace(old, new, 1))
    if words:
        assert words in said(capsys, 2, "convert", model)
        assert not (model / CLIENT_FILE_NAME).exists()
    else:
        convert(model)


def test_a_clients_configuration_with_other_aliases_is_refused(
    fit_a_line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(fit_a_line, tmp_path / "m"))
    (model / CLIENT_FILE_NAME).write_text((model / FILE_NAME).read_text().replace("price", "cost"))
    assert "its aliases are not those of" in said(capsys, 2, "convert", model, "--check")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fetch-alias-names", "a"], "has 1 names, and the model has 2"),
        (["--fetch-alias-names", "a,a"], "must be different names"),
        (["--fetch-alias-names", "a,"], "must be different names"),
        (["--serving-server", "."], "is not empty"),
    ],
)
def test_what_cannot_be_written_is_refused(
    conv: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(conv)
    assert words in said(capsys, 2, "convert", conv, *arguments)
    assert not (conv / FILE_NAME).exists()


def test_other_aliases_for_a_directory_that_has_some_are_refused(
    fit_a_line: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is there already" in said(capsys, 2, "convert", fit_a_line, "--fetch-alias-names", "cost")


def test_names_of_any_letters_come_back_as_they_were(conv: Path) -> None:
    alias = 'a"b\\c\n\x01名'
    (conv / FILE_NAME).write_text(conf_text(conf_of(load_spec(conv), [alias], [])))
    assert read_conf(conv / FILE_NAME).feeds[0].alias == alias
    assert serving_conf_message.read(conv / FILE_NAME).feed_var[0].alias_name == alias


def test_the_documented_house_goes_through_a_converted_copy(fit_a_line: Path, tmp_path: Path) -> None:
    convert(fit_a_line, "--serving_server", tmp_path / "server")
    with LocalPredictor() as predictor:
        predictor.load_model_config(tmp_path / "server")
        assert list(predictor.predict({"x": HOUSE}, "price")) == ["price"]
