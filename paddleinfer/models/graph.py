"""The operators of a program in one form for both of Paddle's formats.

Names of operators and attributes stay as the program has them, but for what the formats merely spell
differently; the arguments of a ``.json`` operator, which have no names there, get those of its definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Block", "Graph", "Operation", "Output", "TensorType"]

Key = int | str
"""A value: its number in a ``.json`` program, its name in a legacy one."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """What a program says of one tensor."""

    shape: tuple[int, ...] | None
    """-1 where a size is not known; None when not even the number of axes is."""
    floating: bool
    """Whether its elements are floating-point numbers."""


@dataclass(frozen=True, slots=True)
class Output:
    """A result of an operator: a tensor, or a list of them under one key."""

    key: Key
    types: tuple[TensorType, ...]
    is_list: bool = False
    slot: str = ""
    """What a legacy operator calls this result, in lower case."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator."""

    name: str
    """As the program calls it, without its dialect."""
    kind: str
    """The name that both formats share: "add" for ``elementwise_add``."""
    arguments: Mapping[str, tuple[Key, ...]]
    """Argument -> its values, names in lower case; what is not given is left out."""
    attributes: Mapping[str, Any]
    outputs: tuple[Output, ...]
    blocks: tuple[Block, ...] = ()
    """Bodies of control flow."""


@dataclass(frozen=True, slots=True)
class Block:
    """Operators in order."""

    operations: tuple[Operation, ...]
    arguments: tuple[Output, ...] = ()
    """What a loop's body is given at each turn; its last operation, ``yield``, gives the next."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A program."""

    block: Block
    constants: Mapping[Key, TensorType]
    """Its parameters."""
    inputs: tuple[Output, ...]
    outputs: tuple[tuple[str, Key], ...]
    """Name, and the value that is fetched."""
