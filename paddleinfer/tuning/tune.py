"""Tunes a model: finds the options that serve a load best on this machine, and writes them beside it."""

from __future__ import annotations

import datetime
import functools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from paddleinfer._version import __version__
from paddleinfer.backends.processors import is_amd, processor_name, usable_cores
from paddleinfer.backends.runtimes import installed_runtimes
from paddleinfer.config import BACKENDS, EngineConfig, EngineOptions, check_timeout
from paddleinfer.engine.agreement import has_free_rows
from paddleinfer.engine.engine import one_config
from paddleinfer.engine.example_rows import ExampleShapes
from paddleinfer.engine.made_up_inputs import made_up
from paddleinfer.engine.opening import opening
from paddleinfer.engine.paddle_answers import Answers, NoAnswers, answers_of_paddle
from paddleinfer.errors import ConfigError, InvalidInput, PaddleInferError
from paddleinfer.models.reader import Batchable, ModelFormat, ModelSpec, load_spec
from paddleinfer.options.parser import check_writable
from paddleinfer.options.tuning_file import TUNABLE, TUNING_FILE_NAME
from paddleinfer.resolved_options import ResolvedOptions
from paddleinfer.sentences import listed, shown
from paddleinfer.tuning.child import ChildOrder
from paddleinfer.tuning.children import Children
from paddleinfer.tuning.goal import Goal, GoalName
from paddleinfer.tuning.load import Load, read_recording
from paddleinfer.tuning.report import SettingResult, TuningReport
from paddleinfer.tuning.samples import Fell
from paddleinfer.tuning.search import search
from paddleinfer.tuning.settings import STAGES, Facts, Setting
from paddleinfer.tuning.writing import check_writer, write_tuning_file

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["tune"]

Array = npt.NDArray[Any]

DEFAULT_SECONDS = 90.0
"""How long a search takes at most, but for what is under way then."""

# Of the time for a search, what one round gets, and its limits in seconds.
_ROUND_SHARES = 1 / 120, 1 / 30
_SHORTEST_ROUND_S, _LONGEST_ROUND_S = 0.2, 5.0
# Requests that a load takes made-up rows for in turn.
_MADE_UP_REQUESTS = 4
# A second case, of two requests, is compared where its inputs are no larger.
_MOST_COMPARED_BYTES = 1 << 20


def tune(
    path: str | os.PathLike[str],
    inputs: Mapping[str, Any] | None = None,
    config: EngineConfig | None = None,
    *,
    goal: GoalName = "throughput",
    p99_ms: float | None = None,
    memory_limit_bytes: int | None = None,
    callers: int | None = None,
    rate_per_s: float | None = None,
    recording: str | os.PathLike[str] | None = None,
    rows: int = 1,
    seconds: float = DEFAULT_SECONDS,
    out: str | os.PathLike[str] | None = None,
    progress: Callable[[float], object] | None = None,
    **options: Unpack[EngineOptions],
) -> TuningReport:
    """Measures settings under a load, and writes the best as ``paddleinfer.toml``, which engines follow.

    Tried are the backends that are installed, oneDNN, the graph passes of a legacy model, instances and their
    threads, the largest batch, settings of the process, and padding; each by itself around the best so far.
    Each setting runs in a process of its own, in rounds that take turns with those of the others, and its
    answers are compared with Paddle's. A difference within the noise is a tie, and the setting that is closer
    to the defaults wins it. Ctrl-C ends the search; what was found until then is kept. Where there was no
    time to compare anything with the defaults, no file is written.

    Parameters
    ----------
    path
        A Paddle model, as ``Engine`` takes it.
    inputs
        Name -> array; requests take its rows in turn. None makes some up, of the sizes of ``example_shapes``.
    config
        All options, grouped; it replaces the keywords.
    goal
        "throughput" (most rows a second), "latency" (least median), or "memory" (least memory that keeps 95 %
        of the throughput of the defaults).
    p99_ms
        The most milliseconds that the 99th percentile of the latency may be; None: any number.
    memory_limit_bytes
        The most resident bytes that a process may have; None: any number.
    callers
        How many threads wait for each answer; the load is 8 of them where none is given.
    rate_per_s
        Instead: how many requests a second come, whether answered or not.
    recording
        Instead: a trace that was recorded, whose requests come again.
    rows
        The rows of each request; a recording has its own.
    seconds
        How long the search may take; what is under way then may end.
    out
        The file to write; None is ``paddleinfer.toml`` beside the model.
    progress
        It is called with the seconds that have passed.
    **options
        Options of ``Engine`` that stay as they are given; the others are tuned.

    Raises
    ------
    ConfigError, InvalidInput
        An option or the inputs are wrong, or sizes are free that nothing gives.
    ModelLoadError
        The path is no model, or Paddle cannot load it with its defaults.
    PaddleInferError
        The model cannot be measured with its defaults.
    OSError
        The file cannot be written.
    KeyboardInterrupt
        Ctrl-C, before anything was compared.
    """
    began_s = time.monotonic()
    check_timeout("seconds", seconds)
    if not seconds:
        raise ConfigError(f"seconds must be a number above 0, not {shown(seconds)}")
    wanted = Goal(goal, p99_ms, memory_limit_bytes)
    config = _with_own_backend(one_config(config, options))
    config = replace(config, tuning_file=None, check=False, warmup=False)
    spec = load_spec(path, config.runtime.params)
    if spec.format is ModelFormat.ONNX:
        raise ConfigError(f"{path} is no Paddle model, and answers are compared with Paddle's when tuning")
    if not spec.inputs:
        raise ConfigError(f"{path} has no inputs, so there is nothing to ask it")
    program = spec.program_path or spec.path
    usual_file = program.with_name(TUNING_FILE_NAME)
    file = usual_file if out is None else Path(out)
    check_writer()
    check_writable("out", file)
    load = Load(callers, rate_per_s, None if recording is None else read_recording(Path(recording)), rows)
    try:
        load = load.with_inputs(_arrays(spec, config, inputs, max(load.sizes)), spec.inputs)
    except MemoryError as error:
        raise ConfigError(f"there is no memory for requests of {max(load.sizes)} rows: {error}") from None
    cases = _cases(load)
    answers = _answers(spec, config, cases)
    least_s, most_s = (
        min(max(seconds * share, _SHORTEST_ROUND_S), _LONGEST_ROUND_S) for share in _ROUND_SHARES
    )

    def order(setting: Setting, descriptor: int) -> ChildOrder:
        changed = EngineConfig.from_options(
            {**config.flat(), **setting.changes},
            {**config.origins, **dict.fromkeys(setting.changes, "option")},
        )
        return ChildOrder(os.fspath(path), changed, load, cases, answers, least_s / 2, descriptor)

    def tell() -> None:
        if progress is not None:
            progress(time.monotonic() - began_s)

    children = Children(order, (least_s, most_s), began_s + seconds, tell)
    try:
        found = search(wanted, functools.partial(_facts, spec, config, load), STAGES, children)
    except Fell as fell:
        raise PaddleInferError(f"{path} cannot be measured with its defaults: {fell.reason}") from fell
    finally:
        children.close_all()
    report = TuningReport(
        path=os.fspath(path),
        goal=_goal_text(wanted),
        load=str(load),
        inputs=str(next(iter(load.in_turn.values()))),
        machine=_machine(),
        setting=None if found.best is None else str(found.best),
        options=_options(config, found.best),
        gain=found.gain,
        results=tuple(SettingResult.of(tried) for tried in found.tried.values()),
        not_tried=tuple(found.not_tried),
        interrupted=found.interrupted,
        seconds=time.monotonic() - began_s,
        file=None if found.best is None or not found.compared else str(file),
        is_followed=file.absolute() == usual_file.absolute(),
    )
    if report.file is not None:
        date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        write_tuning_file(file, report, program.name, date)
    return report


def _arrays(
    spec: ModelSpec, config: EngineConfig, inputs: Mapping[str, Any] | None, rows: int
) -> dict[str, Array]:
    """Returns the given inputs, or made-up ones that look like real ones; at least as many rows as a request.

    Raises
    ------
    InvalidInput
        An input is missing or unknown, or its sizes are free and nothing gives them.
    """
    if inputs is None:
        sizes = ExampleShapes(spec, config, ResolvedOptions(config)).shapes()
        shapes = [
            (rows * _MADE_UP_REQUESTS, *shape[1:]) if shape and has_free_rows(tensor) else shape
            for tensor, shape in zip(spec.inputs, sizes, strict=True)
        ]
        made = made_up(spec.inputs, shapes)
        return {tensor.name: array for tensor, array in zip(spec.inputs, made, strict=True)}
    of_alias = {tensor.alias: tensor.name for tensor in spec.inputs}
    named = {of_alias.get(name, name): array for name, array in inputs.items()}
    names = [tensor.name for tensor in spec.inputs]
    if sorted(named) != sorted(names):
        given, known = (listed(map(shown, some)) for some in (inputs, names))
        raise InvalidInput(f"there are arrays for {given}, and the inputs of the model are {known}")
    arrays = {name: np.asarray(array) for name, array in named.items()}
    return {
        tensor.name: _at_least(arrays[tensor.name], rows) if has_free_rows(tensor) else arrays[tensor.name]
        for tensor in spec.inputs
    }


def _at_least(array: Array, rows: int) -> Array:
    """Repeats rows until there are so many."""
    if array.ndim == 0 or not len(array) or len(array) >= rows:
        return array
    return np.resize(array, (rows, *array.shape[1:]))


def _cases(load: Load) -> list[dict[str, Array]]:
    """Returns the inputs on which answers are compared: of one request, or of two if that is little."""
    inputs = load.in_turn[max(load.in_turn)]
    first, second = inputs.of_request(0), inputs.of_request(1)
    small = sum(array.nbytes for array in first.values()) <= _MOST_COMPARED_BYTES
    return [first, second] if small and inputs.rows_in_turn is not None else [first]


def _answers(spec: ModelSpec, config: EngineConfig, cases: list[dict[str, Array]]) -> list[Answers]:
    """Returns Paddle's answers, with its defaults.

    Raises
    ------
    PaddleInferError
        It gives none.
    """
    ordered = [[case[tensor.name] for tensor in spec.inputs] for case in cases]
    try:
        with opening() as load:
            return answers_of_paddle(spec, config.runtime.params, ordered, load)
    except NoAnswers as error:
        raise PaddleInferError(f"{spec.path} cannot be tuned: {error}") from error


def _facts(spec: ModelSpec, config: EngineConfig, load: Load, in_force: Mapping[str, Any]) -> Facts:
    installed = installed_runtimes()
    return Facts(
        backends=tuple(name for name in BACKENDS if name in installed),
        legacy=spec.format.is_legacy,
        cores=usable_cores(),
        amd=is_amd(),
        rows_at_once=load.rows_at_once,
        merges=spec.batchable is not Batchable.NO and config.batching.batchable is not False,
        pad=config.batching.pad,
        fixed=frozenset(name for name in TUNABLE if config.gives(name)),
        in_force=in_force,
    )


def _options(config: EngineConfig, best: Setting | None) -> dict[str, Any]:
    """Returns the options of the setting that won; the backend that they were measured with is among them."""
    return {} if best is None else {"backend": config.runtime.backend, **best.changes}


def _with_own_backend(config: EngineConfig) -> EngineConfig:
    """Returns the options to begin with: "auto" leaves the backend to the search."""
    if config.runtime.backend != "auto":
        return config
    origins = {name: origin for name, origin in config.origins.items() if name != "backend"}
    return replace(config, runtime=replace(config.runtime, backend="paddle"), origins=origins)


def _machine() -> dict[str, Any]:
    versions = {"paddleinfer": __version__, **dict(installed_runtimes().values())}
    return {"processor": processor_name(), "cores": usable_cores(), "versions": versions}


def _goal_text(goal: Goal) -> str:
    limits = []
    if goal.p99_ms is not None:
        limits.append(f"p99 up to {goal.p99_ms:g} ms")
    if goal.memory_limit_bytes is not None:
        limits.append(f"memory up to {goal.memory_limit_bytes} bytes")
    return ", ".join([goal.name, *limits])
