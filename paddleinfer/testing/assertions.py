"""Asserts which batches ran, and that a row's results alone and in a batch are equal."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paddleinfer import _ext
from paddleinfer.engine.engine import Engine
from paddleinfer.sentences import shown
from paddleinfer.testing.fake_predictor import FakePredictor
from paddleinfer.testing.virtual_engine import VirtualEngine

if TYPE_CHECKING:
    from paddleinfer.engine.submission import Inputs, Results

__all__ = ["assert_batches", "assert_same_alone_and_batched"]


def assert_batches(
    source: Engine | FakePredictor | VirtualEngine, expected: Sequence[int] | Sequence[Sequence[float]]
) -> None:
    """Fails with a diff unless the expected batches ran.

    Parameters
    ----------
    source
        A FakePredictor: its runs, in the order they began. A VirtualEngine: its batches, in that order. An
        Engine: the rows of its runs, in any order, because it counts nothing else.
    expected
        The rows of each batch, or its contents: for a FakePredictor the first number of each row, for a
        VirtualEngine the numbers of the requests.
    """
    __tracebackhide__ = True
    if isinstance(source, Engine):
        counted = source.stats()["batch_rows"].items()
        rows = [batch for batch in expected if isinstance(batch, int)]
        if len(rows) != len(expected):
            raise TypeError("an Engine only counts the rows of its batches; ask its FakePredictor for more")
        ran = [_text(size) for size, count in sorted(counted) for _ in range(count)]
        wanted = [_text(size) for size in sorted(rows)]
    else:
        kinds = {isinstance(batch, int) for batch in expected}
        if len(kinds) > 1:
            raise TypeError(
                f"expected must be the rows of every batch, or what is in every one: {shown(expected)}"
            )
        ran = [_text(batch.rows if True in kinds else _contents(batch)) for batch in _batches(source)]
        wanted = [_text(batch) for batch in expected]
    if ran != wanted:
        raise AssertionError(f"other batches ran than expected (- expected, + ran):\n{_diff(wanted, ran)}")


def assert_same_alone_and_batched(engine: Engine, inputs: Inputs) -> None:
    """Fails unless the engine gives each row the same results alone and among the others.

    The results may differ by an engine's own tolerance: 1e-5 of the largest magnitude for float32 and
    float64, 1e-2 for float16, 3e-2 for bfloat16; integers must be equal.

    Parameters
    ----------
    inputs
        Two rows or more, as ``Engine.infer`` takes them.
    """
    __tracebackhide__ = True
    rows = _row_count(inputs)
    if rows < 2:
        raise ValueError(f"rows can only be compared alone and together when there are some, not {rows}")
    together = engine.infer(inputs)
    failures = []
    for place in range(rows):
        alone = engine.infer(_one_row(inputs, place))
        failures += _differences(together, alone, place, rows)
    if failures:
        raise AssertionError("rows are alone not what they are together:\n  " + "\n  ".join(failures))


def _batches(source: FakePredictor | VirtualEngine) -> Sequence[Any]:
    if isinstance(source, FakePredictor):
        return source.runs
    if isinstance(source, VirtualEngine):
        return source.batches
    raise TypeError(
        f"assert_batches takes an Engine, a FakePredictor or a VirtualEngine, not {shown(source)}"
    )


def _contents(batch: Any) -> Sequence[float]:
    contents: Sequence[float] = batch.values if hasattr(batch, "values") else batch.numbers
    return contents


def _text(batch: int | Sequence[float]) -> str:
    """Writes a batch as text; a float32 is written like the number it was made from."""
    if isinstance(batch, int):
        return f"{batch} row" + "s" * (batch != 1)
    return "[" + ", ".join(f"{value:.7g}" for value in batch) + "]"


def _diff(wanted: list[str], ran: list[str]) -> str:
    lines = []
    for tag, from_, to, from_ran, to_ran in difflib.SequenceMatcher(None, wanted, ran).get_opcodes():
        if tag == "equal":
            lines += [f"    {place}: {ran[place]}" for place in range(from_ran, to_ran)]
            continue
        lines += [f"  - {place}: {wanted[place]}" for place in range(from_, to)]
        lines += [f"  + {place}: {ran[place]}" for place in range(from_ran, to_ran)]
    return "\n".join(lines)


def _row_count(inputs: Any) -> int:
    if isinstance(inputs, Mapping):
        inputs = list(inputs.values())
    if isinstance(inputs, (list, tuple)):
        inputs = inputs[0]
    return len(inputs)


def _one_row(inputs: Any, place: int) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _one_row_of(value, place) for name, value in inputs.items()}
    if isinstance(inputs, (list, tuple)):
        return [_one_row_of(value, place) for value in inputs]
    return _one_row_of(inputs, place)


def _one_row_of(value: Any, place: int) -> Any:
    return value[place : place + 1]


def _differences(together: Results, alone: Results, place: int, rows: int) -> list[str]:
    failures = []
    for name, output in together.items():
        if output.ndim == 0 or len(output) != rows:
            if place == 0:
                failures.append(f"output {name} has the shape {output.shape} for {rows} rows")
            continue
        part = np.ascontiguousarray(output[place : place + 1])
        if part.shape != alone[name].shape:
            failures.append(
                f"output {name} of row {place} has the shape {alone[name].shape} alone and "
                f"{part.shape} among {rows} rows"
            )
            continue
        difference, equal = _ext.compare(part, alone[name], _ext.largest_magnitude(output))
        allowed = _ext.tolerance_of(output.dtype)
        if not equal:
            failures.append(
                f"output {name} of row {place} differs by {difference:.2g} of its magnitude between the row "
                f"alone and {rows} rows together; {allowed:g} is allowed"
            )
    return failures
