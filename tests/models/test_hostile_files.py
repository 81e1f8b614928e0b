"""Model files made to cost time and memory; `benchmarks/bench_model_files.py` has the exact figures."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
from hostile_files import NAMES, write

from paddleinfer.errors import ConfigError, ModelLoadError
from paddleinfer.models import wire
from paddleinfer.models.files import read_whole
from paddleinfer.models.paddleocr_shapes import read_sizes
from paddleinfer.models.reader import load_spec
from paddleinfer.shim.settings_file import read_settings

MIB = 1 << 20
SIZE = 2 * MIB
MOST_TIMES = 10
# Of what does not grow with a file, and of its parts up to the numbers that are always allowed.
SMALL_BYTES = 16 * MIB
# Far above what it takes under tracemalloc: without limits some of them take minutes.
PATIENCE_S = 40.0


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_model_is_refused_in_a_sentence_for_little_time_and_memory(
    tmp_path: Path, name: str
) -> None:
    file_bytes = write(name, tmp_path / "model", SIZE)
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ModelLoadError) as caught:
            load_spec(tmp_path / "model")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < PATIENCE_S
    assert peak_bytes < MOST_TIMES * min(file_bytes, SIZE) + SMALL_BYTES
    sentence = str(caught.value)
    assert len(sentence) < 2100
    assert sentence.isprintable()


def test_no_more_fields_are_read_than_a_program_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_FIELDS", 10)
    assert wire.Message(b"\x08\x00" * 10).integer(1) == 0
    with pytest.raises(wire.WireError, match="more than 10 fields"):
        wire.Message(b"\x08\x00" * 11)
    # Those of inner messages count as well, however often they are asked for.
    message = wire.Message(b"\x0a\x04\x08\x01\x08\x02")
    with pytest.raises(wire.WireError, match="more than 10 fields"):
        for _ in range(5):
            message.message(1)


def test_numbers_of_a_message_are_the_last_or_all_of_them() -> None:
    message = wire.Message(b"\x08\x01\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0a\x02\x03\x04")
    assert message.integer(1) == -1
    assert message.integers(1) == (1, -1, 3, 4)
    assert message.count(1) == 1


def test_no_more_of_a_file_is_read_than_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcde")
    assert read_whole(path, 5) == b"abcde"
    with pytest.raises(Exception, match="has 5 bytes, more than the 4 that"):
        read_whole(path, 4)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a = 1\n" * (1 << 16), "more than the 262144 bytes"),
        ("a." * 1000 + "a = 1", "a line with more than 256 dots"),
        ("a = " + "[" * 10_000, "nests too deep"),
    ],
)
def test_a_hostile_config_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "server.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_settings(path)


def test_a_config_file_with_a_hole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    with path.open("wb") as file:
        file.truncate(8 << 30)
    with pytest.raises(ConfigError, match="more than the 262144 bytes"):
        read_settings(path)


def test_aliases_of_an_inference_yml_are_not_multiplied(tmp_path: Path) -> None:
    path = tmp_path / "inference.yml"
    lines = ["Hpi:", "  backend_configs:", "    paddle_infer:", "      trt_dynamic_shapes:"]
    lines += ["        x: &a [" + ",".join("1" * 2000) + "]"]
    lines += [f"        y{place}: [*a, *a, *a]" for place in range(4000)]
    path.write_text("\n".join(lines))
    tracemalloc.start()
    try:
        assert read_sizes(path) == {}
        assert tracemalloc.get_traced_memory()[1] < SMALL_BYTES
    finally:
        tracemalloc.stop()
