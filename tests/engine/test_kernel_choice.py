"""Small models run without oneDNN for the shapes where that is faster, which never shows in results."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import assert_close, run_threads
from zoo import Zoo

from paddleinfer import Engine, _ext
from paddleinfer.errors import ModelLoadError

pytestmark = [pytest.mark.on_paddle, pytest.mark.paddle3]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[_ext.KernelChoice]:
    """The choices of the engines that are opened."""
    choices: list[_ext.KernelChoice] = []
    kind = _ext.KernelChoice

    def noted(on_change: Any) -> _ext.KernelChoice:
        choices.append(kind(on_change))
        return choices[-1]

    monkeypatch.setattr(_ext, "KernelChoice", noted)
    return choices


def rows(count: int, seed: int = 0) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).standard_normal((count, 16)).astype("float32")}


def model(zoo: Zoo) -> Path:
    return zoo.directory("mlp")


def test_a_small_model_chooses(zoo: Zoo, made: list[_ext.KernelChoice]) -> None:
    with Engine(model(zoo)) as engine:
        assert engine.effective_config()["inline"]["value"] is True
    assert len(made) == 1


@pytest.mark.parametrize(
    ("name", "format", "options"),
    [
        ("mlp", "json", {"onednn": True}),
        ("mlp", "json", {"onednn": False}),
        ("mlp", "json", {"driver": "python"}),
        ("mlp", "legacy", {}),
        ("conv", "json", {}),
        ("wide", "json", {}),
    ],
)
def test_what_was_said_is_long_or_is_large_has_no_choice(
    zoo: Zoo, made: list[_ext.KernelChoice], name: str, format: str, options: dict[str, Any]
) -> None:
    with Engine(zoo.directory(name, format), instances=1, **options):
        assert made == []


def test_results_are_the_same_while_it_is_found_out_and_after(zoo: Zoo) -> None:
    sizes = [1, 2, 3, 5, 8, 13, 21, 32]
    with Engine(model(zoo), onednn=True, instances=1) as engine:
        expected = {size: engine.infer(rows(size, size)) for size in sizes}
    with Engine(model(zoo), instances=2) as engine:
        for _ in range(20):
            for size in sizes:
                assert_close(engine.infer(rows(size, size)), expected[size])


def test_callers_of_every_kind_get_their_rows(zoo: Zoo) -> None:
    with Engine(model(zoo), onednn=False, instances=1) as engine:
        expected = [engine.infer(rows(1, seed)) for seed in range(16)]
    with Engine(model(zoo), instances=2) as engine:

        def call(seed: int) -> None:
            for _ in range(60):
                assert_close(engine.infer(rows(1, seed)), expected[seed])

        async def tasks() -> None:
            for _ in range(60):
                given = await asyncio.gather(*(engine.ainfer(rows(1, seed)) for seed in range(16)))
                for one, right in zip(given, expected, strict=True):
                    assert_close(one, right)

        run_threads(1, lambda _: call(3))
        asyncio.run(tasks())
        run_threads(8, call)
        assert engine.effective_config()["onednn"]["value"] is True


def test_onednns_kernels_are_emptied_although_others_run_between(zoo: Zoo) -> None:
    """Emptied behind another predictor's run they would stay, and fail when their shape comes again."""
    random = np.random.default_rng(5)
    with Engine(model(zoo), instances=1, max_onednn_shapes=4, inline=False) as engine:
        for turn in range(800):
            engine.infer(rows(int(random.integers(1, 33)), turn))
        report = engine.effective_config()["onednn"]
    assert report["value"] is True, report


def test_the_report_says_what_was_found(zoo: Zoo) -> None:
    with Engine(model(zoo), instances=1) as engine:
        notes = set()
        for turn in range(200):
            engine.infer(rows(1, turn))
            notes.add(engine.effective_config()["onednn"].get("note", ""))
    # Which is faster is the machine's to say.
    faster = "1 of the shapes of input run without it, which was measured to be faster"
    slower = "all shapes run with it: no shape was measured to be faster without it"
    assert notes & {faster, slower}


def test_a_second_predictor_counts_as_memory(zoo: Zoo) -> None:
    needed = []
    for options in ({}, {"onednn": True}):
        with pytest.raises(ModelLoadError, match="needs an estimated") as refused:
            Engine(model(zoo), instances=1, max_memory_bytes=1, **options)
        needed.append(int(re.findall(r"estimated (\d+) bytes", str(refused.value))[0]))
    weights_bytes = (model(zoo) / "inference.pdiparams").stat().st_size
    assert needed[0] - needed[1] == weights_bytes
