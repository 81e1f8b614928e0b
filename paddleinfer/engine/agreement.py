"""Proves at load that another runtime gives Paddle's answers, on inputs that are made up like real ones."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.backends.onnx.proofs import Reference
from paddleinfer.engine.array_files import read_arrays
from paddleinfer.engine.differences import difference_with_ties, not_finite_in
from paddleinfer.engine.loaded import Loaded
from paddleinfer.engine.made_up_inputs import BEYOND_FLOATS, made_up, with_large_integers
from paddleinfer.engine.paddle_answers import Answers, NoAnswers, answers_of_paddle
from paddleinfer.engine.warmup import run_once
from paddleinfer.errors import ConfigError, InvalidInput, ModelError, ModelLoadError, OutOfMemory
from paddleinfer.models.reader import TensorSpec
from paddleinfer.sentences import shown

__all__ = ["check_agreement", "given_inputs", "has_free_rows", "shapes_text"]

_log = logging.getLogger("paddleinfer")

Array = npt.NDArray[Any]
Shapes = list[tuple[int, ...]]


def check_agreement(
    loaded: Loaded,
    reference: Reference | None,
    ask_paddle: Callable[..., list[Answers]] = answers_of_paddle,
) -> None:
    """Compares the loaded model's answers with Paddle's, and reports it.

    Parameters
    ----------
    loaded
        The model, with its instances.
    reference
        None where nothing is to be compared with.
    ask_paddle
        Gets Paddle's answers.

    Raises
    ------
    ConfigError
        What ``verify_inputs`` names cannot be read, or does not fit the model.
    ModelLoadError
        An output differs by more than the tolerance across runtimes, or the model fails where Paddle answers.
    OutOfMemory
        There is no memory to run it.
    EngineClosed
        The load was ended meanwhile.
    """
    resolved = loaded.resolved
    if reference is None:
        if loaded.config.verify_inputs is not None:
            resolved.note("verify_inputs", "without effect: no other runtime is compared with Paddle")
        return
    if not loaded.config.check:
        resolved.add_note("backend", "check=False compares no answers with Paddle's")
        if loaded.config.verify_inputs is not None:
            resolved.note("verify_inputs", "without effect with check=False")
        return
    try:
        given = given_inputs(loaded)
        if given is not None:
            shapes, cases = [[array.shape for array in given]], [given]
        else:
            shapes = _shapes(loaded)
            cases = [made_up(loaded.spec.inputs, one) for one in shapes]
        large = given is None and bool(loaded.spec.plain_integers)
        facts: object = shapes if given is None else [shapes, _digest(given)]
        if large:
            facts = [shapes, "large", loaded.spec.plain_integers]
        worst = reference.recall(facts)
        if worst is None:
            try:
                worst = _compared(loaded, reference, cases, shapes, ask_paddle)
            except NoAnswers:
                if given is not None or not any(array.dtype.kind in "iu" for array in cases[0]):
                    raise
                ones = [[_without_zeros(array) for array in case] for case in cases]
                worst = _compared(loaded, reference, ones, shapes, ask_paddle)
            if large:
                worst += _compared_on_large_integers(loaded, reference, cases[-1], shapes[-1], ask_paddle)
            reference.remember(facts, worst)
    except (NoAnswers, InvalidInput) as error:
        resolved.add_note("backend", f"its answers were not compared with Paddle's: {error}")
        _log.warning("%s: its answers were not compared with Paddle's: %s", loaded.label, error)
        return
    sizes = ", ".join(shapes_text(one) for one in shapes)
    resolved.add_note("backend", f"answers agree with Paddle's ({sizes}): {worst}")
    if given is not None:
        resolved.note("verify_inputs", f"answers were compared on its arrays ({sizes})")


def given_inputs(loaded: Loaded) -> list[Array] | None:
    """Returns the inputs that ``verify_inputs`` names, in the model's order; None where it names none.

    Raises
    ------
    ConfigError
        The file cannot be read, or its arrays do not fit the model.
    """
    path = loaded.config.verify_inputs
    if path is None:
        return None
    try:
        arrays = read_arrays(Path(path), "verify_inputs")
        return loaded.converter(arrays.get(None, arrays))
    except InvalidInput as error:
        raise ConfigError(f"the arrays that verify_inputs names ({path}) cannot be used: {error}") from error


def _without_zeros(array: Array) -> Array:
    """Returns made-up integers that divide all, and that every table has; floats as they are."""
    return np.ones_like(array) if array.dtype.kind in "iu" else array


def _digest(arrays: Sequence[Array]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.dtype.str.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _shapes(loaded: Loaded) -> list[Shapes]:
    """Returns the shapes of the inputs, for each case: two rows and one of the least sizes, one of usual."""
    least, usual = loaded.examples.shapes(least=True), loaded.examples.shapes()
    found: list[Shapes] = []
    for rows, sizes in ((1, least), (2, least), (1, usual)):
        shapes = [
            (rows, *shape[1:]) if shape and has_free_rows(tensor) else shape
            for tensor, shape in zip(loaded.spec.inputs, sizes, strict=True)
        ]
        total_bytes = sum(
            math.prod(shape) * _ext.NUMPY_DTYPES[tensor.dtype].itemsize
            for tensor, shape in zip(loaded.spec.inputs, shapes, strict=True)
        )
        if shapes not in found and total_bytes <= loaded.config.batching.max_queue_bytes:
            found.append(shapes)
    if not found:
        raise InvalidInput("inputs of such sizes have more bytes than max_queue_bytes allows")
    return found


def has_free_rows(tensor: TensorSpec) -> bool:
    """Tells whether callers choose how many rows an input has."""
    return tensor.shape is None or bool(tensor.shape and tensor.shape[0] < 0)


def _compared_on_large_integers(
    loaded: Loaded,
    reference: Reference,
    case: Sequence[Array],
    shapes: Shapes,
    ask_paddle: Callable[..., list[Answers]],
) -> str:
    """Compares the outputs of integers alone; floats are as good as equal numbers of 32 bits make them."""
    names = loaded.spec.plain_integers
    inputs = with_large_integers(loaded.spec.inputs, case, names)
    kind = f"integers of both signs beyond {BEYOND_FLOATS:,}"
    try:
        _compared(loaded, reference, [inputs], [shapes], ask_paddle, of_integers=kind)
    except NoAnswers as error:
        return f"; not compared on {kind}: {error}"
    return f"; integers are equal on {kind}, too"


def _compared(
    loaded: Loaded,
    reference: Reference,
    cases: Sequence[Sequence[Array]],
    shapes: Sequence[Shapes],
    ask_paddle: Callable[..., list[Answers]],
    of_integers: str = "",
) -> str:
    """Returns the worst difference in words.

    `of_integers` names the inputs where only outputs of integers are to be compared.
    """
    wanted = ask_paddle(loaded.spec, loaded.config.runtime.params, cases, reference.load)
    largest: dict[str, float] = {}
    for answers in wanted:
        for name, output in answers.items():
            largest[name] = max(largest.get(name, 0.0), _ext.largest_magnitude(output))
    worst = (0.0, "")
    for case, answers, sizes in zip(cases, wanted, shapes, strict=True):
        given = _answers(loaded, case, sizes)
        for name, output in answers.items():
            if of_integers and output.dtype.kind not in "iu":
                continue
            difference, allowed = difference_with_ties(name, given[name], answers, largest)
            if difference > allowed:
                raise ModelLoadError(
                    _refusal(
                        loaded, reference, name, sizes, of_integers, given[name], output, difference, allowed
                    )
                )
            if allowed > 0 and difference / allowed > worst[0]:
                said = f"{difference:.2g} at most, where {allowed:.2g} is allowed"
                worst = (difference / allowed, f"output {shown(name)} differs by {said}")
    agreed = worst[1] or "all outputs are equal"
    not_finite = sum(not_finite_in(output) for answers in wanted for output in answers.values())
    return f"{agreed}; {not_finite:,} values are not finite, and prove nothing" if not_finite else agreed


def _answers(loaded: Loaded, case: Sequence[Array], sizes: Shapes) -> Answers:
    try:
        return run_once(loaded.core, case)
    except OutOfMemory:
        raise
    except ModelError as error:
        raise ModelLoadError(
            f"{loaded.spec.path} fails in another runtime where Paddle answers, on inputs of the shapes "
            f"{shapes_text(sizes)}: {error}; {_WAYS_ON}"
        ) from error


_WAYS_ON = 'backend="paddle" runs it, and check=False loads it all the same'
_OTHER_INPUTS = "verify_inputs with integers of your own has the answers on those compared instead"


def _refusal(
    loaded: Loaded,
    reference: Reference,
    name: str,
    sizes: Shapes,
    of_integers: str,
    given: Array,
    wanted: Array,
    difference: float,
    allowed: float,
) -> str:
    begin = (
        f"{loaded.spec.path} gives other answers in {reference.runtime} than in Paddle: output {shown(name)} "
    )
    on = f"on inputs of the shapes {shapes_text(sizes)}; {_WAYS_ON}"
    if of_integers:
        on = f"on {of_integers} of the shapes {shapes_text(sizes)}; {_OTHER_INPUTS}; {_WAYS_ON}"
    if given.shape != wanted.shape or given.dtype != wanted.dtype:
        return f"{begin}is {given.dtype} {given.shape} and not {wanted.dtype} {wanted.shape}, {on}"
    if math.isinf(difference):
        return f"{begin}is not equal, {on}"
    return f"{begin}differs by {difference:.2g}, and {allowed:.2g} is allowed, {on}"


def shapes_text(shapes: Sequence[tuple[int, ...]]) -> str:
    """Writes the shapes of a model's inputs, as 1x3x32x320 1x8."""
    return " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes) or "none"
