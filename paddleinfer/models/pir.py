"""Reads Paddle 3's ``.json`` programs (PIR, its second intermediate representation).

A program is one block of operators. Parameters are operators called ``p``, inputs ``1.data``,
outputs ``1.fetch``; the number before the dot stands for the dialect.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paddleinfer.errors import ModelLoadError
from paddleinfer.models.columns import Columns
from paddleinfer.models.pir_graph import dimensions, read_graph
from paddleinfer.models.spec import MOST_OPERATORS, Parameter, Program, TensorSpec

__all__ = ["HEAD_SIZE", "all_operators", "is_program", "read_program"]

HEAD_SIZE = 4096
"""Bytes that `is_program` needs to see at most."""

_HEAD = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"base_code"\s*:\s*\{[^{}]*"magic"\s*:\s*"pir"')

# The most bytes that Python's objects take for each of these characters of JSON. By this estimate a program
# that Paddle wrote takes 20 times its size; in fact it takes half of that.
_PARSED_BYTES = {b"{": 240, b"[": 72, b'"': 30, b",": 40}
_MOST_PARSED = 28
_SMALL_BYTES = 1 << 20
_LEAST_OPERATOR_BYTES = 64
_FEW_OPERATORS = 1000

_DTYPES = {
    "0.t_f32": "float32",
    "0.t_f64": "float64",
    "0.t_f16": "float16",
    "0.t_bf16": "bfloat16",
    "0.t_i8": "int8",
    "0.t_i16": "int16",
    "0.t_i32": "int32",
    "0.t_i64": "int64",
    "0.t_ui8": "uint8",
    "0.t_bool": "bool",
    "0.t_c64": "complex64",
    "0.t_c128": "complex128",
    "0.t_f8e4m3fn": "float8_e4m3fn",
    "0.t_f8e5m2": "float8_e5m2",
}


def is_program(head: bytes) -> bool:
    """Tells whether a file with these first bytes is a Paddle 3 program and not some other JSON."""
    return _HEAD.match(head) is not None


def read_program(data: bytes, path: Path) -> Program:
    """Reads the inputs, outputs and parameters of a ``.json`` program.

    Parameters
    ----------
    data
        The whole file.
    path
        Its name, for messages.

    Raises
    ------
    ModelLoadError
        The bytes are cut off, not JSON, other JSON, or a program that Paddle cannot run.
    """
    known = is_program(data[:HEAD_SIZE])
    parsed_bytes = sum(data.count(sign) * each for sign, each in _PARSED_BYTES.items())
    if parsed_bytes > max(_MOST_PARSED * len(data), _SMALL_BYTES):
        raise ModelLoadError(
            f"{path} is not a Paddle program: its {len(data):,} bytes of JSON hold so many small parts that "
            f"they would take {parsed_bytes:,} bytes of memory"
        )
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        if known:
            raise ModelLoadError(
                f"{path} is a Paddle program that is truncated or damaged ({error}); copy or export it again"
            ) from error
        raise ModelLoadError(
            f"{path} is not a Paddle program, and not complete JSON either ({error})"
        ) from error
    if not known:
        raise ModelLoadError(
            f"{path} is JSON but not a Paddle program, which begins with "
            '{"base_code": {"magic": "pir"; a Paddle 3 export writes one beside its .pdiparams'
        )
    try:
        _check_operators(document, len(data))
        program = _read(document)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelLoadError(
            f"{path} is a Paddle program of an unknown layout ({type(error).__name__}: {error}); "
            "it is damaged, or from a Paddle that this release of paddleinfer does not know"
        ) from error
    _refuse_passed_through_inputs(program, path)
    return program


def all_operators(document: Any) -> Iterator[dict[str, Any]]:
    """Yields the operators of a parsed program and of its nested blocks.

    Raises
    ------
    KeyError, IndexError, TypeError, AttributeError
        The program has another layout.
    """
    blocks = [block for region in document["program"]["regions"] for block in region["blocks"]]
    while blocks:
        for op in blocks.pop()["ops"]:
            yield op
            blocks += [block for region in op.get("regions", ()) for block in region["blocks"]]


def _check_operators(document: Any, size: int) -> None:
    count = sum(1 for _ in all_operators(document))
    if count > MOST_OPERATORS:
        raise ValueError(f"it has {count:,} operators, and a program has {MOST_OPERATORS:,} at most")
    if count > max(_FEW_OPERATORS, size // _LEAST_OPERATOR_BYTES):
        raise ValueError(f"it has {count:,} operators, too many for its size")


def _read(document: Any) -> Program:
    inputs: list[TensorSpec] = []
    outputs = Columns[TensorSpec]("output")
    parameters: list[Parameter] = []
    # Nested blocks belong to control flow and cannot feed, fetch or own a parameter.
    for op in document["program"]["regions"][0]["blocks"][0]["ops"]:
        kind = op["#"]
        if kind == "p":
            if _is_persistable(op):
                parameters.append(_parameter(op))
        elif kind in ("1.data", "1.feed"):
            inputs.append(_tensor(op))
        elif kind == "1.fetch":
            outputs.add(_attribute(op, "col"), _tensor(op))
    return Program(
        inputs=tuple(inputs),
        outputs=outputs.in_order(),
        parameters=tuple(sorted(parameters, key=lambda parameter: parameter.name)),
        graph=functools.partial(read_graph, document),
    )


def _attribute(op: Any, name: str) -> Any:
    for attribute in op["A"]:
        if attribute["N"] == name:
            return attribute["AT"]["D"]
    raise KeyError(name)


def _is_persistable(op: Any) -> bool:
    # "OA" holds persistable, stop_gradient, trainable; a program saved for inference only lacks it.
    return bool(op["OA"][0]) if "OA" in op else True


def _parameter(op: Any) -> Parameter:
    kind = op["O"]["TT"]
    dense = kind["#"] == "0.t_dtensor"
    return Parameter(_name(op["A"][3]), _dimensions(kind) if dense else None)


def _name(given: object) -> str:
    name = str(given)
    name.encode()  # JSON can hold half of a surrogate pair, which Paddle cannot read as text
    return name


def _tensor(op: Any) -> TensorSpec:
    name = _name(_attribute(op, "name"))
    kind = op["O"][0]["TT"]
    if kind["#"] != "0.t_dtensor":
        return TensorSpec(name, None, str(kind["#"]), None)
    code = str(kind["D"][0]["#"])
    return TensorSpec(name, None, _DTYPES.get(code, code), _dimensions(kind))


def _dimensions(kind: Any) -> tuple[int, ...]:
    return dimensions(kind["D"][1])


def _refuse_passed_through_inputs(program: Program, path: Path) -> None:
    """Refuses an input that is also an output: Paddle gives both one name, and then makes no predictor.

    Paddle 3.3 also writes it, wrongly, where a model returns an input plus a constant.
    """
    names = {spec.name for spec in program.inputs}
    for spec in program.outputs:
        if spec.name in names:
            raise ModelLoadError(
                f"{path} returns its input {spec.name!r} unchanged (Paddle 3.3 writes this, too, where a "
                "model returns an input plus a constant), which Paddle cannot load from a .json program; "
                "return a copy (paddle.assign) and export again"
            )
