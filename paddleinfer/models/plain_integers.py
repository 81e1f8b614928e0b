"""Finds the integer inputs of a program that may be any number: they pick no element, and are no size."""

from __future__ import annotations

from collections.abc import Callable

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

    Parameters
    ----------
    read_graph
        Returns the program; an input of floats is judged like one of integers.
    """
    try:
        graph = read_graph()
        return frozenset(
            place
            for place, tensor in enumerate(graph.inputs)
            if _is_plain(graph.block.operations, tensor.key)
        )
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return frozenset()  # a malformed program; the analysis of its rows says so


def _is_plain(operations: tuple[Operation, ...], key: Key) -> bool:
    reached = {key}
    for operation in operations:
        through = {name for name, keys in operation.arguments.items() if reached.intersection(keys)}
        if not through or operation.kind in _WITHOUT_VALUES:
            continue
        reckons = operation.kind in _RECKONING and not through & _LAYOUT
        moves = operation.kind in _MOVING and through == {"x"}
        if operation.blocks or not (reckons or moves):
            return False
        reached.update(output.key for output in operation.outputs)
    return True
