"""Runs paddle2onnx in a process of its own, which it ends where it cannot convert a model."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from paddleinfer.backends.onnx.repair import repair
from paddleinfer.child_process import die_with
from paddleinfer.models import pir, program
from paddleinfer.models.graph import Block, Operation

__all__ = ["REPORT", "run", "unknown_operators"]

REPORT = "paddleinfer reports "
"""The beginning of a line that the child writes for its parent; what follows it is JSON."""

# paddle2onnx lists operators under the names of Paddle 1 and 2; Paddle 3 has other words for these.
_OTHER_WORDS = {
    "arange": "range",
    "cross_entropy_with_softmax": "softmax_with_cross_entropy",
    "divide": "div",
    "floor_divide": "floordiv",
    "maximum": "max",
    "minimum": "min",
    "multiply": "mul",
    "nonzero": "where_index",
    "remainder": "mod",
    "subtract": "sub",
}
_OF_THE_PROGRAM = frozenset(("data", "feed", "fetch", "if", "parameter", "shadow_output", "while", "yield"))
_CONTROL_FLOW = frozenset(("conditional_block", "if", "while"))
_PREFIXES = re.compile(r"^(builtin|elementwise|reduce)_")
_SUFFIXES = re.compile(r"(_v\d|\d)?_?$")


def run() -> None:
    """Reads the order from standard input, converts, and reports on standard output."""
    program_path, params_path, target, opset, parent = pickle.load(sys.stdin.buffer)
    die_with(parent)
    try:
        import onnx
        import paddle2onnx
        from paddle2onnx import paddle2onnx_cpp2py_export as library

        names = sorted({operation.name for operation in _operations(_block(Path(program_path)))})
        known = [*library.get_all_supported_operators(), *library.get_all_supported_operators_pir()]
        # Before the next step, which may end the process.
        _report(
            unknown_operators=unknown_operators(names, known),
            control_flow=sorted(_CONTROL_FLOW.intersection(names)),
        )
        # Without its own folding, which would install packages; the runtime folds constants itself.
        paddle2onnx.export(
            program_path,
            params_path,
            target,
            opset_version=opset,
            optimize_tool="none",
            verbose=True,  # so that it says which operator it is at
        )
        model = onnx.load(target)
        if repair(model):
            onnx.save(model, target)
    except BaseException as error:
        _report(error=f"{type(error).__name__}: {error}", errno=getattr(error, "errno", None))
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)  # how Paddle's process exits does not matter


def _report(**facts: Any) -> None:
    print(f"\n{REPORT}{json.dumps(facts)}", flush=True)


def _block(path: Path) -> Block:
    read = pir.read_program if path.suffix == ".json" else program.read_program
    return read(path.read_bytes(), path).graph().block


def _operations(block: Block) -> Iterator[Operation]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def unknown_operators(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Returns the operators of a program that are not among the known ones, under any of their names."""
    plain = {_plain(name) for name in known}
    return [name for name in names if name not in _OF_THE_PROGRAM and _plain(name) not in plain]


def _plain(name: str) -> str:
    """Returns what a name has in common over Paddle's versions: "add" of ``elementwise_add``."""
    bare = _SUFFIXES.sub("", _PREFIXES.sub("", name))
    return _OTHER_WORDS.get(bare, bare).replace("_", "")
