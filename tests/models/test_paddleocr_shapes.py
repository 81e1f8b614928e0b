"""The sizes in PaddleOCR's inference.yml, and files that are something else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paddleinfer.models.paddleocr_shapes import NamedSizes, read_sizes

BLOCK = """\
Global:
  model_name: some_det
Hpi:
  backend_configs:
    paddle_infer:
      trt_dynamic_shapes: &id001
        x:
        - - 1
          - 3
          - 32
          - 32
        - - 1
          - 3
          - 736
          - 736
        - - 1
          - 3
          - 4000
          - 4000
    tensorrt:
      dynamic_shapes: *id001
PostProcess:
  character_dict:
  - "'"
  - ':'
  - '&'
"""
X = NamedSizes((1, 3, 32, 32), (1, 3, 736, 736), (1, 3, 4000, 4000))


def sizes_of(tmp_path: Path, text: str | bytes) -> dict[str, NamedSizes]:
    path = tmp_path / "inference.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_sizes(path)


def test_the_sizes_are_found(tmp_path: Path) -> None:
    assert sizes_of(tmp_path, BLOCK) == {"x": X}


def test_flow_lists_comments_and_several_inputs_are_understood(tmp_path: Path) -> None:
    text = (
        "Hpi:\n  # of the engines\n  backend_configs:\n    paddle_infer:\n\n      trt_dynamic_shapes:\n"
        "        image: [ignored]\n        x:\n          - [1, 3, 32, 32]\n          - [1, 3, 736, 736]\n"
        "          - [1, 3, 4000, 4000]\n"
        "        'y':\n        - - 1\n        -\n          - 2\n        - - 3\n"
    )
    assert sizes_of(tmp_path, text) == {"x": X, "y": NamedSizes((1,), (2,), (3,))}


def test_the_sizes_of_tensorrt_will_do(tmp_path: Path) -> None:
    text = BLOCK.replace(
        "paddle_infer:\n      trt_dynamic_shapes: &id001", "tensorrt:\n      dynamic_shapes:"
    )
    text = text.replace("    tensorrt:\n      dynamic_shapes: *id001\n", "")
    assert sizes_of(tmp_path, text) == {"x": X}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hpi:\n",
        "Hpi: {}\n",
        "Hpi:\n  backend_configs: *nothing\n",
        BLOCK.replace("- 32\n", "- wide\n"),
        BLOCK.replace("- 4000\n", "- 99999999999\n"),
        BLOCK.replace("- 736\n", "- 0\n"),
        BLOCK.replace("          - 736\n        - - 1", "        - - 1"),
        BLOCK.replace("      trt_dynamic", "   trt_dynamic"),
        "Hpi:\n" + "".join("  " * depth + f"k{depth}:\n" for depth in range(1, 400)),
        "Hpi:\n  " + "- " * 5000 + "1\n",
        "Hpi:\n" + "  - 1\n" * 10_000,
        b"\xff\xfe\x00\x01Hpi:\n\x00",
        b"Hpi:\n  backend_configs: " + b"[" * 100_000,
        BLOCK.replace("  backend_configs:\n", "  other: [" + "1, " * 2000 + "1]\n  backend_configs:\n"),
    ],
)
def test_other_files_name_no_sizes(tmp_path: Path, text: str | bytes) -> None:
    assert sizes_of(tmp_path, text) == {}


def test_a_missing_file_names_none(tmp_path: Path) -> None:
    assert read_sizes(tmp_path / "inference.yml") == {}
    assert read_sizes(tmp_path) == {}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "inference.yml")
    assert read_sizes(tmp_path / "inference.yml") == {}


def test_what_refers_to_itself_is_read_once(tmp_path: Path) -> None:
    text = "Hpi:\n  a: &a\n    b: *a\n  backend_configs:\n    paddle_infer: *a\n"
    assert sizes_of(tmp_path, text) == {}
