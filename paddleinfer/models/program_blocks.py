"""Reads the blocks of a legacy program, and refuses one that holds more parts than a program can."""

from __future__ import annotations

from paddleinfer.models.spec import MOST_OPERATORS
from paddleinfer.models.wire import Message, WireError

__all__ = ["blocks_of"]

_MOST_BLOCKS = 4096
_MOST_VARIABLES = 4 * MOST_OPERATORS
# The least bytes of the file for each of these parts, on average: a fifth of what Paddle's own programs take.
_LEAST_BLOCK_BYTES = 4
_LEAST_VARIABLE_BYTES = 16
_LEAST_OPERATOR_BYTES = 64
_FEW = 1000


def blocks_of(data: bytes) -> list[Message]:
    """Returns the blocks of a ProgramDesc.

    Raises
    ------
    WireError
        It is damaged, or holds more parts than any program: each of them takes memory here.
    """
    program = Message(data)
    _check_count("blocks", program.count(1), _MOST_BLOCKS, len(data) // _LEAST_BLOCK_BYTES)
    blocks = list(program.messages(1))
    for kind, number, most, least_bytes in (
        ("variables", 3, _MOST_VARIABLES, _LEAST_VARIABLE_BYTES),
        ("operators", 4, MOST_OPERATORS, _LEAST_OPERATOR_BYTES),
    ):
        count = sum(block.count(number) for block in blocks)
        _check_count(kind, count, most, len(data) // least_bytes)
    return blocks


def _check_count(kind: str, count: int, most: int, most_for_its_size: int) -> None:
    if count > most:
        raise WireError(f"it has {count:,} {kind}, and a program has {most:,} at most")
    if count > max(_FEW, most_for_its_size):
        raise WireError(f"it has {count:,} {kind}, too many for its size")
