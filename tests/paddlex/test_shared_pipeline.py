"""A shared pipeline: each call has state of its own, and all of them the same engines."""

from __future__ import annotations

import asyncio
import gc
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import run_threads
from paddlex_double import LocalModelPredictor, PaddleXDouble
from zoo import Zoo

from paddleinfer.engine import sharing
from paddleinfer.errors import ConfigError, EngineClosed, InvalidInput, ModelLoadError

ROWS = np.random.default_rng(5).standard_normal((64, 16), dtype=np.float32)


class Setup:
    """The package over the double, and what PaddleX does to make a predictor."""

    def __init__(self, directory: Path) -> None:
        self.package: Any = importlib.import_module("paddleinfer.paddlex")
        self.directory = directory
        self._engine: Any = importlib.import_module("paddleinfer.paddlex.runner_engine").PaddleInferEngine()

    def runner(self, model_name: str = "PP-LCNet_x1_0", device: str = "cpu", **engine_config: Any) -> Any:
        options = self._engine.prepare_config_dict(engine_config, model_name=model_name, device=device)
        runner = self._engine.get_default_runner_builder()(
            model_name=model_name, model_dir=self.directory, model_config=None, engine_config=options
        )
        self._engine.validate_runner(runner)
        return runner

    def predictor(self, **engine_config: Any) -> Any:
        return LocalModelPredictor("PP-LCNet_x1_0", self.runner(**engine_config))

    @property
    def in_use(self) -> list[Any]:
        gc.collect()
        return list(sharing._registry.shared)


@pytest.fixture
def setup(zoo: Zoo) -> Iterator[Setup]:
    with PaddleXDouble().installed():
        yield Setup(zoo.directory("mlp", zoo.formats[0]))


def plain(setup: Setup) -> list[Any]:
    runner = setup.runner()
    results = [runner([row[None]])[0][0] for row in ROWS]
    runner.close()
    return results


def assert_equal(results: Any, expected: list[Any], batch_size: int) -> None:
    for (seen, result), wanted in zip(results, expected, strict=True):
        assert seen == batch_size
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)


def test_calls_from_many_threads_do_not_see_each_others_state(setup: Setup) -> None:
    expected = plain(setup)
    with setup.package.shared(setup.predictor()) as pipeline:

        def call(number: int) -> None:
            for turn in range(4):
                batch_size = 10 * number + turn
                assert_equal(pipeline.predict(ROWS, batch_size=batch_size), expected, batch_size)

        run_threads(8, call)
        assert len(setup.in_use) == 1


def test_tasks_await_the_results(setup: Setup) -> None:
    expected = plain(setup)

    async def main(pipeline: Any) -> None:
        calls = (pipeline.apredict(ROWS, batch_size=number) for number in range(1, 6))
        for number, results in enumerate(await asyncio.gather(*calls), 1):
            assert_equal(results, expected, number)

    with setup.package.shared(setup.predictor(), threads=2) as pipeline:
        asyncio.run(main(pipeline))


def test_a_call_that_is_abandoned_gives_its_copy_back(setup: Setup) -> None:
    with setup.package.shared(setup.predictor()) as pipeline:
        first = pipeline.predict_iter(ROWS)
        next(first)
        second = pipeline(ROWS)
        next(second)
        first.close()
        del second
        gc.collect()
        assert len(pipeline._idle) == 2
        list(pipeline.predict(ROWS))
        assert len(pipeline._idle) == 2, "a third copy was made"


def test_attributes_and_further_methods_are_the_pipelines(setup: Setup) -> None:
    with setup.package.shared(setup.predictor()) as pipeline:
        assert pipeline.model_name == "PP-LCNet_x1_0"
        with pytest.raises(AttributeError, match="nothing"):
            pipeline.nothing  # noqa: B018


def test_pipelines_of_one_model_share_its_engine_and_the_last_one_ends_it(setup: Setup) -> None:
    first, second = setup.package.shared(setup.predictor()), setup.package.shared(setup.predictor())
    (used,) = setup.in_use
    engine = used.engine
    first.close()
    assert not engine.closed and list(second.predict(ROWS))
    second.close()
    assert engine.closed and setup.in_use == []


def test_pipelines_that_are_dropped_let_their_engine_go(setup: Setup) -> None:
    pipelines = [setup.package.shared(setup.predictor()) for _ in range(2)]
    assert len(setup.in_use) == 1
    pipelines.clear()
    assert setup.in_use == []


def test_other_options_make_another_engine_and_a_models_own_options_come_first(setup: Setup) -> None:
    options = {"instances": 2, "models": {"PP-LCNet_x1_0": {"instances": 1}, "UVDoc": {"instances": 3}}}
    runners = [setup.runner(**options), setup.runner("UVDoc", **options), setup.runner(instances=1)]
    assert len(setup.in_use) == 2
    assert [runner.engine.effective_config()["instances"]["value"] for runner in runners] == [1, 3, 1]
    for runner in runners:
        setup.package.close(runner)
    assert setup.in_use == []


def test_defaults_are_those_of_the_models_family_unless_they_are_given(setup: Setup) -> None:
    def configured(runner: Any) -> tuple[int, Any, str]:
        (options,) = (used.engine._config for used in setup.in_use)
        runner.close()
        return options.batching.max_batch_size, options.runtime.onednn, options.batching.on_full

    assert configured(setup.runner()) == (32, "auto", "wait")
    assert configured(setup.runner("PP-OCRv5_mobile_rec")) == (1, "auto", "wait")
    assert configured(setup.runner("PP-OCRv5_mobile_rec", max_batch_size=8)) == (8, "auto", "wait")
    assert configured(setup.runner("UVDoc")) == (32, False, "wait")


def test_after_close_calls_are_refused_and_those_under_way_end(setup: Setup) -> None:
    pipeline = setup.package.shared(setup.predictor())
    under_way = pipeline.predict(ROWS)
    next(under_way)
    pipeline.close()
    pipeline.close()
    with pytest.raises(EngineClosed, match="the pipeline is closed"):
        pipeline.predict(ROWS)
    with pytest.raises(EngineClosed, match="the pipeline is closed"):
        asyncio.run(pipeline.apredict(ROWS))
    assert len(list(under_way)) == len(ROWS) - 1
    assert setup.in_use == []


def test_a_closed_runner_says_so(setup: Setup) -> None:
    predictor = setup.predictor()
    setup.package.close(predictor)
    with pytest.raises(EngineClosed, match="the pipeline is closed, and its models with it"):
        list(predictor(ROWS))
    with pytest.raises(EngineClosed, match="the pipeline is closed, and its models with it"):
        setup.package.shared(predictor)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"instnces": 2}, "engine_config has no option 'instnces' for the engine paddleinfer"),
        ({"models": {"UVDoc": {"nope": 1}}}, r"engine_config\['models'\]\['UVDoc'\] has no option 'nope'"),
        ({"models": 3}, "is a dict of a model's name and its options, not 3"),
        ({"models": {"UVDoc": 3}}, r"engine_config\['models'\]\['UVDoc'\] is a dict of options, not 3"),
        ({"own_widths": "yes"}, "own_widths"),
        ({"instances": 0}, "instances"),
    ],
)
def test_a_wrong_option_is_named(setup: Setup, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        setup.runner("UVDoc", **options)


def test_a_device_that_is_neither_cpu_nor_gpu_is_refused(setup: Setup) -> None:
    with pytest.raises(ConfigError, match="runs on cpu and gpu, not on the device 'npu'"):
        setup.runner(device="npu:0")


def test_a_directory_without_a_model_is_refused(setup: Setup, tmp_path: Path) -> None:
    setup.directory = tmp_path
    with pytest.raises(ModelLoadError, match=r"has no inference\.json or inference\.pdmodel"):
        setup.runner()
    assert setup.in_use == []


def test_arrays_that_are_too_many_are_refused(setup: Setup) -> None:
    runner = setup.runner()
    with pytest.raises(InvalidInput, match="the model takes 1 inputs"):
        runner([ROWS, ROWS])


def test_a_pipeline_on_another_engine_is_refused_and_its_model_named(setup: Setup) -> None:
    with pytest.raises(ConfigError, match="'UVDoc' runs on an engine that threads cannot share"):
        setup.package.shared(LocalModelPredictor("UVDoc", object()))


def test_what_is_no_pipeline_is_refused(setup: Setup) -> None:
    with pytest.raises(ConfigError, match="takes a pipeline of PaddleOCR's or PaddleX's, not 3"):
        setup.package.shared(3)


def test_a_tuning_file_beside_the_model_comes_before_the_familys_defaults(
    setup: Setup, tmp_path: Path
) -> None:
    shutil.copytree(setup.directory, tmp_path / "model")
    setup.directory = tmp_path / "model"
    (setup.directory / "paddleinfer.toml").write_text("[options]\nmax_batch_size = 4\n[measured]\n")
    runner = setup.runner("PP-OCRv5_mobile_rec")
    options = runner.engine.effective_config()
    assert options["max_batch_size"]["value"] == 4 and options["on_full"]["value"] == "wait"
    runner.close()
