"""The operators of a program in one form for both of Paddle's formats.

Names of operators and attributes stay as the program has them, except where the formats only spell them
differently; a ``.json`` program does not name arguments, so they get the names of the operator's definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Block", "Graph", "Operation", "Output", "TensorType"]

Key = int | str
"""A value is identified by its number in a ``.json`` program, and by its name in a legacy one."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """What a program declares about one tensor."""

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
    """The name that a legacy operator gives this result, in lower case."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator."""

    name: str
    """The operator's name in the program, without its dialect."""
    kind: str
    """The name that both formats share: "add" for ``elementwise_add``."""
    arguments: Mapping[str, tuple[Key, ...]]
    """Argument -> its values, names in lower case; arguments that are not given are left out."""
    attributes: Mapping[str, Any]
    outputs: tuple[Output, ...]
    blocks: tuple[Block, ...] = ()
    """The bodies of control flow."""


@dataclass(frozen=True, slots=True)
class Block:
    """The operators in order."""

    operations: tuple[Operation, ...]
    arguments: tuple[Output, ...] = ()
    """The values a loop's body gets at each turn; its last operation, ``yield``, gives the next ones."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A program."""

    block: Block
    constants: Mapping[Key, TensorType]
    """Its parameters."""
    inputs: tuple[Output, ...]
    outputs: tuple[tuple[str, Key], ...]
    """Each output's name and value."""
