"""Finds the integer inputs of a program that may be any number: they pick no element, and are no size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set

from paddleinfer.models.graph import Graph, Key, Operation
from paddleinfer.models.rows.operator_names import ELEMENTWISE, LIKE, SHAPES

__all__ = ["plain_integers"]

_SHIFTS = frozenset(("bitwise_left_shift", "bitwise_right_shift"))  # a shift by a large number has no answer
_RECKONING = (ELEMENTWISE - _SHIFTS) | frozenset(
    (
        *("all", "amax", "amin", "any", "argmax", "argmin", "cummax", "cummin", "cumprod", "cumsum"),
        *(
            "list_combine",
            "list_slice",
            "list_split",
            "max",
            "mean",
            "mean_all",
            "min",
            "prod",
            "stack",
            "sum",
        ),
    )
)
"""Operators that take numbers of any size, in each argument but those that lay out the result."""
_MOVING = frozenset(
    (
        *("concat", "expand", "flatten", "flip", "gather", "gather_nd", "index_select", "reshape", "roll"),
        *("slice", "split", "split_with_num", "squeeze", "strided_slice", "tile", "topk", "transpose"),
        "unsqueeze",
    )
)
"""Operators that move what is in their first argument, or give it on; the others say where."""
_LAYOUT = frozenset(("axis", "sections", "shape"))
_WITHOUT_VALUES = SHAPES | LIKE


def plain_integers(read_graph: Callable[[], Graph]) -> frozenset[int]:
    """Returns the places of the inputs whose values reach nothing but arithmetic; none where that is unknown.

    The program is read once, from back to front.

    Parameters
    ----------
    read_graph
        Returns the program; an input of floats is judged like one of integers.
    """
    try:
        graph = read_graph()
        spoiled: set[Key] = set()
        for operation in reversed(graph.block.operations):
            spoiled.update(_spoiled_by(operation, spoiled))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return frozenset()  # a malformed program; the analysis of its rows says so
    return frozenset(place for place, tensor in enumerate(graph.inputs) if tensor.key not in spoiled)


def _spoiled_by(operation: Operation, spoiled: Set[Key]) -> Iterator[Key]:
    """Yields the values that are not plain, for what the operator does with them or with its results."""
    if operation.blocks:
        yield from _used_in(operation)
        return
    if operation.kind in _WITHOUT_VALUES:
        return
    goes_on = any(output.key in spoiled for output in operation.outputs)
    for name, keys in operation.arguments.items():
        reckons = operation.kind in _RECKONING and name not in _LAYOUT
        moves = operation.kind in _MOVING and name == "x"
        if goes_on or not (reckons or moves):
            yield from keys


def _used_in(operation: Operation) -> Iterator[Key]:
    """Yields what it and the operators of its blocks take, which use values from outside by name, too."""
    for keys in operation.arguments.values():
        yield from keys
    for block in operation.blocks:
        for inner in block.operations:
            yield from _used_in(inner)
