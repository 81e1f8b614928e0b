"""Runs paddle2onnx in a process of its own, which it ends where it cannot convert a model."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from paddleinfer.backends.onnx.repair import repair, with_mended_operators
from paddleinfer.child_process import read_order
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
    program_path, params_path, target, opset, scalars = read_order()
    try:
        import onnx
        import paddle2onnx
        from paddle2onnx import convert
        from paddle2onnx import paddle2onnx_cpp2py_export as library

        names = sorted({operation.name for operation in _operations(_block(Path(program_path)))})
        known = [*library.get_all_supported_operators(), *library.get_all_supported_operators_pir()]
        # Before the next step, which may end the process.
        _report(
            unknown_operators=unknown_operators(names, known),
            control_flow=sorted(_CONTROL_FLOW.intersection(names)),
        )
        program_path = _mended(Path(program_path))
        _mend_translated(convert)
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
        if repair(model, scalars):
            onnx.save(model, target)
    except BaseException as error:
        _report(error=f"{type(error).__name__}: {error}", errno=getattr(error, "errno", None))
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)  # how Paddle's process exits does not matter


def _mended(path: Path) -> str:
    """Puts a program that had to be mended beside the one given, and returns the path of that to convert."""
    if path.suffix != ".json":
        return str(path)
    data = path.read_bytes()
    mended = with_mended_operators(data)
    if mended == data:
        return str(path)
    target = path.with_name(f"mended-{path.name}")
    target.write_bytes(mended)
    return str(target)


def _mend_translated(convert: Any) -> None:
    """Has the programs mended that paddle2onnx makes of legacy ones, with parameters and without."""
    save_with_parameters, save_program = convert.save_program, convert.paddle.save

    def mend(path: str) -> None:
        Path(path).write_bytes(with_mended_operators(Path(path).read_bytes()))

    def mended_with_parameters(program: Any, stem: str) -> None:
        save_with_parameters(program, stem)
        mend(f"{stem}.json")

    def mended(program: Any, path: str) -> None:
        save_program(program, path)
        mend(path)

    convert.save_program, convert.paddle.save = mended_with_parameters, mended


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
