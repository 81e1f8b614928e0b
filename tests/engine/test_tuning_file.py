"""An engine follows paddleinfer.toml beside its model, where its caller has not said otherwise."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import Zoo

import paddleinfer
from paddleinfer import BatchingOptions, ConfigError, Engine, EngineConfig, RuntimeOptions
from paddleinfer.backends.processors import processor_name
from paddleinfer.engine import backend_choice, memory, tuned_options
from paddleinfer.engine.opening import opening
from paddleinfer.engine.paddle_answers import answers_of_paddle
from paddleinfer.models.reader import load_spec

pytestmark = pytest.mark.on_paddle

pytest.importorskip("paddle")


@pytest.fixture
def model(zoo: Zoo, tmp_path: Path) -> Path:
    shutil.copytree(zoo.directory("mlp", zoo.formats[0]), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def _nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuned_options, "_warned", set())


def tuned(model: Path, options: str = "max_batch_size = 8", measured: str = "") -> Path:
    file = model / "paddleinfer.toml"
    file.write_text(f"[options]\n{options}\n[measured]\n{measured}\n")
    return file


def in_force(model: Path, config: EngineConfig | None = None, **options: Any) -> dict[str, Any]:
    with Engine(model, config, **options) as engine:
        return engine.effective_config()


def test_options_of_the_file_are_in_force_and_are_said_to_be_tuned(model: Path) -> None:
    file = tuned(model, "max_batch_size = 8\nonednn = false\ninstances = 3", 'date = "2026-11-30"')
    found = in_force(model)
    for name, value in (("max_batch_size", 8), ("onednn", False), ("instances", 3)):
        assert (found[name]["value"], found[name]["source"]) == (value, "tuned")
    note = found["tuning_file"]["note"]
    assert note == f"{file} of '2026-11-30' gave max_batch_size, onednn, instances"
    assert found["cpu_threads"]["source"] == "default"


@pytest.mark.parametrize(
    "config",
    [
        EngineConfig.from_options({"max_batch_size": 32, "instances": 2}),
        EngineConfig(RuntimeOptions(instances=2), origins={"max_batch_size": "option"}),
        EngineConfig(RuntimeOptions(instances=2), BatchingOptions(max_batch_size=16)),
    ],
)
def test_what_was_given_wins_also_where_it_is_the_default(model: Path, config: EngineConfig) -> None:
    tuned(model, "max_batch_size = 8\ninstances = 3\ncpu_threads = 2")
    found = in_force(model, config)
    assert found["max_batch_size"]["value"] == config.batching.max_batch_size
    assert found["instances"]["value"] == 2 and found["max_batch_size"]["source"] != "tuned"
    assert (found["cpu_threads"]["value"], found["cpu_threads"]["source"]) == (2, "tuned")


def test_none_follows_no_file_and_a_name_another_one(model: Path, tmp_path: Path) -> None:
    other = shutil.move(tuned(model, "max_batch_size = 4"), tmp_path / "other.toml")
    tuned(model, "max_batch_size = 8")
    assert in_force(model, tuning_file=None)["max_batch_size"]["value"] == 32
    assert in_force(model, tuning_file=other)["max_batch_size"]["value"] == 4
    with pytest.raises(ConfigError, match=r"cannot read .*none\.toml: No such file"):
        Engine(model, tuning_file=tmp_path / "none.toml")


def test_a_file_for_another_model_of_the_directory_is_not_followed(model: Path) -> None:
    tuned(model, measured='program = "other.json"')
    found = in_force(model)
    assert found["max_batch_size"]["value"] == 32
    assert "is for 'other.json', and this model is" in found["tuning_file"]["note"]


def test_the_next_model_brings_its_own_file(model: Path, tmp_path: Path) -> None:
    tuned(model, "instances = 2")
    shutil.copytree(model, tmp_path / "next")
    tuned(tmp_path / "next", "instances = 3\nmax_batch_size = 4")
    with Engine(model) as engine:
        engine.reload(tmp_path / "next")
        found = engine.effective_config()
        assert (found["instances"]["value"], found["max_batch_size"]["value"]) == (3, 4)
        (tmp_path / "next/paddleinfer.toml").unlink()
        engine.reload()
        assert engine.effective_config()["max_batch_size"]["source"] == "default"


def test_memory_is_estimated_with_the_files_options(model: Path) -> None:
    _, alone = memory.estimate(model, EngineConfig.from_options({"instances": 1, "onednn": True}))
    tuned(model, "instances = 4")
    _, several = memory.estimate(model, EngineConfig.from_options({"onednn": True}))
    assert several > alone


def test_padding_of_the_file_is_in_force(zoo: Zoo, tmp_path: Path) -> None:
    model = tmp_path / "conv"
    shutil.copytree(zoo.directory("conv", zoo.formats[0]), model)
    tuned(model, "pad = [{inputs = {image = 2}, multiple = 16}]")
    found = in_force(model)["pad"]
    assert found["value"] == (paddleinfer.PadAxis({"image": 2}, multiple=16),) and found["source"] == "tuned"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[options", "is not TOML"),
        ("", "has no table [options]"),
        ("[options]\nmax_batch_size = 8\n", "has no table [measured]"),
        ('[options]\nbackend = "auto"\n[measured]\n', "must name a runtime"),
        ("[options]\nbatchsize = 8\n[measured]\n", "has 'batchsize'; the options there are backend, "),
        ('[options]\nparams = "/etc/passwd"\n[measured]\n', "has 'params'; the options there are backend, "),
        ("[options]\nmax_batch_size = 0\n[measured]\n", "max_batch_size must be an integer from 1"),
        ("[options]\npad = [3]\n[measured]\n", "must be a table of PadAxis' fields"),
        ("[options]\n[measured]\nprogram = 3\n", "'program' in [measured] of"),
        ("[options]\n[measured]\nversions = 3\n", "versions in [measured] of"),
        ("[options]\n[measured]\n[measured.versions]\npaddlepaddle = 3\n", "'paddlepaddle' in [measured] of"),
        ("[server]\nport = 3\n", "has 'server' at its top"),
        ("x = " + "[" * 5000, "nests too deep"),
        ("# " + "x" * (1 << 18), "has more than the 262144 bytes"),
    ],
)
def test_a_damaged_file_is_one_sentence_that_names_it(model: Path, text: str, sentence: str) -> None:
    file = tuned(model)
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Engine(model)
    assert str(file) in str(caught.value) and sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    Engine(model, tuning_file=None).close()


def test_options_that_are_not_possible_here_name_the_file(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tuned(model, "mkl_amd = false")
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "5")
    with pytest.raises(ConfigError) as caught:
        Engine(model)
    assert f"{file} gave mkl_amd, and tuning_file=None leaves that out" in str(caught.value)


def test_a_backend_of_the_file_gives_way_to_what_acts_on_paddle_alone(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tuned(model, 'backend = "onnxruntime"\ninstances = 3')
    found = in_force(model, mem_optim=False)
    assert (found["backend"]["value"], found["mem_optim"]["value"]) == ("paddle", False)
    assert "mem_optim, which was given, acts on Paddle alone" in found["tuning_file"]["note"]
    assert "is not followed: it was tuned for the backend onnxruntime" in caplog.text


def test_what_was_measured_with_another_backend_than_the_given_one_is_not_followed(model: Path) -> None:
    tuned(model, 'backend = "onnxruntime"\ninstances = 3')
    found = in_force(model, backend="paddle")
    assert found["instances"]["source"] == "auto"
    assert "for the backend onnxruntime, and paddle was given" in found["tuning_file"]["note"]


def test_auto_is_what_the_file_says(model: Path) -> None:
    tuned(model, 'backend = "paddle"\ninstances = 3')
    found = in_force(model, backend="auto")
    assert (found["backend"]["value"], found["backend"]["source"]) == ("paddle", "tuned")
    assert found["instances"]["value"] == 3


def test_auto_does_without_a_file_for_a_backend_that_is_not_installed(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"paddle": tuned_options.installed_runtimes()["paddle"]}
    monkeypatch.setattr(tuned_options, "installed_runtimes", lambda: installed)
    monkeypatch.setattr(backend_choice, "installed_runtimes", lambda: installed)
    tuned(model, 'backend = "onnxruntime"\ninstances = 3')
    found = in_force(model, backend="auto")
    assert (found["backend"]["value"], found["backend"]["source"]) == ("paddle", "auto")
    assert "onnxruntime, which is not installed" in found["tuning_file"]["note"]


def test_paddles_answers_for_a_comparison_do_not_follow_the_file(model: Path) -> None:
    file = tuned(model)
    file.write_text("damaged")
    spec = load_spec(model)
    with opening() as load:
        (answers,) = answers_of_paddle(spec, None, [[np.ones((1, 16), "float32")]], load)
    assert answers


def test_another_processor_or_version_is_warned_of_once_and_the_file_is_followed(
    model: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuned_options, "processor_name", lambda: "This One")
    measured = 'processor = "That One"\nversions = {paddlepaddle = "0.1", onnxruntime = "0.1"}'
    tuned(model, measured=measured)
    for _ in range(2):
        assert in_force(model)["max_batch_size"]["value"] == 8
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert "was measured on 'That One', and this is 'This One'; it is followed all the same" in warnings[0]
    assert "was measured with paddlepaddle '0.1', and here is" in warnings[1]


def test_the_same_machine_is_not_warned_of(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    package, version = tuned_options.installed_runtimes()["paddle"]
    tuned(model, measured=f'processor = "{processor_name()}"\nversions = {{{package} = "{version}"}}')
    assert in_force(model)["max_batch_size"]["value"] == 8
    assert "was measured" not in caplog.text


def test_a_pipe_in_the_place_of_the_file_does_not_block(model: Path) -> None:
    import os

    os.mkfifo(model / "paddleinfer.toml")
    assert in_force(model)["max_batch_size"]["value"] == 32


def test_a_load_in_another_process_follows_the_file_too(model: Path) -> None:
    tuned(model, "instances = 3")
    assert in_force(model, check_load="process")["instances"]["value"] == 3


def test_the_program_of_a_model_gives_the_files_place(model: Path) -> None:
    spec = load_spec(model)
    assert spec.program_path is not None
    tuned(model, measured=f'program = "{spec.program_path.name}"')
    assert in_force(spec.program_path)["max_batch_size"]["value"] == 8
