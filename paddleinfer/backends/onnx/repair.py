"""Mends faults of paddle2onnx 2.1, before it converts a program and after.

It joins scalars to lists of one number, which ONNX's Concat does not take. A legacy program that computes
sizes gives such nodes: Paddle counts a scalar there as a list of one number. And it reads an interpolation's
scales as floats of 32 bits, where Paddle 3.3 writes 64.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["repair", "with_narrow_scales"]

_SCALES = re.compile(rb'"0\.a_array","D":\[(?:\{"#":"0\.a_f64","D":[^{}\[\]]*\},?)+\]\},"N":"scale"')


def with_narrow_scales(program: bytes) -> bytes:
    """Returns a ``.json`` program whose lists of scales have 32 bits instead of 64."""
    return _SCALES.sub(lambda found: found[0].replace(b'"0.a_f64"', b'"0.a_f32"'), program)


_SHAPE_OF_ONE = "paddleinfer.shape_of_one"


def repair(model: Any) -> int:
    """Makes lists of the scalars that are joined to lists, in place.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``.

    Returns
    -------
    int
        How many scalars there were.
    """
    import onnx

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
