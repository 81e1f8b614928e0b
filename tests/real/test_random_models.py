"""Random models under load give what plain Paddle gives to each request alone, also where that is a failure.

As many as ``--model-seeds``: 50 by default; more of them run in both formats, with oneDNN on and off, each.
"""

from __future__ import annotations

import functools
import random
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, run_threads
from random_models import RandomModel, export_random

import paddleinfer
from paddleinfer.backends.paddle.errors import is_of_onednn, useful_line
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.models.reader import load_spec

pytestmark = [pytest.mark.paddle3, pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface")]

Arrays = dict[str, np.ndarray]
Run = tuple[int, str, bool]

_REQUESTS = 10
_BATCH = 6
_CALLERS = 3
_RELATIVE = 1e-4
_ENDED = "random model"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int, str], RandomModel]]:
    """Seed and format -> the model; the last few are kept."""
    root = tmp_path_factory.mktemp("random")

    @functools.lru_cache(maxsize=2)
    def model(seed: int, format: str) -> RandomModel:
        return export_random(seed, root / f"{seed}-{format}", format)

    yield model
    shutil.rmtree(root)


def plain(spec: paddleinfer.ModelSpec, onednn: bool, ir_optim: bool) -> Callable[[Arrays], Arrays]:
    """One bare predictor, with the same passes."""
    inference = import_paddle().inference
    config = inference.Config(str(spec.program_path), str(spec.params_path or ""))
    config.disable_glog_info()
    config.switch_ir_optim(ir_optim)
    if not onednn:
        config.disable_onednn()
    predictor = inference.create_predictor(config)

    def answer(feeds: Arrays) -> Arrays:
        for name, array in feeds.items():
            predictor.get_input_handle(name).copy_from_cpu(array)
        predictor.run()
        return {
            name: predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()
        }

    return answer


def outcome(ask: Callable[[], Any]) -> Any:
    """What Paddle gives, or its exception."""
    try:
        return ask()
    except Exception as error:
        return error


def assert_same(found: Arrays, expected: Arrays, largest: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape, name
        np.testing.assert_allclose(
            found[name], array, rtol=0, atol=_RELATIVE * float(largest[name]) + 1e-6, err_msg=name
        )


def assert_same_failure(found: Exception, expected: Exception) -> None:
    reason = useful_line(str(expected)).partition(" [")[0]
    assert reason in str(found), f"{reason!r} is Paddle's reason, and {str(found)!r} the engine's"


def test_a_random_model_answers_each_request_as_if_it_were_alone(
    random_model_run: Run, exported: Callable[[int, str], RandomModel], request: pytest.FixtureRequest
) -> None:
    seed, format, onednn = random_model_run
    ended = request.node.user_properties
    model = exported(seed, format)
    spec = load_spec(model.directory)
    assert (spec.batchable == "no") == model.mixes, spec.batchable_reason

    rng = np.random.default_rng(seed)
    sizes = [*rng.integers(1, 4, _REQUESTS).tolist(), 3 * _BATCH + 1]
    requests = [model.feeds(rng, rows) for rows in sizes]
    ir_optim = onednn  # without it a legacy model does not use oneDNN
    options: dict[str, Any] = {"onednn": "auto" if onednn else False, "ir_optim": ir_optim, "instances": 2}
    alone = outcome(lambda: plain(spec, onednn, ir_optim))
    if isinstance(alone, Exception):
        ended.append((_ENDED, "Paddle cannot load the model, nor can the engine"))
        with pytest.raises(paddleinfer.ModelLoadError) as refused:
            paddleinfer.Engine(model.directory, max_batch_size=_BATCH, **options)
        assert_same_failure(refused.value, alone)
        return
    expected = [outcome(functools.partial(alone, feeds)) for feeds in requests]
    falls_back = onednn and any(isinstance(one, Exception) and is_of_onednn(str(one)) for one in expected)
    if falls_back:
        alone = plain(spec, False, ir_optim)
        expected = [outcome(functools.partial(alone, feeds)) for feeds in requests]
    answers = [answer for answer in expected if not isinstance(answer, Exception)]
    largest = {
        name: np.array(max(np.abs(answer[name]).max(initial=0) for answer in answers))
        for name in (answers[0] if answers else ())
    }
    failing = {0: "none", len(requests): "all"}.get(len(requests) - len(answers), "some")
    without = ", oneDNN being left out because it cannot," if falls_back else ""
    ended.append((_ENDED, f"Paddle{without} fails on {failing} of the requests, as does the engine"))
    with paddleinfer.Engine(model.directory, max_batch_size=_BATCH, **options) as engine:

        def call(number: int) -> None:
            order = list(range(len(requests))) * 2
            random.Random(number).shuffle(order)
            futures = [(engine.submit(requests[place]), expected[place]) for place in order]
            for future, answer in futures:
                if isinstance(answer, Exception):
                    with pytest.raises(paddleinfer.ModelError) as failed:
                        future.result(PATIENCE_S)
                    assert_same_failure(failed.value, answer)
                else:
                    assert_same(future.result(PATIENCE_S), answer, largest)

        run_threads(_CALLERS, call)
        batchable = engine.effective_config()["batchable"]
        assert (batchable["value"] == "no") == model.mixes, batchable
        assert ("a run failed" in engine.effective_config()["onednn"].get("note", "")) == falls_back
