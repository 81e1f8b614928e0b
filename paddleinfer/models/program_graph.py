"""Reads the operators of a legacy program as a Graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from paddleinfer.models.graph import Block, Graph, Key, Operation, Output, TensorType
from paddleinfer.models.program_blocks import blocks_of
from paddleinfer.models.spec import MOST_DIMENSIONS
from paddleinfer.models.wire import Message, WireError

__all__ = ["read_graph"]

_DENSE_TENSOR = 7
_FLOATING = {4, 5, 6, 22}
_UNKNOWN = TensorType(None, False)

# Paddle 3's names of operators that have another name in a legacy program.
_KINDS = {
    "arg_max": "argmax",
    "arg_min": "argmin",
    "conditional_block_infer": "conditional_block",
    "elementwise_add": "add",
    "elementwise_div": "divide",
    "elementwise_floordiv": "floor_divide",
    "elementwise_max": "maximum",
    "elementwise_min": "minimum",
    "elementwise_mod": "remainder",
    "elementwise_mul": "multiply",
    "elementwise_sub": "subtract",
    "expand_as_v2": "expand_as",
    "expand_v2": "expand",
    "fill_any_like": "full_like",
    "fill_constant": "full",
    "fill_constant_batch_size_like": "full_batch_size_like",
    "fill_zeros_like": "full_like",
    "flatten2": "legacy_flatten",
    "flatten": "legacy_flatten",
    "flatten_contiguous_range": "flatten",
    "gaussian_random": "gaussian",
    "hard_sigmoid": "hardsigmoid",
    "hard_swish": "hardswish",
    "isfinite_v2": "isfinite",
    "isinf_v2": "isinf",
    "isnan_v2": "isnan",
    "lookup_table_v2": "embedding",
    "matmul": "legacy_matmul",
    "matmul_v2": "matmul",
    "mean": "mean_all",
    "mul": "matmul_with_flatten",
    "one_hot_v2": "one_hot",
    "range": "arange",
    "reduce_all": "all",
    "reduce_amax": "amax",
    "reduce_amin": "amin",
    "reduce_any": "any",
    "reduce_max": "max",
    "reduce_mean": "mean",
    "reduce_min": "min",
    "reduce_prod": "prod",
    "reduce_sum": "sum",
    "reshape2": "reshape",
    "size": "numel",
    "squeeze2": "squeeze",
    "sum": "add_n",
    "top_k": "topk",
    "top_k_v2": "topk",
    "transpose2": "transpose",
    "uniform_random": "uniform",
    "unsqueeze2": "unsqueeze",
    "where_index": "nonzero",
}
# Paddle 3's names of arguments that both formats have; other arguments keep their names, in lower case.
_ARGUMENTS = {
    "axistensor": "axis",
    "axestensor": "axis",
    "axestensorlist": "axis",
    "endstensor": "ends",
    "endstensorlist": "ends",
    "expandtimes": "repeat_times",
    "expand_shapes_tensor": "shape",
    "expand_times_tensor": "repeat_times",
    "input": "x",
    "repeattimes": "repeat_times",
    "repeatstensor": "repeats",
    "sectionstensorlist": "sections",
    "shapetensor": "shape",
    "shapetensorlist": "shape",
    "startstensor": "starts",
    "startstensorlist": "starts",
    "stepstensorlist": "strides",
    "stridestensor": "strides",
    "stridestensorlist": "strides",
    "valuetensor": "value",
}
_SPELLED = {
    "keepdim": ("keepdim", "keep_dim"),
    "transpose_x": ("transpose_x", "trans_x", "transpose_X"),
    "transpose_y": ("transpose_y", "trans_y", "transpose_Y"),
}
"""Legacy name -> Paddle 3's name of the attribute."""


def read_graph(data: bytes) -> Graph:
    """Reads the graph of a serialized ProgramDesc.

    Raises
    ------
    WireError
        It is damaged.
    """
    return _Reader(blocks_of(data)).graph()


class _Reader:
    def __init__(self, blocks: list[Message]) -> None:
        self._blocks = blocks
        self._types: dict[str, TensorType] = {}
        self._constants: dict[Key, TensorType] = {}
        self._owned: set[int] = set()
        for block in blocks:
            for variable in block.messages(3):
                name = variable.text(1)
                self._types[name] = _type(variable)
                if variable.integer(3, 0):
                    self._constants[name] = self._types[name]

    def graph(self) -> Graph:
        inputs: dict[int, Output] = {}
        outputs: dict[int, tuple[str, Key]] = {}
        operations = []
        for op in self._block(0).operations:
            if op.kind == "feed":
                inputs[op.attributes["col"]] = op.outputs[0]
            elif op.kind == "fetch":
                key = op.arguments["x"][0]
                outputs[op.attributes["col"]] = (str(key), key)
            else:
                operations.append(op)
        return Graph(
            Block(tuple(operations)),
            self._constants,
            tuple(inputs[column] for column in sorted(inputs)),
            tuple(outputs[column] for column in sorted(outputs)),
        )

    def _block(self, index: int) -> Block:
        if not 0 <= index < len(self._blocks) or index in self._owned:
            raise WireError(f"block {index} is missing, or belongs to two operators")
        self._owned.add(index)
        return Block(tuple(self._operation(op) for op in self._blocks[index].messages(4)))

    def _operation(self, op: Message) -> Operation:
        name = op.text(3)
        attributes = _Attributes(op)
        arguments: dict[str, tuple[Key, ...]] = {}
        for slot in op.messages(1):
            values = slot.texts(2)
            if values:
                named = slot.text(1).lower()
                arguments[_ARGUMENTS.get(named, named)] = values
        outputs = []
        for slot in op.messages(2):
            values = slot.texts(2)
            named = slot.text(1).lower() if values else ""
            outputs += [Output(value, (self._types.get(value, _UNKNOWN),), slot=named) for value in values]
        body = attributes.get("sub_block") if name in _WITH_BODY else None
        blocks = () if body is None else (self._block(body),)
        return Operation(name, _KINDS.get(name, name), arguments, attributes, tuple(outputs), blocks)


_WITH_BODY = ("while", "conditional_block", "conditional_block_infer")


class _Attributes(Mapping[str, Any]):
    """Parses attributes when they are asked for: an operator has thirty of them, and few matter here."""

    def __init__(self, op: Message) -> None:
        self._op = op

    def __getitem__(self, name: str) -> Any:
        for one in _SPELLED.get(name, (name,)):
            for attribute in self._op.messages(4, one.encode()):
                if attribute.text(1) == one:
                    return _value(attribute)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        for attribute in self._op.messages(4):
            yield attribute.text(1)

    def __len__(self) -> int:
        return sum(1 for _ in self._op.messages(4))


def _value(attribute: Message) -> Any:
    """Returns an integer, a text, a truth value, a block or a list of integers; None for other types."""
    kind = attribute.integer(2)
    if kind == 6:
        return bool(attribute.integer(10))
    if kind in _NUMBER_FIELDS:
        return attribute.integer(_NUMBER_FIELDS[kind])
    if kind in _LIST_FIELDS:
        return list(attribute.integers(_LIST_FIELDS[kind], most=_LONGEST_LIST))
    return attribute.text(5) if kind == 2 else None


# The keys are AttrType: an int, a block and a long; then lists of ints, of truth values and of longs.
_NUMBER_FIELDS = {0: 3, 8: 12, 9: 13}
_LIST_FIELDS = {3: 6, 7: 11, 11: 15}
# Lists of axes and sizes are shorter; longer ones are data.
_LONGEST_LIST = 4096


def _type(variable: Message) -> TensorType:
    kind = variable.message(2)
    if kind.integer(1) != _DENSE_TENSOR:
        return _UNKNOWN
    tensor = kind.message(3).message(1)
    shape = tuple(max(size, -1) for size in tensor.integers(2, most=MOST_DIMENSIONS))
    return TensorType(shape, tensor.integer(1) in _FLOATING)
