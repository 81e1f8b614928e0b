"""PaddleOCR's models with the engine's defaults: under threads and tasks, what plain Paddle gives alone."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import run_threads
from real_models import CLS, V4_DET, V4_REC, V5_DET, V5_REC, Array, Plain, characters, need, pictures
from real_pictures import texts

import paddleinfer

THREADS = 12


def ask_threads(engine: paddleinfer.Engine, asked: list[Array]) -> list[list[Array]]:
    """Each request asked by several of the threads at once; its answers."""
    answers: list[list[Array]] = [[] for _ in asked]

    def caller(number: int) -> None:
        for turn in range(4):
            place = (3 * number + turn) % len(asked)
            answers[place].append(first(engine.infer([asked[place]])))

    run_threads(THREADS, caller)
    return answers


def ask_tasks(engine: paddleinfer.Engine, asked: list[Array]) -> list[Array]:
    async def all_of_them() -> list[Array]:
        return [first(ends) for ends in await asyncio.gather(*(engine.ainfer([x]) for x in asked))]

    return asyncio.run(all_of_them())


def first(results: dict[str, Array]) -> Array:
    return next(iter(results.values()))


def assert_equal(got: Array, alone: Array, rtol: float) -> None:
    """The engine's promise; the largest values here are far above its floor."""
    assert got.shape == alone.shape and got.dtype == alone.dtype
    apart = np.abs(got - alone).max()
    assert apart <= rtol * np.abs(alone).max() + 1e-6


JSON_MODELS = [pytest.param(name, marks=pytest.mark.paddle3) for name in (V5_DET, V5_REC)]
LEGACY_MODELS = [V4_DET, V4_REC, CLS]


def check(name: str, *, ir_optim: bool = False, **options: Any) -> None:
    """What threads and tasks get of an engine with these options is what plain Paddle answers alone."""
    asked = pictures(name)
    # Plain Paddle cannot run this one with oneDNN: its answers may come from other kernels than the engine's.
    rtol = 1e-4 if name == V5_DET else 1e-5
    onednn = name != V5_DET and options.get("onednn", "auto") is not False
    alone = Plain(name, onednn=onednn, ir_optim=ir_optim or name in (V5_DET, V5_REC)).all(asked)
    with paddleinfer.Engine(need(name), ir_optim=ir_optim, **options) as engine:
        answers = ask_threads(engine, asked)
        for place, answer in enumerate(ask_tasks(engine, asked)):
            answers[place].append(answer)
    for given, expected in zip(answers, alone, strict=True):
        assert len(given) > 1
        for answer in given:
            assert_equal(answer, expected, rtol)
            if name in (V5_REC, V4_REC):
                assert texts(answer, characters(name)) == texts(expected, characters(name))


@pytest.mark.parametrize("name", [*JSON_MODELS, *LEGACY_MODELS])
def test_a_real_model_with_defaults_answers_threads_and_tasks_as_plain_paddle_does_alone(name: str) -> None:
    check(name)


@pytest.mark.paddle3
def test_two_hundred_widths_take_no_more_memory_than_the_stated_bound_allows() -> None:
    script = Path(__file__).parents[1].joinpath("support", "real_widths_process.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), "200", str(need(V5_REC))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    memory = json.loads(done.stdout.splitlines()[-1])
    # The cache, and what the instances' intermediate tensors take; without a bound it was over a gigabyte.
    assert memory["grown"] <= memory["bound"] + (256 << 20)


@pytest.mark.real
@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("ir_optim", [True, False])
@pytest.mark.parametrize("name", [*JSON_MODELS, *LEGACY_MODELS])
def test_a_real_model_is_as_right_with_every_kernel_and_pass(name: str, ir_optim: bool, onednn: bool) -> None:
    check(name, ir_optim=ir_optim, onednn=onednn)


@pytest.mark.real
@pytest.mark.parametrize("name", [*JSON_MODELS[1:], V4_REC])
def test_lines_padded_to_a_few_widths_read_as_plain_paddle_reads_them_padded(name: str) -> None:
    asked = pictures(name)
    padded = [np.pad(x, [(0, 0)] * 3 + [(0, -x.shape[-1] % 64)]) for x in asked]
    alone = Plain(name, ir_optim=name == V5_REC).all(padded)
    pad = paddleinfer.PadAxis(inputs={"x": 3}, multiple=64)
    with paddleinfer.Engine(need(name), pad=pad) as engine:
        answers = ask_threads(engine, asked)
    for given, expected in zip(answers, alone, strict=True):
        for answer in given:
            assert_equal(answer, expected, 1e-5)
            assert texts(answer, characters(name)) == texts(expected, characters(name))
