"""The operators of a ``.json`` program as a Graph."""

from __future__ import annotations

from typing import Any

from paddleinfer.models.graph import Block, Graph, Key, Operation, Output, TensorType
from paddleinfer.models.spec import MOST_DIMENSIONS

__all__ = ["dimensions", "read_graph"]

_FLOATING = {"0.t_f16", "0.t_bf16", "0.t_f32", "0.t_f64"}

# Lists of axes and sizes are shorter; longer ones are data.
_LONGEST_LIST = 4096

# In the file arguments have positions, not names. An operator that is not listed has x, then the rest.
_ARGUMENTS = {
    "arange": ("start", "end", "step"),
    "argmax": ("x", "axis"),
    "argmin": ("x", "axis"),
    "array_read": ("array", "i"),
    "array_write": ("array", "x", "i"),
    "assign_out": ("x", "output"),
    "batch_norm": ("x", "mean", "variance", "scale", "bias"),
    "concat": ("x", "axis"),
    "cumsum": ("x", "axis"),
    "dropout": ("x", "seed", "p"),
    "embedding": ("ids", "w"),
    "expand": ("x", "shape"),
    "expand_as": ("x", "y"),
    "full_batch_size_like": ("x", "value"),
    "full_like": ("x", "value"),
    "full_with_tensor": ("value", "shape"),
    "gather": ("x", "index", "axis"),
    "gather_nd": ("x", "index"),
    "index_put": ("x", "indices", "value"),
    "index_sample": ("x", "index"),
    "index_select": ("x", "index"),
    "layer_norm": ("x", "scale", "bias"),
    "linspace": ("start", "stop", "num"),
    "lookup_table": ("w", "ids"),
    "one_hot": ("x", "depth"),
    "pad": ("x", "pad_value"),
    "pad3d": ("x", "paddings"),
    "put_along_axis": ("x", "index", "value"),
    "repeat_interleave_with_tensor_index": ("x", "repeats"),
    "reshape": ("x", "shape"),
    "reverse": ("x", "axis"),
    "rnn": ("x", "prestate", "weightlist", "sequencelength"),
    "roll": ("x", "shifts"),
    "scale": ("x", "scale"),
    "scatter": ("x", "ids", "updates"),
    "scatter_nd_add": ("x", "index", "updates"),
    "sequence_mask": ("x", "maxlen"),
    "set_value": ("x", "starts", "ends", "steps"),
    "set_value_with_tensor": ("x", "value", "starts", "ends", "steps"),
    "slice": ("x", "starts", "ends"),
    "split": ("x", "sections", "axis"),
    "split_with_num": ("x", "axis"),
    "squeeze": ("x", "axis"),
    "strided_slice": ("x", "starts", "ends", "strides"),
    "take_along_axis": ("x", "index"),
    "tile": ("x", "repeat_times"),
    "topk": ("x", "k"),
    "unsqueeze": ("x", "axis"),
    "where": ("condition", "x", "y"),
    **dict.fromkeys(("max", "mean", "min", "prod", "sum"), ("x", "axis")),
    **dict.fromkeys(("bmm", "dot", "matmul", "matmul_with_flatten", "legacy_matmul"), ("x", "y")),
    "mv": ("x", "vec"),
}


def read_graph(document: Any) -> Graph:
    """The graph of a parsed ``.json`` program."""
    constants: dict[Key, TensorType] = {}
    inputs, operations = [], []
    outputs: dict[int, tuple[str, Key]] = {}
    for op in document["program"]["regions"][0]["blocks"][0]["ops"]:
        kind = op["#"]
        if kind == "p":
            constants[op["O"]["%"]] = _type(op["O"]["TT"])
        elif kind in ("1.data", "1.feed"):
            inputs.append(_output(op["O"][0]))
        elif kind == "1.fetch":
            attributes = _attributes(op)
            outputs[attributes["col"]] = (str(attributes["name"]), op["I"][0]["%"])
        else:
            operations.append(_operation(op))
    fetched = tuple(outputs[column] for column in sorted(outputs))
    return Graph(Block(tuple(operations)), constants, tuple(inputs), fetched)


def _operation(op: Any) -> Operation:
    # "1.relu_" is relu of the operators' dialect, in place; dialect 0 packs and unpacks lists.
    dialect, _, name = str(op["#"]).partition(".")
    name = name.rstrip("_")
    kind = f"list_{name}" if dialect == "0" else name.removesuffix("_sr")
    names = _ARGUMENTS.get(kind, ("x",))
    arguments: dict[str, tuple[Key, ...]] = {}
    for place, value in enumerate(op.get("I", ())):
        if value["%"]:  # 0 is an argument that was not given
            arguments[names[place] if place < len(names) else f"argument_{place}"] = (value["%"],)
    regions = op.get("regions", ())
    return Operation(
        name,
        kind,
        arguments,
        _attributes(op),
        tuple(_output(value) for value in op.get("O", ())),
        tuple(_block(block) for region in regions for block in region["blocks"]),
    )


def _block(block: Any) -> Block:
    arguments = (Output(argument["#"], (_type(argument["TT"]),)) for argument in block.get("args", ()))
    return Block(tuple(_operation(op) for op in block["ops"]), tuple(arguments))


def _attributes(op: Any) -> dict[str, Any]:
    return {attribute["N"]: _plain(attribute["AT"]) for attribute in op["A"]}


def _plain(attribute: Any) -> Any:
    """Returns an attribute's value; a list of attributes becomes a list of values, and data becomes None."""
    value = attribute.get("D")
    if isinstance(value, list):
        if len(value) > _LONGEST_LIST:
            return None
        return [_plain(one) if isinstance(one, dict) else one for one in value]
    return value


def _output(value: Any) -> Output:
    kind = value["TT"]
    if kind["#"] == "0.t_vec":
        return Output(value["%"], tuple(_type(one) for one in kind["D"]), is_list=True)
    return Output(value["%"], (_type(kind),))


def _type(kind: Any) -> TensorType:
    if kind["#"] != "0.t_dtensor":
        return TensorType(None, False)
    code, shape = kind["D"][0]["#"], kind["D"][1]
    return TensorType(dimensions(shape), code in _FLOATING)


def dimensions(shape: Any) -> tuple[int, ...]:
    """Returns the sizes that a program writes; an unknown one is -1.

    Raises
    ------
    TypeError, ValueError, OverflowError
        They are not the sizes of a tensor.
    """
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape):,} dimensions")
    sizes = tuple(max(int(size), -1) for size in shape)
    if any(size >> 63 for size in sizes if size > 0):
        raise ValueError("a dimension of 2^63 or more")
    return sizes
