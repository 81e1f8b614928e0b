"""Options on real Paddle models: what is in force, what is refused, what they share."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import assert_close, eventually
from zoo import Zoo

import paddleinfer
from paddleinfer import _ext
from paddleinfer.backends.paddle import runtime, sizing
from paddleinfer.backends.paddle.installed import InstalledPaddle
from paddleinfer.backends.processors import resident_memory_bytes
from paddleinfer.config import option_names
from paddleinfer.models.reader import DTYPES

_RUNNING_PASS = re.compile(r"--- Running (?:IR|PIR) pass \[(\w+)\]")


def test_every_option_is_reported_with_its_source(zoo: Zoo) -> None:
    with paddleinfer.Engine(zoo.directory("mlp", "legacy"), ir_optim=True, instances=1) as engine:
        report = engine.effective_config()
    reported = set(report)
    assert set(option_names()) <= reported
    with paddleinfer.Engine.from_callable(len, {"x": ("float32", (-1, 1))}, ["y"]) as callable_engine:
        assert set(option_names()) <= set(callable_engine.effective_config())
    assert {line["source"] for line in report.values()} <= {
        "default", "option", "auto", "paddle", "model", "environment",
    }  # fmt: skip
    assert report["ir_optim"] == {"value": True, "source": "option"}
    json.dumps(report)


@pytest.mark.paddle3
def test_ir_optim_off_is_reported_as_without_effect_on_a_json_program(zoo: Zoo) -> None:
    with paddleinfer.Engine(zoo.directory("mlp"), instances=1) as engine:
        assert "whether this is on or off" in engine.effective_config()["ir_optim"]["note"]


@pytest.mark.parametrize("driver", ["native", "python"])
@pytest.mark.parametrize("name", ["mlp", "conv", "scalar"])
def test_both_drivers_give_what_paddle_gives(zoo: Zoo, name: str, driver: str) -> None:
    for format in zoo.formats:
        directory = zoo.directory(name, format)
        shape = (3, 3, 9, 7) if name == "conv" else (3, 16) if name == "mlp" else (3, 3)
        x = np.random.default_rng(3).standard_normal(shape).astype("float32")
        with paddleinfer.Engine(directory, driver=driver, instances=2) as engine:
            assert engine.effective_config()["driver"]["value"] == driver
            for _ in range(3):
                assert_close(engine.infer([x]), plain_paddle(directory, x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_that_paddle_takes_passes_through(zoo: Zoo, dtype: str) -> None:
    numpy_dtype = _ext.NUMPY_DTYPES[dtype]
    x = np.arange(6).reshape(2, 3).astype(numpy_dtype)
    for format in zoo.formats:
        directory = zoo.directory(f"same-{dtype}", format)
        for driver in ("native", "python"):
            if driver == "python" and dtype in ("bfloat16", "int16"):
                with pytest.raises(paddleinfer.ConfigError, match=f"{dtype}, which only the native driver"):
                    paddleinfer.Engine(directory, driver=driver)
                continue
            for onednn in (False, True):
                with paddleinfer.Engine(directory, driver=driver, onednn=onednn, instances=1) as engine:
                    (y,) = engine.infer([x]).values()
                    assert y.dtype == numpy_dtype and y.shape == (2, 3, 1)
                    assert (y[..., 0] == x).all()


def test_onednn_layouts_are_undone_in_the_outputs(zoo: Zoo) -> None:
    for format in zoo.formats:
        directory = zoo.directory("conv", format)
        for driver in ("native", "python"):
            with paddleinfer.Engine(
                directory, driver=driver, ir_optim=True, onednn=True, instances=2
            ) as engine:
                for rows in (1, 3):
                    x = np.random.default_rng(0).standard_normal((rows, 3, 9, 7)).astype("float32")
                    assert_close(engine.infer([x]), plain_paddle(directory, x))


def plain_paddle(directory: Path, x: np.ndarray) -> dict[str, np.ndarray]:
    """The same through Paddle's own API, with its default settings."""
    inference = InstalledPaddle.find().module.inference
    program = next(path for path in directory.iterdir() if path.suffix in (".json", ".pdmodel"))
    params = program.with_suffix(".pdiparams")
    config = inference.Config(
        str(program), str(params) if params.exists() or program.suffix == ".json" else ""
    )
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    handle = predictor.get_input_handle(predictor.get_input_names()[0])
    handle.reshape(x.shape)
    handle.copy_from_cpu(x)
    predictor.run()
    return {n: predictor.get_output_handle(n).copy_to_cpu() for n in predictor.get_output_names()}


def test_passes_are_left_out_where_a_caller_names_them(zoo: Zoo, capfd: pytest.CaptureFixture[str]) -> None:
    def passes(**options: Any) -> set[str]:
        model = zoo.directory("mlp", "legacy")
        with paddleinfer.Engine(model, ir_optim=True, instances=1, paddle_log=True, **options) as engine:
            assert engine.infer({"x": np.ones((1, 16), "float32")})
        return set(_RUNNING_PASS.findall(capfd.readouterr().err))

    all_passes = passes()
    assert all_passes - passes(delete_passes="fc_fuse_pass") == {"fc_fuse_pass"}
    two = ["conv_bn_fuse_pass", "fc_fuse_pass"]
    assert all_passes - passes(delete_passes=two) == set(two)


def test_a_missing_symbol_falls_back_to_python_and_says_which(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Crippled(_ext.PaddleLibrary):
        missing = ("_ZN12paddle_infer9Predictor3RunEv",)

    directory = zoo.directory("mlp", "legacy")
    monkeypatch.setattr(runtime._ext, "PaddleLibrary", Crippled)
    with (
        caplog.at_level(logging.WARNING),
        paddleinfer.Engine(directory, onednn=False, instances=1) as engine,
    ):
        driver = engine.effective_config()["driver"]
        assert driver["value"] == "python" and "Predictor3RunEv" in driver["note"]
        assert engine.infer([np.zeros((1, 16), "float32")])
    assert "holds the GIL" in caplog.text
    with pytest.raises(paddleinfer.ConfigError, match='driver="native" is not possible here'):
        paddleinfer.Engine(directory, driver="native")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "gpu:0"}, "built without CUDA"),
        ({"device": "tpu"}, "device must be"),
        ({"precision": "float16"}, "needs TensorRT on a GPU"),
        ({"precision": "int8"}, "needs TensorRT on a GPU"),
        ({"precision": "bfloat16", "onednn": False}, "needs oneDNN on the CPU"),
        ({"batchable": 3}, "batchable must be"),
        ({"instances": 0}, "instances must be an integer from 1"),
        ({"ir_optin": True}, "did you mean ir_optim"),
    ],
)
def test_what_cannot_be_had_is_refused_in_a_sentence(
    zoo: Zoo, options: dict[str, Any], sentence: str
) -> None:
    if InstalledPaddle.find().with_cuda and "device" in options:
        pytest.skip("needs a Paddle without CUDA")
    with pytest.raises(paddleinfer.ConfigError, match=sentence):
        paddleinfer.Engine(zoo.directory("mlp", "legacy"), **options)


def test_bfloat16_precision_is_in_force_or_refused(zoo: Zoo) -> None:
    x = np.random.default_rng(0).standard_normal((2, 16)).astype("float32")
    directory = zoo.directory("mlp", "legacy")
    try:
        engine = paddleinfer.Engine(directory, precision="bfloat16", ir_optim=True, instances=1)
    except paddleinfer.ConfigError as error:
        assert "AVX-512" in str(error)
        return
    with pytest.raises(paddleinfer.ConfigError, match="ir_optim=True for a legacy program"):
        paddleinfer.Engine(directory, precision="bfloat16")
    with engine:
        assert engine.effective_config()["precision"]["value"] == "bfloat16"
        (actual,) = engine.infer([x]).values()
    (expected,) = plain_paddle(directory, x).values()
    difference = np.abs(actual - expected).max()
    assert 0 < difference <= 3e-2 * np.abs(expected).max()  # 0 would be float32


def test_instances_run_in_parallel_on_threads_of_their_own(zoo: Zoo) -> None:
    with paddleinfer.Engine(zoo.directory("mlp", "legacy"), instances=3) as engine:
        names = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
        assert {"paddleinfer-0", "paddleinfer-1", "paddleinfer-2"} <= names
        assert "instances=3" in repr(engine)


def test_auto_instances_are_halved_until_their_weights_fit(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "usable_cores", lambda: 8)
    monkeypatch.setattr(sizing, "free_memory_bytes", lambda: 6 * 3000)
    with paddleinfer.Engine(zoo.directory("mlp", "legacy"), onednn=True) as engine:
        instances = engine.effective_config()["instances"]
    assert instances["value"] == 2 and "half of the free memory" in instances["note"]


@pytest.mark.paddle3
def test_clones_of_a_json_model_share_one_copy_of_the_weights(zoo: Zoo) -> None:
    """In processes of their own: what earlier tests have left may be taken or given back meanwhile."""
    code = f"""
import numpy as np
import paddleinfer
from {resident_memory_bytes.__module__} import resident_memory_bytes

path = {str(zoo.directory("wide"))!r}
paddleinfer.Engine(path, onednn=False, instances=1).close()  # warms the allocator
before = resident_memory_bytes()
with paddleinfer.Engine(path, onednn=False, instances=INSTANCES) as engine:
    for future in [engine.submit([np.ones((1, 512), "float32")]) for _ in range(8)]:
        future.result()
    print(resident_memory_bytes() - before)
    shared = engine.effective_config()["share_weights"]
assert shared["value"] is True and shared["note"].startswith("14 parameters") == (INSTANCES > 1), shared
"""
    one, three = (
        int(subprocess.check_output([sys.executable, "-c", f"INSTANCES = {count}\n{code}"]).split()[-1])
        for count in (1, 3)
    )
    assert three - one < 2 * 20e6


@pytest.mark.paddle3
def test_weights_that_are_not_shared_are_reported_as_copies(zoo: Zoo) -> None:
    x = np.random.default_rng(0).standard_normal((2, 16)).astype("float32")
    directory = zoo.directory("mlp")
    with paddleinfer.Engine(directory, share_weights=False, instances=2) as copied:
        assert copied.effective_config()["share_weights"] == {"value": False, "source": "option"}
        assert_close(copied.infer([x]), plain_paddle(directory, x))


@pytest.mark.parametrize("driver", ["native", "python"])
def test_ids_out_of_range_fail_their_caller_with_paddles_useful_line(zoo: Zoo, driver: str) -> None:
    for format in zoo.formats:
        with paddleinfer.Engine(zoo.directory("embedding", format), driver=driver, instances=1) as engine:
            good = np.arange(12).reshape(2, 6)
            expected = engine.infer([good])
            with pytest.raises(paddleinfer.ModelError, match=r"Variable value .* expected") as caught:
                engine.infer([good + 100])
            assert "\n" not in str(caught.value) and isinstance(caught.value.__cause__, Exception)
            assert_close(engine.infer([good]), expected)
            assert engine.stats()["errors"] == 1


def test_a_damaged_model_is_refused_with_paddles_reason_or_ours(zoo: Zoo, tmp_path: Path) -> None:
    source = zoo.directory("mlp", "legacy")
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(paddleinfer.ModelLoadError) as caught:
        paddleinfer.Engine(tmp_path)
    assert "\n" not in str(caught.value)


def test_malloc_tuning_gives_the_instances_no_arena_of_their_own(zoo: Zoo) -> None:
    script = """
        import sys, threading
        import numpy as np
        import paddleinfer
        from paddleinfer.backends.paddle import process_settings

        paddle_threads = paddleinfer.Engine(sys.argv[1], instances=1)  # imports Paddle; has an arena
        before = process_settings.arenas()
        with paddleinfer.Engine(sys.argv[1], instances=3, malloc_tuning=True) as engine:
            for future in [engine.submit([np.zeros((1, 16), "float32")]) for _ in range(24)]:
                future.result()
            assert process_settings.arenas() == before > 1, (before, process_settings.arenas())
            print(engine.effective_config()["malloc_tuning"]["note"])
    """
    arguments = [sys.executable, "-c", textwrap.dedent(script), str(zoo.directory("mlp", "legacy"))]
    told = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=300).stdout
    assert "no arena of their own" in told and "whole process until it ends" in told
    assert "besides the main one were there before the load" in told


def test_a_lone_caller_runs_inline_only_without_onednn_and_without_a_deadline(zoo: Zoo) -> None:
    x = np.zeros((1, 16), "float32")
    directory = zoo.directory("mlp", "legacy")
    with paddleinfer.Engine(directory, onednn=False, instances=1) as engine:

        def has_run_inline() -> bool:  # as it does while runs are predicted to be short
            engine.infer([x])
            return bool(engine.stats()["inline_executions"])

        assert eventually(has_run_inline)
        inline = engine.stats()["inline_executions"]
        engine.infer([x], timeout=30)
        assert engine.stats()["inline_executions"] == inline
    for options in (
        {"onednn": True},
        {"onednn": False, "inline": False},
        {"onednn": False, "cpu_threads": 2},
    ):
        with paddleinfer.Engine(directory, instances=1, **options) as engine:
            for _ in range(20):
                engine.infer([x])
            assert engine.stats()["inline_executions"] == 0
            assert engine.effective_config()["inline"]["value"] is False
