"""Tells whether inputs of given shapes are large enough for a model's convolutions.

Paddle does not check this: a convolution whose kernel is larger than its input computes with memory that is
not its own, or ends in an exception without a reason. So sizes are followed through the program, from the
inputs to each convolution, as far as the operators are known here. A value that cannot be followed has the
size that the program declares, or an unknown one, and is never a reason to refuse.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from paddleinfer.models import pir_graph, program_graph
from paddleinfer.models.graph import Graph, Key, Operation, TensorType

__all__ = ["SizeCheck", "TooSmall", "size_check_of"]

Sizes = tuple[int | None, ...]
Known = Mapping[Key, "Sizes | None"]
Rule = Callable[[Operation, Known], "Sizes | TooSmall | None"]

_CONVOLUTIONS: Final = frozenset(
    (
        "conv2d",
        "conv3d",
        "depthwise_conv2d",
        "fused_conv2d",
        "fused_conv3d",
        "conv2d_fusion",
        "conv2d_bias",
        "depthwise_conv2d_bias",
    )
)
_POOLS: Final = frozenset(("pool2d", "pool3d", "max_pool2d_with_index", "max_pool3d_with_index"))
# Operators whose result has the size of their first argument.
_AS_THEIR_INPUT: Final = frozenset(
    (
        "abs",
        "assign",
        "batch_norm",
        "cast",
        "celu",
        "ceil",
        "clip",
        "cos",
        "dropout",
        "elu",
        "erf",
        "exp",
        "floor",
        "gelu",
        "group_norm",
        "hardshrink",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "instance_norm",
        "layer_norm",
        "leaky_relu",
        "log",
        "logsigmoid",
        "mish",
        "pow",
        "prelu",
        "relu",
        "relu6",
        "round",
        "rsqrt",
        "scale",
        "selu",
        "sigmoid",
        "sign",
        "silu",
        "sin",
        "softmax",
        "softplus",
        "softshrink",
        "softsign",
        "sqrt",
        "square",
        "swish",
        "sync_batch_norm",
        "tanh",
        "tanh_shrink",
        "thresholded_relu",
    )
)
_BROADCASTING: Final = frozenset(
    (
        "add",
        "subtract",
        "multiply",
        "divide",
        "maximum",
        "minimum",
        "elementwise_pow",
    )
)
_INTERPOLATIONS: Final = frozenset(("nearest_interp", "bilinear_interp", "bicubic_interp"))
# The exceptions that a program of an unexpected layout may raise.
_MALFORMED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)


@dataclass(frozen=True)
class TooSmall:
    """A convolution that would not fit its input."""

    operator: str
    given: tuple[int, ...]
    """The sizes that it would be given, its padding included."""
    needed: tuple[int, ...]
    """The sizes that its kernel covers."""


def size_check_of(program: bytes, *, legacy: bool) -> SizeCheck | None:
    """Makes the check for a program file; None if it has no convolution or its operators cannot be read."""
    if b"conv" not in program:
        return None
    try:
        read = program_graph.read_graph(program) if legacy else pir_graph.read_graph(json.loads(program))
        check = SizeCheck(read)
    except (*_MALFORMED, RecursionError):
        return None
    return check if check.convolutions else None


class SizeCheck:
    """Follows sizes through a program.

    Parameters
    ----------
    graph
        The program's operators.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._numbers = _small_numbers(graph)
        operations = graph.block.operations
        self._lists = {
            op.outputs[0].key: [part for values in op.arguments.values() for part in values]
            for op in operations
            if op.kind == "list_combine"
        }
        last = max((place for place, op in enumerate(operations) if op.kind in _CONVOLUTIONS), default=-1)
        self._steps = [
            (_read(op), self._rule(op.kind), [(out.key, _declared(out.types)) for out in op.outputs])
            for op in operations[: last + 1]
        ]
        self._nested = any(op.blocks for op in operations)
        self.convolutions = sum(op.kind in _CONVOLUTIONS for op in operations)
        """The number of convolutions outside of control flow."""

    def look_at(self, shapes: Sequence[Sequence[int]]) -> tuple[TooSmall | None, bool]:
        """Returns the first convolution these shapes are too small for, and whether all sizes are known.

        If not all are known, an unknown one may not fit, either.
        """
        found, followed = self._follow(shapes)
        return found, not self._nested and followed == self.convolutions

    def _follow(self, shapes: Sequence[Sequence[int]]) -> tuple[TooSmall | None, int]:
        sizes: dict[Key, Sizes | None] = {key: kind.shape for key, kind in self._graph.constants.items()}
        for tensor, shape in zip(self._graph.inputs, shapes, strict=True):
            sizes[tensor.key] = tuple(shape)
        followed = 0
        for op, rule, outputs in self._steps:
            sizes.update(outputs)
            if rule is None:
                continue
            try:
                result = rule(op, sizes)
            except _MALFORMED:
                continue
            if isinstance(result, TooSmall):
                return result, followed
            if result is not None:
                followed += op.kind in _CONVOLUTIONS
                sizes[op.outputs[_main(op)].key] = result
        return None, followed

    def _rule(self, kind: str) -> Rule | None:
        if kind in _CONVOLUTIONS:
            return self._convolution
        if kind in _AS_THEIR_INPUT:
            return lambda op, sizes: sizes.get(op.arguments["x"][0])
        if kind in _BROADCASTING:
            return _broadcast
        if kind in _POOLS:
            return self._pool
        if kind == "concat":
            return self._concat
        if kind in _INTERPOLATIONS or kind.removesuffix("_v2") in _INTERPOLATIONS:
            return _interpolated
        return None

    def _convolution(self, op: Operation, sizes: Known) -> Sizes | TooSmall | None:
        """Returns the result's sizes; None if the input's are not known."""
        x, kernel = sizes.get(_argument(op, "x", 0)), sizes.get(_argument(op, "filter", 1))
        if x is None or kernel is None or len(x) != len(kernel):
            return None
        axes = len(x) - 2
        last = _is_channels_last(op)
        first = 1 if last else 2
        inner = x[first : first + axes]
        if None in inner or None in kernel:
            return None
        known = [size for size in inner if size is not None]
        strides, dilations = _each(op, "strides", axes, 1), _each(op, "dilations", axes, 1)
        covers = [d * ((size or 1) - 1) + 1 for size, d in zip(kernel[2:], dilations, strict=True)]
        algorithm = op.attributes.get("padding_algorithm", "EXPLICIT")
        if algorithm == "SAME":
            out = [-(-size // stride) for size, stride in zip(known, strides, strict=True)]
        else:
            pads = [0] * (2 * axes) if algorithm == "VALID" else _pads(op, axes)
            padded = [size + pads[2 * axis] + pads[2 * axis + 1] for axis, size in enumerate(known)]
            if any(size < covered for size, covered in zip(padded, covers, strict=True)):
                return TooSmall(op.name, tuple(padded), tuple(covers))
            out = [(size - c) // stride + 1 for size, c, stride in zip(padded, covers, strides, strict=True)]
        return (x[0], *out, kernel[0]) if last else (x[0], kernel[0], *out)

    def _pool(self, op: Operation, sizes: Known) -> Sizes | None:
        x = sizes.get(op.arguments["x"][0])
        if x is None:
            return None
        axes = len(x) - 2
        first = 1 if _is_channels_last(op) else 2
        kernel = op.attributes.get("ksize") or op.attributes.get("kernel_size")
        if kernel is None:
            kernel = self._numbers[_argument(op, "kernel_size", 1)]
        kernel = [*kernel, *kernel][:axes]
        if op.attributes.get("global_pooling"):
            out: list[int | None] = [1] * axes
        elif op.attributes.get("adaptive"):
            out = list(kernel)
        elif op.attributes.get("padding_algorithm", "EXPLICIT") != "EXPLICIT":
            return None
        else:
            pads, strides = _pads(op, axes), _each(op, "strides", axes, 1)
            up = op.attributes.get("ceil_mode", False)
            out = []
            for axis, size in enumerate(x[first : first + axes]):
                left = None if size is None else size + pads[2 * axis] + pads[2 * axis + 1] - kernel[axis]
                stride = strides[axis]
                out.append(
                    None if left is None or left < 0 else (left + (stride - 1 if up else 0)) // stride + 1
                )
        return (*x[:first], *out, *x[first + axes :])

    def _concat(self, op: Operation, sizes: Known) -> Sizes | None:
        axis = op.attributes.get("axis")
        if axis is None:
            axis = self._numbers[op.arguments["axis"][0]][0]
        keys = [key for name, values in op.arguments.items() if name != "axis" for key in values]
        parts: list[Sizes | None] = [part for key in keys for part in self._parts(key, sizes)]
        known = [part for part in parts if part is not None]
        if not known or len(known) < len(parts):
            return None
        along = [part[axis] for part in known]
        total = None if None in along else sum(size or 0 for size in along)
        joined: list[int | None] = [
            next((part[place] for part in known if part[place] is not None), None)
            for place in range(len(known[0]))
        ]
        joined[axis] = total
        return tuple(joined)

    def _parts(self, key: Key, sizes: Known) -> list[Sizes | None]:
        """Returns the tensors of a ``.json`` program's list, or the tensor itself."""
        return [sizes.get(part) for part in self._lists.get(key, [key])]


def _read(op: Operation) -> Operation:
    """Returns the operation with its attributes parsed."""
    return replace(op, attributes=dict(op.attributes))


def _small_numbers(graph: Graph) -> dict[Key, list[int]]:
    """Finds the values of operators that hold a few integers."""
    found: dict[Key, list[int]] = {}
    for op in graph.block.operations:
        value = op.attributes.get("value")
        if op.kind == "full_int_array" and isinstance(value, list):
            found[op.outputs[0].key] = [int(number) for number in value]
        elif op.kind == "full" and isinstance(value, (int, float)):
            found[op.outputs[0].key] = [int(value)]
    return found


def _declared(types: Sequence[TensorType]) -> Sizes | None:
    shape = types[0].shape if len(types) == 1 else None
    return None if shape is None else tuple(size if size >= 0 else None for size in shape)


def _main(op: Operation) -> int:
    """Returns the index of an operator's main result; legacy operators name theirs, in any order."""
    names = [output.slot for output in op.outputs]
    return next((names.index(name) for name in ("out", "output", "y") if name in names), 0)


def _argument(op: Operation, name: str, place: int) -> Key:
    return op.arguments[name][0] if name in op.arguments else list(op.arguments.values())[place][0]


def _is_channels_last(op: Operation) -> bool:
    return str(op.attributes.get("data_format", "NCHW")).endswith("C")


def _each(op: Operation, name: str, axes: int, default: int) -> list[int]:
    """Returns one number for each axis."""
    given = [int(number) for number in op.attributes.get(name) or [default]]
    return given * axes if len(given) == 1 else given


def _pads(op: Operation, axes: int) -> list[int]:
    """Returns the padding before and after each axis."""
    given = _each(op, "paddings", axes, 0)
    if len(given) == axes:
        return [pad for pad in given for _ in range(2)]
    if len(given) == 2 * axes:
        return given
    raise ValueError(given)


def _broadcast(op: Operation, sizes: Known) -> Sizes | None:
    """Returns the first argument's sizes, widened where the second has more axes or larger sizes."""
    x, y = (sizes.get(_argument(op, name, place)) for place, name in enumerate("xy"))
    if x is None or y is None or op.attributes.get("axis", -1) != -1:
        return x if y is not None and x is not None and len(y) <= len(x) else None
    rank = max(len(x), len(y))
    x, y = ((1,) * (rank - len(one)) + one for one in (x, y))
    return tuple(_wider(a, b) for a, b in zip(x, y, strict=True))


def _wider(a: int | None, b: int | None) -> int | None:
    if a == 1:
        return b
    if b in (1, a):
        return a
    return a if b is None else b if a is None else None


def _interpolated(op: Operation, sizes: Known) -> Sizes | None:
    x = sizes.get(op.arguments["x"][0])
    scale = op.attributes.get("scale")
    if x is None or len(x) != 4 or len(op.arguments) > 1 or _is_channels_last(op):
        return None
    out = [op.attributes.get("out_h", -1), op.attributes.get("out_w", -1)]
    if min(out) <= 0:
        scales: list[Any] = [scale] * 2 if isinstance(scale, (int, float)) else list(scale or ())
        if len(scales) == 1:
            scales *= 2
        inner = x[2:]
        if len(scales) != 2 or None in inner:
            return None
        out = [int((size or 0) * factor) for size, factor in zip(inner, scales, strict=True)]
    return (*x[:2], *out)
