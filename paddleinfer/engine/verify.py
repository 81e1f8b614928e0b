"""Verifies that a model's answers are the same alone, in a batch, padded, and in another runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.backends.onnx.conversion import installed_tools
from paddleinfer.backends.onnx.installed import InstalledOnnxRuntime, InstalledOpenVino
from paddleinfer.backends.paddle.installed import installed_package
from paddleinfer.backends.runtimes import installed_runtimes
from paddleinfer.config import Backend, BatchingOptions, EngineConfig, EngineOptions, RuntimeOptions
from paddleinfer.engine.agreement import given_inputs
from paddleinfer.engine.certificate import Certificate, Compared
from paddleinfer.engine.differences import Differences
from paddleinfer.engine.engine import Engine, one_config
from paddleinfer.engine.generation import Generation
from paddleinfer.engine.lifecycle import defer_sigint
from paddleinfer.engine.opening import opening
from paddleinfer.engine.paddle_answers import Answers, NoAnswers, answers_of_paddle
from paddleinfer.engine.verification_cases import Case, given_cases, made_up_cases
from paddleinfer.engine.warmup import run_once
from paddleinfer.errors import ConfigError, ModelError, ModelLoadError, OutOfMemory
from paddleinfer.models.reader import Batchable, ModelFormat, ModelSpec

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["verify"]

Array = npt.NDArray[Any]


def verify(
    path: str | os.PathLike[str],
    inputs: Mapping[str, Any] | None = None,
    config: EngineConfig | None = None,
    **options: Unpack[EngineOptions],
) -> Certificate:
    """Runs a model on some inputs in each way that an engine may run it, and compares the answers.

    Each row runs alone. Then the rows run in one batch, from front to back and from back to front; where
    ``pad`` is set each runs padded; and where another runtime can run the model, that runs them. Differences
    within one runtime may be 1e-5 of an output's largest magnitude (float16 1e-2, bfloat16 3e-2), across
    runtimes ten times that for floats of 32 and 64 bits, and 1e-6 more; integers must be equal.

    Parameters
    ----------
    path
        A model, as ``Engine`` takes it.
    inputs
        Name -> array with any number of rows; None takes those of the option ``verify_inputs``, or else makes
        some up, of the sizes of ``example_shapes``. Dtypes convert as in ``Engine.infer``.
    config
        All options, grouped; it replaces the keywords.
    **options
        The options of ``Engine``. ``backend`` is the runtime that runs the model. "paddle" is compared with
        onnxruntime, or else OpenVINO, if that and paddle2onnx are installed; the others must be compared with
        Paddle.

    Raises
    ------
    ConfigError, ModelLoadError
        An option is wrong, or the path is no model that can be loaded.
    InvalidInput
        The inputs do not fit the model, or none were given and sizes are free that nothing gives.
    ModelError
        The model fails on a row alone.
    OutOfMemory, ThreadStartError
        There is no memory, or no thread, for it now.
    """
    config = one_config(config, options)
    with _opened(path, config) as engine:
        loaded = engine._generation
        config = loaded.config  # with the options of a tuning file
        spec, core, padding = loaded.spec, loaded.core, loaded.padding
        not_compared: dict[Compared, str] = {}
        apart = _why_apart(loaded)
        merges = not apart
        if inputs is None and config.verify_inputs is not None:
            named = given_inputs(loaded)
            assert named is not None
            inputs = dict(zip((tensor.name for tensor in spec.inputs), named, strict=True))
        if inputs is None:
            cases = made_up_cases(loaded, padding, merges)
        else:
            cases = given_cases(loaded, padding, merges, inputs)
        found = Differences([tensor.name for tensor in spec.outputs])
        alone = [_alone(core, case, made_up=inputs is None) for case in cases]
        for answers in alone:
            for one in answers:
                found.saw(one)
                found.count_not_finite(one)
        if merges and max(len(case.rows) for case in cases) > 1:
            for case, answers in zip(cases, alone, strict=True):
                _compare_batched(core, case, answers, found)
                _compare_batched(core, case.back_to_front, answers[::-1], found)
        else:
            not_compared["batched"] = apart or "one row has as many bytes as may wait"
        reason = _compare_padded(loaded, cases, alone, found)
        if reason:
            not_compared["padded"] = reason
        own = config.runtime.backend
        other_runtime, lacking = None, ""
        try:
            other = _other_backend(spec, own)
            other_runtime = _runtime(other)
            requests = _requests(cases, alone, core)
            _compare_runtimes(spec, config, other, requests, found)
        except (ConfigError, NoAnswers, ModelLoadError) as error:
            not_compared["runtime"] = str(error)
            if own != "paddle" and other_runtime is not None:
                lacking = f"the answers could not be compared with those of {other_runtime}: {error}"
            other_runtime = None
    return Certificate(
        path=str(spec.path),
        runtime=_runtime(own),
        other_runtime=other_runtime,
        inputs=tuple(case.about for case in cases),
        agreements=found.agreements(),
        not_compared=not_compared,
        lacking=lacking,
        not_finite=found.not_finite,
    )


def _opened(path: str | os.PathLike[str], config: EngineConfig) -> Engine:
    """Opens an engine that neither checks nor warms up. Ctrl-C waits: a load must not be interrupted."""
    instances = 1 if config.runtime.instances == "auto" else config.runtime.instances
    runtime = replace(config.runtime, instances=instances)
    with defer_sigint():
        engine = Engine(path, replace(config, runtime=runtime, check=False, warmup=False))
    return engine


def _why_apart(loaded: Generation) -> str:
    """Says why requests never share a run; empty where they may, or where only a comparison can tell."""
    spec, batching = loaded.spec, loaded.config.batching
    if batching.batchable is False:
        return "batchable=False runs each request by itself"
    if batching.most_rows == 1:
        return "max_batch_size=1 runs each row by itself"
    if not spec.inputs:
        return "the model has no inputs"
    if spec.batchable is Batchable.NO and not spec.operators_forbid:
        return spec.batchable_reason
    return ""


def _alone(core: _ext.Core, case: Case, *, made_up: bool) -> list[Answers]:
    try:
        return [run_once(core, row) for row in case.rows]
    except OutOfMemory:
        raise
    except ModelError as error:
        if not made_up:
            raise
        raise ModelError(f"the model fails on {case.about}, and may run on real inputs: {error}") from error


def _compare_batched(core: _ext.Core, case: Case, alone: Sequence[Answers], found: Differences) -> None:
    count = len(case.rows)
    if count == 1:
        return
    try:
        together = run_once(core, case.together)
    except OutOfMemory:
        raise
    except ModelError as error:
        reason = f"is not given for {count} rows together, and is for each alone: {error}"
        found.fail("batched", reason, case.about)
        return
    whole: Answers = {}
    for name, output in together.items():
        if output.ndim == 0 or len(output) != count:
            reason = f"has the shape {output.shape} for {count} rows, which is not one row for each"
            found.differ("batched", name, reason, case.about)
            continue
        whole[name] = output
    for place, answers in enumerate(alone):
        rows = {name: output[place : place + 1] for name, output in whole.items()}
        found.compare("batched", rows, answers, case.names[place])


def _compare_padded(
    loaded: Generation, cases: Sequence[Case], alone: Sequence[Sequence[Answers]], found: Differences
) -> str:
    """Compares rows with what they are padded; returns why there is nothing to compare."""
    padding = loaded.padding
    if padding is None:
        return "pad is not set"
    names = [tensor.name for tensor in loaded.spec.inputs]
    any_padded = False
    for case, answers in zip(cases, alone, strict=True):
        for place, (row, wanted) in enumerate(zip(case.rows, answers, strict=True)):
            padded = padding.padded(dict(zip(names, row, strict=True)))
            if padded.share == 0:
                continue
            any_padded = True
            sizes = " ".join("x".join(map(str, padded.feeds[name].shape)) for name in names)
            about = f"{case.names[place]}, padded to {sizes}"
            try:
                given = padded.crop(run_once(loaded.core, [padded.feeds[name] for name in names]))
            except OutOfMemory:
                raise
            except ModelError as error:
                found.fail("padded", f"is not given: {error}", about)
                continue
            found.compare("padded", given, wanted, about)
    return "" if any_padded else "no input has a length that pad changes"


Request = tuple[list[Array], Answers, str]


def _requests(cases: Sequence[Case], alone: Sequence[Sequence[Answers]], core: _ext.Core) -> list[Request]:
    """Returns what both runtimes run: the first row of each case, and all its rows together."""
    requests: list[Request] = []
    for case, answers in zip(cases, alone, strict=True):
        requests.append((case.rows[0], answers[0], case.names[0]))
        if len(case.rows) > 1:
            together = case.together
            try:
                requests.append((together, run_once(core, together), case.about))
            except OutOfMemory:
                raise
            except ModelError:  # it was noted when the rows were compared
                continue
    return requests


def _other_backend(spec: ModelSpec, own: str) -> Backend:
    """Names the backend to compare with.

    Raises
    ------
    ConfigError
        There is none; the sentence says why.
    """
    if spec.format is ModelFormat.ONNX:
        raise ConfigError("Paddle does not run a .onnx file")
    if own != "paddle":
        return "paddle"
    installed = installed_runtimes()
    if "openvino" in installed and "onnxruntime" not in installed:
        return "openvino"
    InstalledOnnxRuntime.find()
    installed_tools()
    return "onnxruntime"


def _runtime(backend: str) -> str:
    if backend == "paddle":
        return " ".join(installed_package() or ("paddle",))
    if backend == "openvino":
        return f"OpenVINO {InstalledOpenVino.find().version}"
    return f"onnxruntime {InstalledOnnxRuntime.find().version}"


def _compare_runtimes(
    spec: ModelSpec, config: EngineConfig, other: Backend, requests: Sequence[Request], found: Differences
) -> None:
    """Has the other runtime run the requests, and compares.

    Raises
    ------
    NoAnswers, ModelLoadError, ConfigError
        It cannot run them.
    """
    options = config.runtime
    if other == "paddle":
        with opening() as load:
            wanted = answers_of_paddle(spec, options.params, [arrays for arrays, *_ in requests], load)
        for one in wanted:
            found.saw(one)
        for (_, given, about), answers in zip(requests, wanted, strict=True):
            found.compare("runtime", given, answers, about)
        return
    runtime = RuntimeOptions(
        backend=other,
        params=options.params,
        onnx_cache=options.onnx_cache,
        onnx_cache_bytes=options.onnx_cache_bytes,
    )
    batching = BatchingOptions(batchable=False)
    with _opened(spec.path, EngineConfig(runtime, batching, tuning_file=None)) as engine:
        for arrays, answers, about in requests:
            try:
                given = run_once(engine._generation.core, arrays)
            except OutOfMemory:
                raise
            except ModelError as error:
                found.fail("runtime", f"is not given by {_runtime(other)}: {error}", about)
                continue
            found.compare("runtime", given, answers, about)
