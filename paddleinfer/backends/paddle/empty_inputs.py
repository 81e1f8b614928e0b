"""Recognises requests whose arrays without elements would make Paddle end the process.

With oneDNN Paddle 3 overwrites its stack where pooling in a .json program gets no elements, and reads through
a null pointer where a concatenation joins only empty arrays; Paddle 2 does the latter with any kernel. The
other operators raise, or run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from paddleinfer.models.files import read_whole
from paddleinfer.models.program_blocks import blocks_of
from paddleinfer.models.spec import ModelSpec

__all__ = ["EmptyInputs"]

_POOLING = "pool2d"
_JOINING = "concat"


@dataclass(frozen=True)
class EmptyInputs:
    """The inputs without elements that a model does not survive."""

    pools: bool
    joins: bool
    inputs: int
    paddle2: bool

    @classmethod
    def of(cls, spec: ModelSpec, *, onednn: bool, paddle2: bool) -> EmptyInputs | None:
        """Finds them by the operators that the program names; None if the model survives all."""
        if not (onednn or paddle2):
            return None
        kinds = _operator_kinds(spec)
        pools = _POOLING in kinds and not spec.format.is_legacy
        return cls(pools, _JOINING in kinds, len(spec.inputs), paddle2)

    def refusal(self, empty: Sequence[str]) -> str | None:
        """Says why a request must not run whose inputs of these names have no elements; None if it may."""
        operator = ""
        if self.pools:
            operator = "its pooling (pool2d)"
        elif self.joins and len(empty) == self.inputs:
            operator = "its concat"
        if not operator:
            return None
        if self.paddle2:
            return f"Paddle 2 would end the process in {operator}; at least one input needs elements"
        return f"oneDNN would end the process in {operator}; with onednn=False the model takes such inputs"


def _operator_kinds(spec: ModelSpec) -> set[str]:
    if spec.program_path is None:
        return set()
    program = read_whole(spec.program_path)
    if spec.format.is_legacy:
        return {op.text(3) for block in blocks_of(program) for op in block.messages(4)}
    return {kind.decode() for kind in re.findall(rb'"#":\s*"1\.(\w+)"', program)}
