"""Lines: cut out level, as the models take them, and their characters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddleinfer import ConfigError
from paddleinfer.ocr.characters import characters_of
from paddleinfer.ocr.lines import cls_input, cut_line, is_upside_down, read_line, rec_input

Image = pytest.importorskip("PIL.Image")


def picture_of(width: int, height: int) -> Any:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], -1).astype("uint8"))


def box_of(left: float, top: float, right: float, bottom: float) -> Any:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], "float32")


def test_a_line_is_cut_out_and_48_high() -> None:
    line = cut_line(picture_of(200, 100), box_of(50, 20, 150, 60))
    assert line.shape == (48, 120, 3) and line.dtype == np.uint8
    np.testing.assert_allclose(line[24, [0, -1], 0], [64, 191], atol=3)
    np.testing.assert_allclose(line[[0, -1], 60, 1], [51, 152], atol=4)


def test_a_line_that_runs_downwards_is_turned_to_run_to_the_right() -> None:
    line = cut_line(picture_of(100, 200), box_of(40, 50, 60, 150))
    assert line.shape == (48, 240, 3)
    np.testing.assert_allclose(line[24, [0, -1], 1], [64, 191], atol=3)
    np.testing.assert_allclose(line[[0, -1], 120, 0], [152, 103], atol=4)


@pytest.mark.parametrize("box", [box_of(5, 5, 5, 5), box_of(0, 0, 100, 0.001), box_of(0, 0, 1, 1)])
def test_a_box_of_no_size_gives_a_line_all_the_same(box: Any) -> None:
    height, width, _ = cut_line(picture_of(100, 100), box).shape
    assert height == 48 and 1 <= width <= 3200


def test_rec_gets_widths_in_steps_and_zeros_behind_the_line() -> None:
    for width, padded in ((1, 64), (64, 64), (65, 128), (3200, 3200)):
        x = rec_input(np.full((48, width, 3), 255, "uint8"))
        assert x.shape == (1, 3, 48, padded) and x.dtype == np.float32
        assert (x[..., :width] == 1).all() and (x[..., width:] == 0).all()


def test_cls_gets_the_begin_of_a_line_as_blue_green_red() -> None:
    line = np.zeros((48, 400, 3), "uint8")
    line[..., 0] = 255
    x = cls_input(line)
    assert x.shape == (1, 3, 48, 192) and (x[0, :2] == -1).all() and (x[0, 2] == 1).all()
    assert is_upside_down(np.array([[0.05, 0.95]])) and not is_upside_down(np.array([[0.2, 0.8]]))


def test_a_text_has_no_repeats_and_no_blanks() -> None:
    classes = [0, 1, 1, 0, 1, 2, 2, 0, 3]
    steps = np.full((len(classes), 4), 0.01, "float32")
    steps[np.arange(len(classes)), classes] = [0.9, 0.5, 0.9, 0.9, 0.7, 0.6, 0.9, 0.9, 0.8]
    text, score = read_line(steps, ["a", "b", " "])
    assert text == "aab " and score == pytest.approx((0.5 + 0.7 + 0.6 + 0.8) / 4)
    assert read_line(steps[:1], ["a", "b", " "]) == ("", 0.0)


# Characters

ODD = ["\u3000", "一", "!", '"', "'", "#", "-", ":", "🇩🇪", "a", "\\"]
YAML = """Global:
  model_name: m
PostProcess:
  name: CTCLabelDecode
  character_dict:
  - \u3000
  - 一
  - '!'
  - '"'
  - ''''
  - '#'
  - "-"
  - ':'
  - 🇩🇪
  - a
  - \\
"""


def test_characters_stand_in_the_models_files(tmp_path: Path) -> None:
    (tmp_path / "inference.yml").write_text(YAML, "utf-8")
    assert characters_of(tmp_path) == [*ODD, " "]
    assert characters_of(tmp_path / "inference.json") == [*ODD, " "]
    (tmp_path / "inference.yml").write_text(YAML.replace("\n", "\r\n"), "utf-8")
    assert characters_of(tmp_path) == [*ODD, " "]
    (tmp_path / "config.json").write_text(json.dumps({"PostProcess": {"character_dict": ["x"]}}))
    assert characters_of(tmp_path) == ["x", " "]


def test_characters_may_be_a_list_with_one_a_line(tmp_path: Path) -> None:
    listed = tmp_path / "ppocr_keys_v1.txt"
    listed.write_text("'\n疗\n \nb\n", "utf-8")
    assert characters_of(tmp_path) == ["'", "疗", " ", "b", " "]
    (tmp_path / "inference.yml").write_text(YAML.replace("character_dict", "other"), "utf-8")
    assert characters_of(tmp_path) == ["'", "疗", " ", "b", " "]
    other = tmp_path / "other.list"
    other.write_text("z")
    assert characters_of(tmp_path, other) == ["z", " "]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "needs inference.yml, config.json or a list"),
        ({"config.json": b"{"}, "config.json is not JSON"),
        ({"config.json": b'{"PostProcess": {"character_dict": [1]}}'}, "must be a list of texts"),
        ({"inference.yml": b"\xff"}, "cannot be read"),
        ({"config.json": b"[]", "inference.yml": b"a: 1"}, "needs inference.yml"),
    ],
)
def test_without_characters_a_sentence_says_what_is_missing(
    tmp_path: Path, files: dict[str, bytes], words: str
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        characters_of(tmp_path)
