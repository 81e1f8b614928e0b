"""Reads the legacy program of ``.pdmodel`` and ``__model__`` files: Paddle's ProgramDesc protobuf.

Field numbers are those of Paddle's ``framework.proto``; it never reuses one.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from paddleinfer.errors import ModelLoadError
from paddleinfer.models.columns import ColumnError, Columns
from paddleinfer.models.program_blocks import blocks_of
from paddleinfer.models.program_graph import read_graph
from paddleinfer.models.spec import MOST_DIMENSIONS, Parameter, Program, TensorSpec
from paddleinfer.models.wire import Message, WireError

__all__ = ["DATA_TYPES", "read_program"]

DATA_TYPES = {
    0: "bool",
    1: "int16",
    2: "int32",
    3: "int64",
    4: "float16",
    5: "float32",
    6: "float64",
    19: "size_t",
    20: "uint8",
    21: "int8",
    22: "bfloat16",
    23: "complex64",
    24: "complex128",
    32: "float8_e4m3fn",
    33: "float8_e5m2",
    36: "uint16",
    37: "uint32",
    38: "uint64",
}
"""The values of Paddle's VarType.Type that are types of elements."""

_DENSE_TENSOR = 7
_OTHER_TYPES = {
    8: "selected rows",
    13: "array of tensors",
    25: "string",
    26: "list of strings",
    27: "vocabulary",
    29: "string",
    30: "sparse tensor",
    31: "sparse tensor",
}
# FEED_MINIBATCH, FETCH_LIST and RAW are persistable in the file, but never loaded.
_NOT_LOADED = {9, 10, 17}

_BLOCK_ATTRIBUTE = 8

# The first field is a block, whose own first fields are its index 0 and its parent's.
_FIRST_BLOCK = re.compile(rb"\x0a[\x80-\xff]{0,9}[\x00-\x7f]\x08\x00\x10")


def read_program(data: bytes, path: Path) -> Program:
    """Reads the inputs, outputs and parameters of a serialized ProgramDesc.

    Parameters
    ----------
    data
        The whole file.
    path
        Its name, for messages.

    Raises
    ------
    ModelLoadError
        The bytes are cut off, damaged, or not a ProgramDesc.
    """
    try:
        return _read(data)
    except (WireError, ColumnError) as error:
        if _FIRST_BLOCK.match(data):
            raise ModelLoadError(
                f"{path} is a Paddle program that is truncated or damaged ({error}); copy or export it again"
            ) from error
        raise ModelLoadError(
            f"{path} is not a Paddle program: a .pdmodel or __model__ file holds a serialized ProgramDesc"
        ) from error


def _read(data: bytes) -> Program:
    blocks = blocks_of(data)
    if not blocks:
        raise WireError("no block")
    _check_blocks(blocks)
    feeds, fetches = Columns[str]("input"), Columns[str]("output")
    for op in blocks[0].messages(4, b"feed", b"fetch"):
        kind = op.text(3)
        if kind == "feed":
            feeds.add(_integer_attribute(op, "col"), _first_argument(op, 2, "Out"))
        elif kind == "fetch":
            fetches.add(_integer_attribute(op, "col"), _first_argument(op, 1, "X"))
    fed, fetched = feeds.in_order(), fetches.in_order()
    variables, parameters = _variables(blocks[0], {*fed, *fetched})
    inputs = tuple(_tensor(variables, name) for name in fed)
    outputs = tuple(_tensor(variables, name) for name in fetched)
    return Program(
        inputs=inputs,
        outputs=outputs,
        parameters=parameters,
        graph=functools.partial(read_graph, data),
        lod_inputs=tuple(spec.name for spec in inputs if _lod_level(variables[spec.name]) > 0),
    )


def _check_blocks(blocks: list[Message]) -> None:
    """Finds lost blocks by the operators that own them: a file cut off between two blocks still parses."""
    for index, block in enumerate(blocks):
        if block.integer(1) != index:
            raise WireError(f"block {index} is missing")
        for op in block.messages(4, b"sub_block"):
            for attribute in op.messages(4, b"sub_block"):
                if attribute.integer(2) != _BLOCK_ATTRIBUTE:
                    continue
                inner = attribute.integer(12)
                if inner >= len(blocks):
                    raise WireError(f"block {inner} is missing")
                if inner <= index:  # Paddle would loop for ever
                    raise WireError(f"block {index} holds block {inner}, and blocks hold later ones only")


def _integer_attribute(op: Message, name: str) -> int:
    for attribute in op.messages(4, name.encode()):
        if attribute.text(1) == name:
            return attribute.integer(3)
    raise WireError(f"an operator lacks its attribute {name!r}")


def _first_argument(op: Message, side: int, parameter: str) -> str:
    for variable in op.messages(side):
        arguments = variable.texts(2)
        if variable.text(1) == parameter and arguments:
            return arguments[0]
    raise WireError(f"an operator lacks its argument {parameter!r}")


def _tensor(variables: dict[str, Message], name: str) -> TensorSpec:
    if name not in variables:
        raise WireError(f"the variable {name!r} is missing")
    kind = variables[name].message(2)
    if kind.integer(1) != _DENSE_TENSOR:
        other = _OTHER_TYPES.get(kind.integer(1), f"number {kind.integer(1)}")
        return TensorSpec(name, None, other, None)
    tensor = kind.message(3).message(1)
    number = tensor.integer(1)
    return TensorSpec(name, None, DATA_TYPES.get(number, f"number {number}"), _dimensions(tensor))


def _dimensions(tensor: Message) -> tuple[int, ...]:
    return tuple(max(size, -1) for size in tensor.integers(2, most=MOST_DIMENSIONS))


def _lod_level(variable: Message) -> int:
    kind = variable.message(2)
    return kind.message(3).integer(2, 0) if kind.integer(1) == _DENSE_TENSOR else 0


def _variables(block: Message, wanted: set[str]) -> tuple[dict[str, Message], tuple[Parameter, ...]]:
    """Returns the variables of these names, and the parameters; it keeps no others."""
    variables: dict[str, Message] = {}
    parameters: dict[str, Parameter] = {}
    for variable in block.messages(3):
        name = variable.text(1)
        if name in wanted:
            variables[name] = variable
        parameter = _parameter(name, variable) if variable.integer(3, 0) else None
        if parameter is not None:
            parameters[name] = parameter
        else:
            parameters.pop(name, None)
    return variables, tuple(parameters[name] for name in sorted(parameters))


def _parameter(name: str, variable: Message) -> Parameter | None:
    kind = variable.message(2)
    if kind.integer(1) == _DENSE_TENSOR:
        return Parameter(name, _dimensions(kind.message(3).message(1)))
    return Parameter(name, None) if kind.integer(1) not in _NOT_LOADED else None
