"""``backend="auto"`` is the fastest of the runtimes that give Paddle's answers, by a short look at load."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from zoo import Zoo

import paddleinfer
from paddleinfer import Engine, EngineConfig
from paddleinfer.engine import backend_choice, memory
from paddleinfer.engine.backend_choice import choose_backend, fastest
from paddleinfer.engine.opening import Opening
from paddleinfer.errors import EngineClosed, ModelLoadError
from paddleinfer.models.reader import load_spec

pytestmark = pytest.mark.on_paddle

pytest.importorskip("paddle")

BOTH = {"paddle": ("paddlepaddle", "3"), "onnxruntime": ("onnxruntime", "1")}


class Clock:
    """Time that runs of a model take, and nothing else."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def run(self, seconds: float) -> Callable[[], None]:
        def take() -> None:
            self.now_s += seconds

        return take


def chosen(**seconds: float) -> tuple[str, str, float]:
    clock = Clock()
    name, sentence = fastest({name: clock.run(took) for name, took in seconds.items()}, clock)  # type: ignore[misc]
    return name, sentence, clock.now_s


def test_the_fastest_is_chosen_if_it_is_clearly_faster() -> None:
    name, sentence, _ = chosen(paddle=0.004, onnxruntime=0.002)
    assert name == "onnxruntime" and sentence.endswith("s at load: paddle 4 ms, onnxruntime 2 ms")
    assert chosen(paddle=0.004, onnxruntime=0.0038)[0] == "paddle"
    assert chosen(paddle=0.002, onnxruntime=0.004)[0] == "paddle"


@pytest.mark.parametrize("run_s", [0.0001, 0.01, 0.1, 0.4])
def test_the_look_ends_within_two_seconds(run_s: float) -> None:
    assert chosen(paddle=run_s, onnxruntime=run_s / 2)[2] <= 2.0


def test_runs_that_take_too_long_are_not_compared() -> None:
    name, sentence, _ = chosen(paddle=0.9, onnxruntime=0.1)
    assert name == "paddle" and sentence == "runs take too long to compare them in 2 s"


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_choice, "installed_runtimes", lambda: BOTH)


class Trials:
    """Opens engines that take some time for each run, or refuse to open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **runs: float | Exception) -> None:
        self._runs = runs
        self.configs: list[EngineConfig] = []
        self._clock = Clock()
        monkeypatch.setattr(backend_choice, "fastest", lambda runs, look=fastest: look(runs, self._clock))

    @contextlib.contextmanager
    def __call__(self, config: EngineConfig) -> Iterator[Callable[[Mapping[str, Any]], object]]:
        self.configs.append(config)
        run = self._runs[config.runtime.backend]
        if isinstance(run, Exception):
            raise run
        take = self._clock.run(run)
        yield lambda inputs: take()


@pytest.mark.usefixtures("both")
def test_trials_have_one_instance_and_are_compared_with_paddle(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = Trials(monkeypatch, paddle=0.004, onnxruntime=0.002)
    spec = load_spec(zoo.directory("mlp", zoo.formats[0]))
    config = EngineConfig.from_options({"backend": "auto", "check": False, "instances": 4})
    assert choose_backend(spec, config, Opening(), trials)[0] == "onnxruntime"
    assert [one.runtime.backend for one in trials.configs] == ["paddle", "onnxruntime"]
    assert all(one.check and one.runtime.instances == 1 and not one.tuning_file for one in trials.configs)


@pytest.mark.usefixtures("both")
def test_trials_keep_to_the_limit_of_memory(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = Trials(monkeypatch, paddle=0.004, onnxruntime=0.002)
    spec = load_spec(zoo.directory("mlp", zoo.formats[0]))
    config = EngineConfig.from_options({"backend": "auto", "max_memory_bytes": 1 << 40})
    choose_backend(spec, config, Opening(), trials)
    assert [one.max_memory_bytes for one in trials.configs] == [1 << 40, 1 << 40]


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize(
    ("model", "options", "refusal", "sentence"),
    [
        ("mlp", {"onednn": False}, None, "onednn acts on Paddle alone"),
        ("conv", {}, None, "nothing was measured: input 'image' has the shape"),
        (
            "mlp",
            {},
            ModelLoadError("output 'y' differs by 1"),
            "onnxruntime is not possible: output 'y' differs",
        ),
    ],
)
def test_where_nothing_can_be_compared_it_is_paddle_and_says_why(
    zoo: Zoo,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    options: dict[str, Any],
    refusal: Exception | None,
    sentence: str,
) -> None:
    trials = Trials(monkeypatch, paddle=0.004, onnxruntime=refusal or 0.001)
    spec = load_spec(zoo.directory(model, zoo.formats[0]))
    config = EngineConfig.from_options({"backend": "auto", **options})
    backend, why = choose_backend(spec, config, Opening(), trials)
    assert backend == "paddle" and sentence in why


@pytest.mark.usefixtures("both")
def test_a_load_that_is_ended_meanwhile_looks_no_further(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Opening()
    load.end()
    spec = load_spec(zoo.directory("mlp", zoo.formats[0]))
    with pytest.raises(EngineClosed):
        choose_backend(spec, EngineConfig(), load, Trials(monkeypatch, paddle=1.0))


def test_without_another_runtime_auto_is_paddle(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_choice, "installed_runtimes", lambda: {"paddle": BOTH["paddle"]})
    model = zoo.directory("mlp", zoo.formats[0])
    with Engine(model, backend="auto") as engine:
        line = engine.effective_config()["backend"]
    assert line["value"] == "paddle" and line["source"] == "auto"
    assert line["note"].startswith("no other runtime that could run the model is installed")
    assert memory.estimate(model, EngineConfig.from_options({"backend": "auto"}))[1] > 0


@pytest.mark.onnx
def test_auto_measures_both_at_load_and_says_so(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Engine(zoo.directory("mlp", "json"), backend="auto") as engine:
        line = engine.effective_config()["backend"]
    assert line["source"] == "auto" and line["value"] in ("paddle", "onnxruntime", "openvino")
    assert "one row, measured for" in line["note"] and "onnxruntime" in line["note"]


@pytest.mark.onnx
def test_auto_runs_onnx_files(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Engine(zoo.directory("mlp", "json"), backend="onnxruntime"):
        (file,) = tmp_path.rglob("*.onnx")
    with paddleinfer.Engine(file, backend="auto") as engine:
        line = engine.effective_config()["backend"]
    assert line["value"] == "onnxruntime" and "Paddle does not run a .onnx file" in line["note"]
