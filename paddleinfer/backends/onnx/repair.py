"""Mends faults of paddle2onnx 2.1, before it converts a program and after.

It joins scalars to lists of one number, which ONNX's Concat does not take. A legacy program that computes
sizes gives such nodes: Paddle counts a scalar there as a list of one number. It reads an interpolation's
scales as floats of 32 bits, where Paddle 3.3 writes 64. It does not know that a reduction that names no axis
is over all of them, and gives a list of one number where such a reduction gives Paddle a scalar.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["repair", "with_mended_operators"]

_SCALES = re.compile(rb'"0\.a_array","D":\[(?:\{"#":"0\.a_f64","D":[^{}\[\]]*\},?)+\]\},"N":"scale"')
_NO_NUMBERS = re.compile(rb'\{"#":"0.a_array","D":\[\]\},"N":"value"')
_REDUCTIONS = frozenset(("all", "any", "max", "mean", "min", "prod", "sum"))


def with_mended_operators(program: bytes) -> bytes:
    """Returns a ``.json`` program whose scales have 32 bits, and whose reductions name their axes."""
    narrow = _SCALES.sub(lambda found: found[0].replace(b'"0.a_f64"', b'"0.a_f32"'), program)
    if not _NO_NUMBERS.search(narrow):
        return narrow
    document = json.loads(narrow)
    named = [_name_axes(block["ops"]) for block in _blocks(document["program"]["regions"])]
    return json.dumps(document, separators=(",", ":")).encode() if any(named) else narrow


def _blocks(regions: list[Any]) -> Iterator[Any]:
    for region in regions:
        for block in region["blocks"]:
            yield block
            for operation in block["ops"]:
                yield from _blocks(operation.get("regions", ()))


def _name_axes(operations: list[Any]) -> bool:
    """Gives reductions over all axes a list of these, in place; tells whether there was one."""
    made_by = {output["%"]: operation for operation in operations for output in _outputs_of(operation)}
    ranks: dict[int, set[int]] = {}  # of what a list of no axes is for
    for operation in operations:
        given = [one["%"] for one in operation.get("I", ())]
        if _name_of(operation) not in _REDUCTIONS or len(given) != 2 or given[0] not in made_by:
            continue
        axes = made_by.get(given[1])
        if axes is not None and _name_of(axes) == "full_int_array" and not _value_of(axes)["D"]:
            (reduced,) = (one for one in _outputs_of(made_by[given[0]]) if one["%"] == given[0])
            ranks.setdefault(given[1], set()).add(len(reduced["TT"]["D"][1]))
    for number, found in ranks.items():
        if len(found) != 1:
            continue
        (rank,) = found
        axes = made_by[number]
        _value_of(axes)["D"] = [{"#": "0.a_i64", "D": axis} for axis in range(rank)]
        axes["O"][0]["TT"]["D"][1] = [rank]
    return bool(ranks)


def _outputs_of(operation: Any) -> list[Any]:
    outputs = operation.get("O", [])
    return outputs if isinstance(outputs, list) else [outputs]  # a parameter has one, without a list


def _name_of(operation: Any) -> str:
    return str(operation["#"]).rpartition(".")[2]


def _value_of(operation: Any) -> Any:
    (value,) = (one["AT"] for one in operation["A"] if one["N"] == "value")
    return value


_SHAPE_OF_ONE = "paddleinfer.shape_of_one"
_SHAPE_OF_SCALAR = "paddleinfer.shape_of_scalar"


def repair(model: Any, scalars: Sequence[int] = ()) -> int:
    """Makes lists of the scalars that are joined to lists, and scalars of outputs, in place.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``.
    scalars
        The places of the outputs that are scalars in Paddle.

    Returns
    -------
    int
        How many tensors were mended.
    """
    import onnx

    return _make_lists(onnx, model) + _make_scalars(onnx, model.graph, scalars)


def _make_scalars(onnx: Any, graph: Any, places: Sequence[int]) -> int:
    made = {name for node in graph.node for name in node.output}
    found = [graph.output[place] for place in places if graph.output[place].name in made]
    for output in found:
        listed = f"{output.name}.paddleinfer.list"
        for names in (names for node in graph.node for names in (node.input, node.output)):
            for at, name in enumerate(names):
                if name == output.name:
                    names[at] = listed
        scalar = onnx.helper.make_node("Reshape", [listed, _SHAPE_OF_SCALAR], [output.name], name=listed)
        graph.node.append(scalar)
        output.type.tensor_type.shape.Clear()
    if found:
        none = onnx.helper.make_tensor(_SHAPE_OF_SCALAR, onnx.TensorProto.INT64, [0], [])
        graph.initializer.append(none)
    return len(found)


def _make_lists(onnx: Any, model: Any) -> int:
    joins = [node for node in model.graph.node if node.op_type == "Concat"]
    if not joins:
        return 0
    ranks = _ranks(onnx.shape_inference.infer_shapes(model).graph)
    found = 0
    for join in joins:
        known = [ranks.get(name) for name in join.input]
        if 0 not in known:
            continue
        for place, rank in enumerate(known):
            if rank == 0:
                _insert_before(onnx, model.graph, join, place)
                found += 1
    if found:
        one = onnx.helper.make_tensor(_SHAPE_OF_ONE, onnx.TensorProto.INT64, [1], [1])
        model.graph.initializer.append(one)
    return found


def _ranks(graph: Any) -> dict[str, int]:
    """Returns how many axes each tensor has, where that is known."""
    ranks = {one.name: len(one.dims) for one in graph.initializer}
    for one in (*graph.input, *graph.value_info):
        if one.type.tensor_type.HasField("shape"):
            ranks[one.name] = len(one.type.tensor_type.shape.dim)
    return ranks


def _insert_before(onnx: Any, graph: Any, join: Any, place: int) -> None:
    name = f"{join.input[place]}.paddleinfer.{join.name}.{place}"
    node = onnx.helper.make_node("Reshape", [join.input[place], _SHAPE_OF_ONE], [name], name=name)
    join.input[place] = name
    graph.node.insert(list(graph.node).index(join), node)
