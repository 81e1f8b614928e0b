"""Engines over other runtimes: the same calls, results and sentences as over Paddle."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from zoo import Zoo

from paddleinfer import Engine, PadAxis
from paddleinfer.backends.onnx import runtime
from paddleinfer.backends.onnx.cache import sha256_of
from paddleinfer.backends.onnx.installed import InstalledOnnxRuntime, InstalledOpenVino
from paddleinfer.backends.paddle.export import export
from paddleinfer.config import EngineConfig
from paddleinfer.engine.opening import Opening
from paddleinfer.errors import ConfigError, EngineClosed, ModelError, ModelLoadError
from paddleinfer.models.reader import load_spec

pytestmark = pytest.mark.paddle3
SEED = 5


Opened = Callable[..., Engine]


def rows_for(engine: Engine) -> dict[str, Any]:
    random = np.random.default_rng(SEED)
    made = {}
    for tensor in engine.inputs:
        shape = tuple(
            3 if axis == 0 else 20 if size < 0 else size for axis, size in enumerate(tensor.shape or ())
        )
        if tensor.dtype.startswith("float"):
            made[tensor.name] = random.standard_normal(shape).astype(tensor.dtype)
        else:
            made[tensor.name] = random.integers(0, 5, shape).astype(tensor.dtype)
    return made


@pytest.mark.onnx
@pytest.mark.parametrize("format", ["json", "legacy"])
@pytest.mark.parametrize("name", ["mlp", "conv", "embedding", "joined", "pooled", "centred"])
def test_results_names_and_shapes_are_those_of_paddle(
    zoo: Zoo, opened: Opened, name: str, format: str
) -> None:
    model = zoo.directory(name, format)
    with Engine(model, onednn=False, instances=1) as paddle, opened(model) as engine:
        assert engine.inputs == paddle.inputs and engine.outputs == paddle.outputs
        inputs = rows_for(paddle)
        wanted, given = paddle.infer(inputs), engine.infer(inputs)
        assert list(given) == list(wanted)
        for output in wanted:
            assert given[output].dtype == wanted[output].dtype
            np.testing.assert_allclose(given[output], wanted[output], rtol=1e-4, atol=1e-6)


@pytest.mark.onnx
@pytest.mark.parametrize("format", ["json", "legacy"])
def test_an_interpolation_by_a_scale_gives_paddles_results(
    opened: Opened, tmp_path: Path, format: Literal["json", "legacy"]
) -> None:
    import paddle

    def twice(x: Any) -> Any:
        return paddle.nn.functional.interpolate(x, scale_factor=2.0)

    model = export(twice, tmp_path / "model", {"x": ("float32", (-1, 3, -1, -1))}, format=format)
    with opened(model, example_shapes={"x": (3, 8, 12)}) as engine:
        x = np.random.default_rng(SEED).standard_normal((2, 3, 8, 12)).astype("float32")
        (given,) = engine.infer({"x": x}).values()
        np.testing.assert_array_equal(given, x.repeat(2, axis=2).repeat(2, axis=3))
        assert "answers agree with Paddle's" in engine.effective_config()["backend"]["note"]


@pytest.mark.onnx
def test_the_report_says_what_runs_and_whence(
    zoo: Zoo, opened: Opened, backend: str, title: str, folder: Path
) -> None:
    with opened(zoo.directory("mlp", "json"), instances="auto") as engine:
        report = engine.effective_config()
    assert report["backend"]["value"] == backend
    assert re.match(title, report["backend"]["note"])
    assert f"converted by paddle2onnx 2.1.0 to {folder}" in report["backend"]["note"]
    assert (report["driver"]["value"], report["driver"]["source"]) == ("native", "auto")
    assert report["onnx_cache"]["value"] == str(folder)
    assert report["onednn"]["note"] == f"without effect on {backend}"
    assert report["cpu_threads"]["note"] == "each instance computes on its own thread"
    assert "usable cores" in report["instances"]["note"]


@pytest.mark.onnx
def test_answers_are_compared_with_paddles_once_and_reported(
    zoo: Zoo, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = zoo.directory("mlp", "json")
    agree = r"answers agree with Paddle's \(1x16, 2x16\): (output 'fetch_name_0' differs|all outputs are eq)"
    with opened(model, onnx_cache=tmp_path) as engine:
        assert re.search(agree, engine.effective_config()["backend"]["note"])
    assert len(list(tmp_path.glob("*/proof-*.json"))) == 1
    monkeypatch.setattr(sys, "executable", "a program that is not there")
    with opened(model, onnx_cache=tmp_path) as engine:
        assert re.search(agree, engine.effective_config()["backend"]["note"])
    with opened(model, onnx_cache=tmp_path, check=False) as engine:
        assert "check=False compares no answers" in engine.effective_config()["backend"]["note"]


@pytest.mark.onnx
def test_a_conversion_with_other_answers_is_refused(
    zoo: Zoo, opened: Opened, title: str, tmp_path: Path
) -> None:
    model = zoo.directory("mlp", "json")
    opened(model, onnx_cache=tmp_path, check=False).close()
    (path,) = tmp_path.glob("*/model.onnx")
    weights = (model / "inference.pdiparams").read_bytes()[-256:]
    data = path.read_bytes()
    assert data.count(weights) == 1
    path.write_bytes(data.replace(weights, np.full(64, 0.3, np.float32).tobytes()))
    about = path.with_name("about.json")
    about.write_text(json.dumps({**json.loads(about.read_text()), "sha256": sha256_of(path)}))
    with pytest.raises(ModelLoadError, match=rf"gives other answers in {title} than in Paddle: output"):
        opened(model, onnx_cache=tmp_path)
    opened(model, onnx_cache=tmp_path, check=False).close()


@pytest.mark.onnx
def test_a_warm_load_imports_neither_paddle_nor_the_runtimes_python(
    zoo: Zoo, opened: Opened, backend: str, folder: Path
) -> None:
    model = zoo.directory("mlp", "json")
    opened(model).close()
    code = (
        "import sys; from paddleinfer import Engine; import numpy as np\n"
        f"with Engine({str(model)!r}, backend={backend!r}, onnx_cache={str(folder)!r}) as engine:\n"
        "    engine.infer({'x': np.zeros((1, 16), 'float32')})\n"
        "heavy = ('paddle', 'onnxruntime', 'openvino', 'paddle2onnx')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.onnx
def test_many_callers_get_their_own_rows(zoo: Zoo, opened: Opened) -> None:
    with opened(zoo.directory("mlp", "json")) as engine:
        rows = np.random.default_rng(SEED).standard_normal((64, 16)).astype("float32")
        (alone,) = engine.infer({"x": rows}).values()
        wrong: list[int] = []

        def call(place: int) -> None:
            for _ in range(50):
                (given,) = engine.infer({"x": rows[place : place + 1]}).values()
                if not np.allclose(given, alone[place : place + 1], rtol=1e-4, atol=1e-6):
                    wrong.append(place)

        threads = [threading.Thread(target=call, args=(place,)) for place in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert engine.stats()["requests"] == 801


@pytest.mark.onnx
def test_results_are_their_callers_own(zoo: Zoo, opened: Opened) -> None:
    with opened(zoo.directory("mlp", "json"), instances=1) as engine:
        inputs = {"x": np.ones((2, 16), "float32")}
        (first,) = engine.infer(inputs).values()
        kept = first.copy()
        first[:] = 7
        (second,) = engine.infer({"x": np.full((2, 16), 3, "float32")}).values()
        (again,) = engine.infer(inputs).values()
        assert (first == 7).all() and (again == kept).all() and not (second == kept).all()


@pytest.mark.onnx
@pytest.mark.parametrize("format", ["json", "legacy"])
def test_a_scalar_output_is_one(zoo: Zoo, opened: Opened, format: str) -> None:
    with opened(zoo.directory("scalar", format)) as engine:
        x = np.arange(6, dtype="float32").reshape(2, 3)
        doubled, mean = engine.infer([x]).values()
        assert (doubled == 2 * x).all() and mean.shape == () and mean == 2.5
        assert engine.effective_config()["batchable"]["value"] == "no"


@pytest.mark.onnx
def test_memory_of_a_result_is_used_again_only_once_nobody_has_it(zoo: Zoo, folder: Path) -> None:
    images = [
        np.full((1, 3, 512, 512), value, "float32") for value in (1, 2, 3)
    ]  # the second output has 4 MiB
    with Engine(
        zoo.directory("conv"), backend="onnxruntime", onnx_cache=folder, instances=1, check=False
    ) as engine:
        wanted = [list(engine.infer([image]).values())[1].copy() for image in images]
        result = list(engine.infer([images[0]]).values())[1]
        address, view = result.ctypes.data, result[0, :2]
        assert result.flags.writeable
        del result
        other = list(engine.infer([images[1]]).values())[1]  # the view has the memory still
        assert other.ctypes.data != address
        np.testing.assert_array_equal(view, wanted[0][0, :2])
        del view
        third, fourth = (list(engine.infer([image]).values())[1] for image in (images[2], images[0]))
        assert address in (third.ctypes.data, fourth.ctypes.data)
    for given, value in ((other, wanted[1]), (third, wanted[2]), (fourth, wanted[0])):
        np.testing.assert_array_equal(given, value)  # also after the close


@pytest.mark.onnx
def test_large_results_are_their_callers_own_and_outlive_the_engine(zoo: Zoo, opened: Opened) -> None:
    random = np.random.default_rng(SEED)
    images = [random.standard_normal((1, 3, size, 96)).astype("float32") for size in (64, 64, 80, 64, 80)]
    with opened(zoo.directory("conv", "json"), instances=1) as engine:
        wanted = [engine.infer([image]) for image in images]
        given = []
        for image in images:
            outputs = engine.infer([image])
            given.append({name: output.copy() for name, output in outputs.items()})
            for output in outputs.values():
                assert output.flags.writeable
                output[:] = 7  # a later run must not see it, nor an earlier result
        kept = engine.infer([images[0]])
    for first, second in zip(wanted, given, strict=True):
        for name, output in first.items():
            np.testing.assert_array_equal(second[name], output)
    for name, output in wanted[0].items():
        np.testing.assert_array_equal(kept[name], output)


@pytest.mark.onnx
def test_a_failed_run_is_the_requests_alone(zoo: Zoo, opened: Opened, backend: str) -> None:
    wrong, failure = {
        "onnxruntime": (1_000, "while running Gather node"),
        "openvino": (1 << 40, "'ids' holds 1099511627776, and OpenVINO computes with integers of 32 bits"),
    }[backend]
    with opened(zoo.directory("embedding", "json")) as engine:
        good = rows_for(engine)
        (name,) = good
        wanted = engine.infer(good)
        with pytest.raises(ModelError, match=failure):
            engine.infer({name: np.full_like(good[name], wrong)})
        for output, given in engine.infer(good).items():
            np.testing.assert_array_equal(given, wanted[output])


@pytest.mark.onnx
def test_axes_are_padded_and_cropped(zoo: Zoo, opened: Opened) -> None:
    pad = PadAxis({"image": 3}, {"fetch_name_1": 3}, multiple=16)
    with opened(zoo.directory("conv", "json"), pad=pad) as engine:
        given = engine.infer({"image": np.ones((1, 3, 16, 16), "float32")})
        assert given["fetch_name_1"].shape == (1, 16, 8, 8)


@pytest.mark.onnx
def test_a_reload_puts_the_new_weights_into_service(zoo: Zoo, opened: Opened, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(zoo.directory("mlp", "json"), model)
    inputs = {"x": np.ones((1, 16), "float32")}
    with opened(model, warmup=True) as engine:
        (before,) = engine.infer(inputs).values()
        weights = model / "inference.pdiparams"
        data = bytearray(weights.read_bytes())
        data[-512:] = np.ones(128, np.float32).tobytes()
        weights.write_bytes(data)
        assert engine.reload().generation == 2
        (after,) = engine.infer(inputs).values()
        assert not np.allclose(before, after)


@pytest.mark.onnx
def test_pythons_interface_gives_the_same(zoo: Zoo, opened: Opened, backend: str) -> None:
    wrong, failure = {
        "onnxruntime": (1_000, "Gather"),
        "openvino": (1 << 40, "'ids' holds 1099511627776, and OpenVINO computes with integers of 32 bits"),
    }[backend]
    for name in ("conv", "embedding", "joined"):
        model = zoo.directory(name, "json")
        with opened(model) as native, opened(model, driver="python") as engine:
            inputs = rows_for(native)
            wanted, given = native.infer(inputs), engine.infer(inputs)
            assert all((given[output] == wanted[output]).all() for output in wanted)
            assert engine.effective_config()["driver"]["value"] == "python"
            if name == "embedding":
                with pytest.raises(ModelError, match=failure):
                    engine.infer({key: np.full_like(rows, wrong) for key, rows in inputs.items()})


@pytest.mark.onnx
def test_a_library_of_another_kind_makes_python_call_and_is_named(
    zoo: Zoo,
    opened: Opened,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    package, lacking, name = {
        "onnxruntime": (InstalledOnnxRuntime, "OrtGetApiBase", "onnxruntime"),
        "openvino": (InstalledOpenVino, "ov_get_error_info", "OpenVINO"),
    }[backend]
    other = package("1", Path("/lib/x86_64-linux-gnu/libc.so.6"))
    monkeypatch.setattr(package, "find", lambda: other)
    model = zoo.directory("mlp", "json")
    with opened(model) as engine:
        engine.infer({"x": np.zeros((1, 16), "float32")})
        driver = engine.effective_config()["driver"]
    assert driver["value"] == "python"
    assert driver["note"] == f"libc.so.6 cannot be used: it does not export {lacking}; calls need the GIL"
    assert f"falling back to {name}'s Python interface" in caplog.text
    with pytest.raises(ConfigError, match='driver="native" is not possible here: libc'):
        opened(model, driver="native")


@pytest.mark.onnx
def test_a_close_under_load_ends_every_request(zoo: Zoo, opened: Opened) -> None:
    engine = opened(zoo.directory("mlp", "json"))
    ended = []

    def call() -> None:
        try:
            while True:
                engine.infer({"x": np.zeros((1, 16), "float32")})
        except EngineClosed:
            ended.append(1)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    engine.close()
    for thread in threads:
        thread.join()
    assert len(ended) == 8


@pytest.mark.onnx
def test_a_server_says_which_runtime_a_model_has(zoo: Zoo, opened: Opened, backend: str) -> None:
    from paddleinfer.shim.service import metadata
    from paddleinfer.shim.service.served_models import served_under

    with opened(zoo.directory("mlp", "json")) as engine:
        (model,) = served_under("mlp", engine)
        assert metadata.model_metadata(model, [model])["platform"] == f"{backend}_onnx"


# -- without the packages


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ir_optim", True),
        ("onednn", False),
        ("device", "gpu:0"),
        ("precision", "float16"),
        ("malloc_tuning", True),
        ("share_weights", False),
        ("paddle_log", True),
    ],
)
def test_options_of_paddle_are_refused(zoo: Zoo, backend: str, option: str, value: object) -> None:
    config = EngineConfig.from_options({"backend": backend, option: value})
    spec = load_spec(zoo.directory("mlp", "json"))
    with pytest.raises(
        ConfigError, match=f"{option} acts on Paddle's predictors and has no effect with backend"
    ):
        runtime.prepare(spec, config, Opening())


def test_a_missing_runtime_is_named_with_its_command(
    zoo: Zoo, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=rf"not installed; install it with pip install 'paddleinfer\[{backend}\]'"
    ):
        Engine(zoo.directory("mlp", "json"), backend=backend)
