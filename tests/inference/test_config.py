"""What a Config asks for becomes options of the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import Zoo

from paddleinfer import ConfigError, InvalidInput, ModelLoadError
from paddleinfer.backends.paddle.installed import InstalledPaddle
from paddleinfer.inference import Config, PrecisionType, create_predictor
from paddleinfer.inference.enums import precision_of


def options(*calls: Callable[[Config], object], **further: Any) -> dict[str, Any]:
    """Of the engine, that calls have asked for."""
    config = Config("model")
    for call in calls:
        call(config)
    config.set_engine_options(**further)
    engine_config = config.engine_config()[1]
    return {name: value for name, value in engine_config.flat().items() if name in engine_config.origins}


def test_without_a_call_graph_passes_are_on_and_a_full_queue_makes_callers_wait() -> None:
    assert options() == {"ir_optim": True, "on_full": "wait"}


@pytest.mark.parametrize(
    ("call", "asked"),
    [
        (lambda c: c.switch_ir_optim(False), {"ir_optim": False}),
        (lambda c: c.switch_ir_optim(), {"ir_optim": True}),
        (lambda c: c.enable_memory_optim(), {"mem_optim": True}),
        (lambda c: c.enable_memory_optim(False), {"mem_optim": False}),
        (lambda c: c.disable_onednn(), {"onednn": False}),
        (lambda c: c.disable_mkldnn(), {"onednn": False}),
        (lambda c: c.set_mkldnn_cache_capacity(10), {"max_onednn_shapes": 10}),
        (lambda c: (c.set_onednn_cache_capacity(10), c.set_onednn_cache_capacity(0)), {}),
        (lambda c: c.enable_mkldnn_bfloat16(), {"precision": "bfloat16"}),
        (lambda c: c.set_cpu_math_library_num_threads(3), {"cpu_threads": 3}),
        (lambda c: (c.delete_pass("a"), c.pass_builder().delete_pass("b")), {"delete_passes": ("a", "b")}),
        (lambda c: c.disable_glog_info(), {"paddle_log": False}),
        (lambda c: c.disable_gpu(), {"device": "cpu"}),
        (lambda c: c.enable_use_gpu(200, 1), {"device": "gpu:1", "gpu_memory_mb": 200}),
        (
            lambda c: (c.enable_use_gpu(200), c.enable_tensorrt_engine(precision_mode=PrecisionType.Half)),
            {"device": "gpu:0", "gpu_memory_mb": 200, "precision": "float16"},
        ),
        (lambda c: (c.enable_use_gpu(100), c.enable_mkldnn()), {"device": "gpu:0", "gpu_memory_mb": 100}),
        (lambda c: (c.enable_onnxruntime(), c.disable_onnxruntime()), {}),
        (lambda c: c.switch_use_feed_fetch_ops(False), {}),
        (lambda c: c.switch_specify_input_names(True), {}),
    ],
)
def test_a_call_becomes_an_option(call: Callable[[Config], object], asked: dict[str, Any]) -> None:
    assert options(call) == {"ir_optim": True, "on_full": "wait", **asked}


def test_another_runtime_gets_none_of_the_options_for_paddle() -> None:
    calls = (
        Config.enable_mkldnn,
        lambda c: c.set_cpu_math_library_num_threads(2),
        lambda c: c.delete_pass("a"),
    )
    asked = {"backend": "onnxruntime", "cpu_threads": 2, "on_full": "wait"}
    assert options(*calls, Config.enable_onnxruntime) == asked
    assert options(*calls, backend="onnxruntime") == asked
    assert options(*calls, Config.enable_openvino_engine) == {**asked, "backend": "openvino"}


def test_onednn_is_asked_for_where_it_is_not_paddles_own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    for by_default, asked in ((True, "auto"), (False, True)):
        monkeypatch.setattr("paddleinfer.inference.config.onednn_by_default", lambda _, on=by_default: on)
        config = Config("model")
        assert config.onednn_enabled() is by_default
        config.enable_mkldnn()
        assert config.engine_config()[1].runtime.onednn == asked and config.mkldnn_enabled()
        config.disable_onednn()
        assert config.engine_config()[1].runtime.onednn is False and not config.onednn_enabled()


def test_options_by_their_own_names_win() -> None:
    config = Config("model")
    config.set_engine_options(cpu_threads=1, instances=2)
    config.set_cpu_math_library_num_threads(10)
    config.set_engine_options(default_timeout=1.5, paddle_log=True)
    engine_config = config.engine_config()[1]
    assert (engine_config.runtime.cpu_threads, engine_config.runtime.instances) == (1, 2)
    assert engine_config.default_timeout == 1.5 and not config.glog_info_disabled()
    with pytest.raises(ConfigError, match="there is no option 'instance'; did you mean instances"):
        config.set_engine_options(instance=2)  # type: ignore[call-arg]


def test_a_config_tells_what_was_asked_for() -> None:
    config = Config("dir/model.json", "dir/model.pdiparams")
    assert (config.model_dir(), config.prog_file(), config.params_file()) == (
        *("", "dir/model.json"),
        "dir/model.pdiparams",
    )
    assert not config.use_gpu() and config.gpu_device_id() == 0 and config.memory_pool_init_size_mb() == 100
    assert config.ir_optim() and config.cpu_math_library_num_threads() == 1 and config.glog_info_disabled()
    assert not config.tensorrt_engine_enabled() and not config.onnxruntime_enabled()
    assert config.tensorrt_precision_mode() is PrecisionType.Float32
    config.enable_use_gpu(300, 2)
    config.enable_tensorrt_engine(1 << 30, 1, 3, Config.Precision.Int8)
    assert config.use_gpu() and config.gpu_device_id() == 2 and config.memory_pool_init_size_mb() == 300
    assert config.tensorrt_engine_enabled() and config.tensorrt_precision_mode() is Config.Int8
    assert config.notes == ["of the settings of enable_tensorrt_engine the precision alone is in force"]
    config.enable_openvino_engine()
    assert config.openvino_engine_enabled() and not config.onnxruntime_enabled()
    for part in ("dir/model.json", "dir/model.pdiparams", "gpu:2", "openvino"):
        assert part in config.summary()


def test_a_copy_asks_for_the_same_and_changes_alone() -> None:
    config = Config("dir")
    config.set_cpu_math_library_num_threads(2)
    config.delete_pass("a")
    config.enable_profile()
    config.set_engine_options(instances=1)
    copy = Config(config)
    assert copy.engine_config() == config.engine_config() and copy.notes == config.notes
    copy.set_cpu_math_library_num_threads(1)
    copy.enable_cinn()
    assert config.cpu_math_library_num_threads() == 2 and len(config.notes) == 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda c: c.set_cpu_math_library_num_threads(0),
            "cpu_math_library_num_threads must be an integer from 1",
        ),
        (lambda c: c.set_mkldnn_cache_capacity(-1), "capacity must be an integer from 0 up, not -1"),
        (
            lambda c: c.enable_use_gpu("much"),
            "memory_pool_init_size_mb must be an integer from 1 up, not 'much'",
        ),
        (lambda c: c.enable_use_gpu(100, -1), "device_id must be an integer from 0 up"),
        (lambda c: c.enable_use_gpu(100, 0, Config.Half), "another precision than Float32 is not offered"),
        (lambda c: c.enable_tensorrt_engine(), "not offered in Float32: it takes Half and Int8"),
        (lambda c: c.enable_tensorrt_engine(precision_mode="half"), "a precision is one of Float32, Int8"),
        (lambda c: c.enable_openvino_engine(Config.Half), "another precision than Float32 is not offered"),
        (lambda c: c.delete_pass(""), "takes the name of a pass, not ''"),
        (lambda c: c.pass_builder().append_pass("a"), r"pass_builder\(\)\.append_pass is not offered"),
        (lambda c: c.switch_use_feed_fetch_ops(True), "tensors are handed over by handles"),
        (lambda c: c.set_prog_file(3), "must be a path, not int"),
        (lambda c: c.set_model("a", 3), "params_file must be a path, not int"),
        (lambda c: c.set_model_buffer(3, 1, b"", 0), "prog_buffer must be bytes, not int"),
        (
            lambda c: c.set_model_buffer(b"ab", 3, b"", 0),
            "the size of prog_buffer must be an integer from 0 to 2",
        ),
        (lambda c: Config("a", "b", "c"), "not 3 arguments"),
    ],
)
def test_a_wrong_value_is_refused_in_a_sentence(call: Callable[[Any], object], says: str) -> None:
    with pytest.raises((ConfigError, InvalidInput), match=says):
        call(Config("model"))


@pytest.mark.parametrize("value", [PrecisionType.Half, 2, "paddles"])
def test_a_precision_may_be_paddles_own(value: object) -> None:
    if value == "paddles":
        value = InstalledPaddle.find().inference.PrecisionType.Half
    assert precision_of(value) is PrecisionType.Half


# -- where the model is


def runs(config: Config) -> bool:
    with create_predictor(config) as predictor:
        (y,) = predictor.run([np.ones((2, 16), "float32")]) or ()
        return bool(y.shape == (2, 4))


def test_a_model_may_be_a_directory_files_a_stem_or_bytes(zoo: Zoo) -> None:
    for format in zoo.formats:
        directory = zoo.directory("mlp", format)
        (program,) = (path for path in directory.iterdir() if path.suffix in (".json", ".pdmodel"))
        params = program.with_suffix(".pdiparams")
        assert runs(Config(str(directory)))
        assert runs(Config(str(program), str(params)))
        assert runs(Config(program, params))
        assert runs(Config(str(directory), program.stem))
        by_calls = Config()
        by_calls.set_prog_file(str(program))
        by_calls.set_params_file(str(params))
        assert runs(by_calls)
        from_memory = Config()
        code, weights = program.read_bytes(), params.read_bytes()
        from_memory.set_model_buffer(code, len(code), weights, len(weights))
        assert from_memory.model_from_memory() and not by_calls.model_from_memory()
        assert runs(from_memory)


def test_equal_models_from_memory_share_an_engine_and_leave_no_files(zoo: Zoo) -> None:
    directory = zoo.directory("mlp", zoo.formats[0])
    (program,) = (path for path in directory.iterdir() if path.suffix in (".json", ".pdmodel"))
    code, weights = program.read_bytes(), program.with_suffix(".pdiparams").read_bytes()

    def config() -> Config:
        made = Config()
        made.set_model_buffer(code, len(code), weights, len(weights))
        return made

    with create_predictor(config()) as one, create_predictor(config()) as two:
        assert one.engine is two.engine
        written = one.engine.model.program_path
        assert written is not None and written.exists() and written.stat().st_mode & 0o077 == 0o044
        assert written.parent.stat().st_mode & 0o777 == 0o700
    del one, two
    assert not written.parent.exists()


def test_a_missing_parameter_file_of_a_model_without_parameters_is_no_error(zoo: Zoo) -> None:
    directory = zoo.directory("scalar", zoo.formats[0])
    (program,) = (path for path in directory.iterdir() if path.suffix in (".json", ".pdmodel"))
    with create_predictor(Config(str(program), str(program.with_suffix(".pdiparams")))) as predictor:
        assert predictor.get_input_names() == ["x"]


def test_what_is_no_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"names no model; give Config\(prog_file, params_file\)"):
        create_predictor(Config())
    with pytest.raises(ModelLoadError, match=r"model\.json does not exist"):
        create_predictor(Config(str(tmp_path / "model.json"), str(tmp_path / "model.pdiparams")))
    with pytest.raises(ConfigError, match=r"takes a Config of paddleinfer\.inference, not 'model'"):
        create_predictor("model")  # type: ignore[arg-type]
