"""Reloads that fail, or meet the engine's end: the previous model serves on, or nothing is left."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ended_requests import assert_all_ended, instance_threads
from engine_helpers import PATIENCE_S, engine_of, eventually, rows
from reload_helpers import Background, Versions, answer, versioned, wait_generation
from zoo import Zoo

import paddleinfer
from paddleinfer.backends.paddle import process_settings, runtime
from paddleinfer.config import EngineConfig, RuntimeOptions
from paddleinfer.engine import engine as opens
from paddleinfer.engine import generation
from paddleinfer.models.replacement import check_replacement
from paddleinfer.resolved_options import ResolvedOptions

STAYS = "; the model loaded before stays in service$"

# The old model stays


def missing(directory: Path) -> None:
    shutil.rmtree(directory)


def empty(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()


def cut_program(directory: Path) -> None:
    for file in [*directory.glob("*.json"), *directory.glob("*.pdmodel")]:
        file.write_bytes(file.read_bytes()[:100])


def cut_parameters(directory: Path) -> None:
    (file,) = directory.glob("*.pdiparams")
    file.write_bytes(file.read_bytes()[:-4])


@pytest.mark.parametrize("damage", [missing, empty, cut_program, cut_parameters])
def test_a_damaged_model_leaves_the_old_one_in_service(zoo: Zoo, tmp_path: Path, damage: Any) -> None:
    for format in zoo.formats:
        good = zoo.directory("mlp", format)
        bad = Path(shutil.copytree(good, tmp_path / format))
        damage(bad)
        x = np.ones((2, 16), "float32")
        with paddleinfer.Engine(good, instances=2) as engine:
            (expected,) = engine.infer([x]).values()
            threads = instance_threads()
            for _ in range(2):
                with pytest.raises(paddleinfer.ModelLoadError, match=STAYS) as caught:
                    engine.reload(bad)
                assert "\n" not in str(caught.value)
            assert engine.stats()["generation"] == 1
            assert eventually(lambda threads=threads: instance_threads() <= threads)
            np.testing.assert_array_equal(*engine.infer([x]).values(), expected)
            assert engine.reload().generation == 2


@pytest.mark.on_paddle
def test_what_paddle_refuses_leaves_the_old_one_in_service(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Any, core: Any) -> None:
        raise RuntimeError("(NotFound) no such thing")

    with paddleinfer.Engine(zoo.directory("mlp", zoo.formats[0]), instances=1) as engine:
        with monkeypatch.context() as patch, pytest.raises(paddleinfer.ModelLoadError, match=STAYS) as caught:
            patch.setattr(runtime.Runtime, "_start", fails)
            engine.reload()
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert engine.infer([np.ones((1, 16), "float32")])


def test_a_failed_warm_up_leaves_the_old_one_in_service() -> None:
    with versioned(warmup=True) as (engine, model):
        model.broken.add(2)
        with pytest.raises(paddleinfer.ModelError, match=f"version 2 is broken{STAYS}") as caught:
            engine.reload()
        assert isinstance(caught.value.__cause__, ValueError)
        assert answer(engine.infer(rows())) == 1 and engine.stats()["errors"] == 0
        model.current = 3
        assert engine.reload().generation == 2 and answer(engine.infer(rows())) == 3


@pytest.mark.parametrize("path", [3, "", "a\0b", b"/nowhere"])
def test_what_is_no_path_leaves_the_old_one_in_service(zoo: Zoo, path: Any) -> None:
    with paddleinfer.Engine(zoo.directory("mlp", zoo.formats[0]), instances=1) as engine:
        with pytest.raises(paddleinfer.ModelLoadError, match=STAYS):
            engine.reload(path)
        with pytest.raises(paddleinfer.ConfigError, match="timeout must be"):
            engine.reload(timeout=-1)
        assert not engine.closed


# Other inputs


@pytest.mark.parametrize("name", ["embedding", "scalar", "conv", "same-float64"])
def test_a_model_with_other_tensors_is_refused(zoo: Zoo, name: str) -> None:
    format = zoo.formats[-1]
    with paddleinfer.Engine(zoo.directory("same-float32", format), instances=1) as engine:
        with pytest.raises(paddleinfer.ModelLoadError, match=f"in service.*{STAYS}"):
            engine.reload(zoo.directory(name, format))
        assert engine.infer([rows()])


def with_input(spec: Any, **changes: Any) -> Any:
    return replace(spec, inputs=(replace(spec.inputs[0], **changes), *spec.inputs[1:]))


def with_output(spec: Any, **changes: Any) -> Any:
    return replace(spec, outputs=(replace(spec.outputs[0], **changes), *spec.outputs[1:]))


@pytest.fixture
def spec() -> Any:
    described = {"x": ("float32", (-1, 3, -1)), "z": ("int64", (-1,))}
    with paddleinfer.Engine.from_callable(len, described, {"y": ("float32", (-1, 4))}) as engine:
        return engine._generation.spec


@pytest.mark.parametrize(
    ("change", "changes", "sentence"),
    [
        (with_input, {"name": "w"}, "len has the inputs w, z, and .* in service: x, z$"),
        (with_input, {"dtype": "float64"}, "input 'x' of len has the dtype float64, and float32 in service$"),
        (with_input, {"alias": "image"}, "input 'x' of len has the alias 'image', and None in service$"),
        (with_input, {"shape": (-1, 3)}, r"has the shape \(-1, 3\), and \(-1, 3, -1\) in service$"),
        (with_input, {"shape": (-1, 4, -1)}, "input 'x' of len has the shape"),
        (with_input, {"shape": (-1, 3, 8)}, "input 'x' of len has the shape"),
        (with_input, {"shape": (1, 3, -1)}, "input 'x' of len has the shape"),
        (with_output, {"name": "score"}, "len has the outputs score, and .* in service: y$"),
        (with_output, {"dtype": "int32"}, "output 'y' of len has the dtype int32"),
        (with_output, {"shape": (-1, 5)}, "output 'y' of len has the shape"),
    ],
)
def test_the_first_difference_is_named(
    spec: Any, change: Any, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(paddleinfer.ModelLoadError, match=sentence):
        check_replacement(spec, change(spec, **changes))


def test_inputs_may_become_wider_and_outputs_better_known(spec: Any) -> None:
    for wider in (
        with_input(spec, shape=(-1, -1, -1)),
        with_input(spec, shape=None),
        with_output(spec, shape=(8, 4)),
        with_output(spec, shape=(-1, -1)),
        replace(spec, path=Path("other"), batchable="no"),
    ):
        check_replacement(spec, wider)
    with pytest.raises(paddleinfer.ModelLoadError, match="has the inputs z, x"):
        check_replacement(spec, replace(spec, inputs=spec.inputs[::-1]))


# The engine's end


def test_a_closed_engine_is_not_reloaded() -> None:
    engine = engine_of()
    engine.close()
    with pytest.raises(paddleinfer.EngineClosed, match=r"is closed$"):
        engine.reload()


@pytest.mark.parametrize("drain", [True, False])
def test_closing_while_the_new_model_loads_ends_the_reload(drain: bool) -> None:
    before = instance_threads()
    with versioned(warmup=True) as (engine, model):
        model.hold(2)
        reloading = Background(engine.reload)
        model.wait_entered()  # a run of its warm-up
        closing = Background(lambda: engine.close(drain))
        assert eventually(lambda: engine.closed)
        with pytest.raises(paddleinfer.EngineClosed):
            engine.infer(rows())
        model.let_go(2)
        closing.result()
        with pytest.raises(paddleinfer.EngineClosed, match=r"is closed$"):
            reloading.result()
        assert eventually(lambda: instance_threads() <= before)
        assert engine.stats()["generation"] == 1
        assert_all_ended(engine)


def test_closing_before_the_new_model_is_found_ends_the_reload(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = instance_threads()
    engine = paddleinfer.Engine(zoo.directory("mlp", zoo.formats[0]), instances=2)
    load_spec = opens.load_spec

    def close_then_load(*arguments: Any) -> Any:
        engine.close()
        return load_spec(*arguments)

    monkeypatch.setattr(opens, "load_spec", close_then_load)
    with pytest.raises(paddleinfer.EngineClosed, match=r"is closed$"):
        engine.reload()
    assert eventually(lambda: instance_threads() <= before)


def test_closing_while_the_old_model_drains_ends_both() -> None:
    before = instance_threads()
    with versioned() as (engine, model):
        model.hold(1)
        future = engine.submit(rows())
        model.wait_entered()
        reloading = Background(engine.reload)
        wait_generation(engine, 2)
        closing = Background(engine.close)
        assert eventually(lambda: engine.closed)
        assert not closing.ended  # the request that the old one has accepted goes on
        model.let_go(1)
        closing.result()
        assert answer(future.result(PATIENCE_S)) == 1
        with pytest.raises(paddleinfer.EngineClosed, match=r"is closed$"):
            reloading.result()
        assert eventually(lambda: instance_threads() <= before)
        assert_all_ended(engine)


def test_close_keeps_to_its_timeout_whatever_drains() -> None:
    with versioned() as (engine, model):
        model.hold(1)
        future = engine.submit(rows())
        model.wait_entered()
        reloading = Background(lambda: engine.reload(timeout=None))
        wait_generation(engine, 2)
        engine.close(timeout=0.05)
        with pytest.raises(paddleinfer.EngineClosed):
            future.result(PATIENCE_S)
        with pytest.raises(paddleinfer.EngineClosed):
            reloading.result()


def test_reloading_from_inside_the_model_is_refused() -> None:
    def reloads(inputs: dict[str, np.ndarray]) -> Any:
        return engine.reload()

    with engine_of(reloads) as engine:
        with pytest.raises(paddleinfer.ModelError, match="from inside its own model"):
            engine.infer(rows())
        assert engine.stats()["generation"] == 1


def test_reloading_from_inside_a_reload_is_refused(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    with paddleinfer.Engine(zoo.directory("mlp", zoo.formats[0]), instances=1) as engine:
        monkeypatch.setattr(opens, "load_spec", lambda *_: engine.reload())  # as a signal handler may
        with pytest.raises(paddleinfer.PaddleInferError, match=f"from inside its own reload{STAYS}"):
            engine.reload()


# Memory


def test_a_model_that_would_take_too_much_memory_is_refused_before_it_loads(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = zoo.directory("mlp", "legacy")
    (weights,) = (file.stat().st_size for file in directory.glob("*.pdiparams"))
    options: dict[str, Any] = {"instances": 2, "onednn": False, "max_memory_bytes": 5000 + weights}
    monkeypatch.setattr(generation, "resident_memory_bytes", lambda: 5000)
    with paddleinfer.Engine(directory, **options) as engine:
        setting = engine.effective_config()["max_memory_bytes"]
        assert setting["value"] == 5000 + weights and setting["source"] == "option"
        assert "5000 bytes were in memory" in setting["note"] and str(weights) in setting["note"]
        monkeypatch.setattr(generation, "resident_memory_bytes", lambda: 5001)
        monkeypatch.setattr(runtime.Runtime, "start", lambda *_: pytest.fail("it began to load"))
        sentence = (
            f"estimated {weights} bytes beside the 5001 .* max_memory_bytes allows {5000 + weights} in all"
        )
        with pytest.raises(paddleinfer.ModelLoadError, match=sentence + STAYS):
            engine.reload()
        with pytest.raises(paddleinfer.ModelLoadError, match=f"{sentence}$"):
            paddleinfer.Engine(directory, **options)
        assert engine.infer([np.ones((1, 16), "float32")])
    assert generation.EngineConfig().max_memory_bytes is None


def test_the_memory_of_a_function_is_what_the_process_has() -> None:
    with engine_of(max_memory_bytes=1 << 40) as engine:
        assert "estimated at 0" in engine.effective_config()["max_memory_bytes"]["note"]
    with pytest.raises(
        paddleinfer.ModelLoadError, match=r"an estimated 0 bytes beside the .* allows 1048576"
    ):
        engine_of(max_memory_bytes=1 << 20)
    with engine_of(Versions()) as engine:
        assert engine.effective_config()["max_memory_bytes"] == {"value": None, "source": "default"}


def test_what_an_engine_before_has_set_for_mkl_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE", raising=False)
    monkeypatch.setattr(process_settings, "_mkl_is_set", True)
    for wanted in ("auto", True):
        options = RuntimeOptions(mkl_amd=wanted, onednn=False)
        resolved = ResolvedOptions(EngineConfig(runtime=options))
        assert not process_settings.prepare_mkl(options, resolved)
        assert resolved.report()["mkl_amd"]["value"] is True
