"""Decides from a program's operators whether rows depend on each other, or requests can share a run.

Each value of the program is followed from the inputs to the outputs: whether it depends on the inputs, which
of its axes is the batch, whether that axis is folded with others. The answer is "no" where an output surely

- depends on an operator that computes over rows (a reduction, softmax, sort or cumulative sum along the
  batch, a matrix product that sums over it or pairs its rows, batch normalisation in training form), or that
  takes rows out or puts them together by their place in the batch (slice, split, gather, flip, roll, concat);
- depends on an operator whose number of results follows the data (nonzero, masked_select, unique, any nms);
- depends on an `if` or `while` whose condition is computed from the inputs;
- has its rows on another axis than 0, or more than the rows on axis 0, or is a constant.

The analysis assumes:

- Axis 0 of every input is the batch, of the same number of rows for all of them. The engine asks this of
  requests that share a run.
- Sizes of inputs beyond the rows are the same for all requests of a run, because requests are sorted by them.
  So what is computed from such sizes, from parameters, or from numbers in the program is a constant.
- Operators do what Paddle documents. The results of an unknown operator, such as a user's own, or of one with
  unknown attributes are unknown, unless all its arguments are constants.
- Operators that are batch-wise by definition (convolution, pooling, interpolation) have the batch on axis 0.
- Random numbers are not followed.

It never says "yes": kernels may still differ by batch size, and the engine compares rows alone with rows in a
batch while it serves. Its time is linear in the program's size: each operator is looked at once, those in the
body of a loop three times, those in a loop inside a loop nine times, and deeper ones no oftener.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from paddleinfer.models.graph import Block, Graph, Key, Operation, Output
from paddleinfer.models.rows.contents import content_of
from paddleinfer.models.rows.move_rules import ALL_RULES, stacked
from paddleinfer.models.rows.operator_names import (
    BY_SIZES,
    ELEMENTWISE,
    FOLLOWING_DATA,
    FULL_REDUCTIONS,
    LIKE,
    RANDOM,
    REDUCTIONS,
    SHAPES,
)
from paddleinfer.models.rows.operators import FOLLOWS, Applied, NotKnownError, of_type
from paddleinfer.models.rows.values import Cause, Kind, Size, Value, join, product
from paddleinfer.models.spec import Batchable

__all__ = ["Verdict", "analyse"]

_CONDITION = "whose condition is computed from the inputs"
_BY_ROWS = "whose condition is computed from the number of rows"
_LOOP_TURNS = 3
_MOST_LOOPS = 2

# These mean a malformed attribute or argument; the operator's results are then unknown.
_MALFORMED = (
    NotKnownError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    AssertionError,
)

_KEEPING = frozenset(("arange", "expand", "flatten", "reshape", "squeeze", "tile", "transpose", "unsqueeze"))
"""Operators that lose nothing of their arguments."""
_FROM_INPUTS = (Kind.ROWS, Kind.UNKNOWN, Kind.MIXED)
_WRITES = {
    **dict.fromkeys(
        ("fill_diagonal", "increment", "index_add", "index_put", "put_along_axis", "scatter"), "x"
    ),
    **dict.fromkeys(("set_value", "set_value_with_tensor"), "x"),
    "array_write": "array",
    "assign_out": "output",
}
"""Operators that may write into an argument, and that argument."""
# Arguments that decide how a result is laid out, and not what is in it.
_LAYOUT = ("shape", "axis", "repeat_times", "sections")
_OF_OTHERS = {"expand_as": ("y",)}


@dataclass(frozen=True)
class Verdict:
    """What the program says about its rows."""

    batchable: Batchable
    """NO or UNKNOWN; an unknown one is settled by running the model."""
    reason: str
    """Why, in one sentence."""


def analyse(read_graph: Callable[[], Graph]) -> Verdict:
    """Judges whether the outputs of the program keep the rows of its inputs apart."""
    try:
        graph = read_graph()
        walk = _Walk(graph)
        walk.run(graph.block, 0)
    except (*_MALFORMED, RecursionError):
        return Verdict(Batchable.UNKNOWN, "the program's operators could not be followed")
    doubts = []
    for name, key in graph.outputs:
        value = walk.values.get(key, Value(Kind.UNKNOWN))
        fault = _fault(name, value)
        if fault is not None:
            return Verdict(Batchable.NO, fault)
        if value.kind is Kind.UNKNOWN and value.cause is not None:
            doubts.append(value.cause.operator)
    if doubts:
        return Verdict(
            Batchable.UNKNOWN, f"what the operator {doubts[0]!r} does to the rows is not known before a run"
        )
    return Verdict(Batchable.UNKNOWN, "as far as its operators tell, each row is computed by itself")


def _fault(name: str, value: Value) -> str | None:
    """Returns what is surely wrong with an output, or None."""
    operator = f"the operator {value.cause.operator!r}" if value.cause is not None else "the model"
    if value.kind is Kind.MIXED:
        return f"output {name!r} depends on {operator}, {value.cause.why if value.cause else ''}"
    if value.kind is Kind.SIZES and value.certain and value.content is not None:
        return f"output {name!r} tells the number of rows in the batch"
    if value.kind is Kind.CONSTANT and value.sizes is not None:
        first = value.sizes[0].number if value.sizes and value.sizes[0] is not None else None
        if first is not None or not value.sizes:
            return f"output {name!r} is a constant, and has no rows for the rows of the inputs"
    if value.kind is Kind.ROWS and value.axis != 0:
        return f"output {name!r} has its rows on axis {value.axis}, where {operator} leaves them"
    if value.kind is Kind.ROWS and any((size.number or 1) != 1 for size in (value.outer, value.inner)):
        return f"output {name!r} has more than the rows on axis 0, where {operator} folds them together"
    return None


class _Walk:
    def __init__(self, graph: Graph) -> None:
        self.values: dict[Key, Value] = {}
        for key, kind in graph.constants.items():
            self.values[key] = of_type(Value(Kind.CONSTANT), kind)
        for tensor in graph.inputs:
            self.values[tensor.key] = of_type(Value(Kind.ROWS), tensor.types[0])

    def run(self, block: Block, loops: int) -> list[Value]:
        """Follows each operator, and returns what the last one yields."""
        yielded: list[Value] = []
        for operation in block.operations:
            if operation.kind == "yield":
                yielded = Applied(operation, self.values).tensors()
            elif operation.blocks:
                self._control(operation, loops)
            else:
                self._operate(operation)
        return yielded

    def _set(self, outputs: Sequence[Output], results: Value | Sequence[Value]) -> None:
        for place, output in enumerate(outputs):
            result = results if isinstance(results, Value) else results[place]
            if output.is_list and result.elements is None:
                elements = tuple(of_type(result, kind) for kind in output.types)
                self.values[output.key] = replace(result, sizes=None, elements=elements)
            elif output.is_list:
                self.values[output.key] = result
            else:
                self.values[output.key] = of_type(result, output.types[0])

    # One operator

    def _operate(self, operation: Operation) -> None:
        op = Applied(operation, self.values)
        try:
            if not self._list(op):
                self._set(operation.outputs, _results(op))
        except _MALFORMED:
            self._set(operation.outputs, op.unknown())
        written = _WRITES.get(operation.kind)
        if written is not None and operation.outputs:
            # The operator works in place: from here on the argument's name stands for the result.
            for key in operation.arguments.get(written, ())[:1]:
                after = self.values[operation.outputs[0].key]
                self.values[key] = join(self.values.get(key, after), after)

    def _list(self, op: Applied) -> bool:
        """Follows lists of tensors, and arrays, of which only what their elements share is known."""
        kind, outputs = op.operation.kind, op.operation.outputs
        if kind == "list_combine":
            self.values[outputs[0].key] = Value(Kind.CONSTANT, elements=tuple(op.tensors()))
        elif kind == "list_split":
            self._set(outputs, op.tensors())
        elif kind == "list_slice":
            self._set(outputs, op.tensors()[op.integer("index")])
        elif kind in ("array_write", "write_to_array"):
            element, key = op.tensor("x"), outputs[0].key
            old = [
                self.values[one]
                for one in (key, *op.operation.arguments.get("array", ()))
                if one in self.values
            ]
            self.values[key] = _joined([element, *(one for one in old if one.elements is None)])
        elif kind in ("array_read", "read_from_array"):
            array = op.tensor("array" if op.given("array") else "x")
            self._set(outputs, array)
        elif kind in ("create_array", "create_array_like"):
            self.values[outputs[0].key] = Value(Kind.CONSTANT, elements=())
        elif kind in ("array_to_tensor", "tensor_array_to_tensor"):
            self._set(outputs, stacked(op) if op.flag("use_stack") else op.unknown())
        else:
            return False
        return True

    # Control flow

    def _control(self, operation: Operation, loops: int) -> None:
        if operation.kind == "while":
            self._loop(operation, loops)
        elif operation.kind in ("if", "conditional_block"):
            self._branch(operation, loops)
        else:
            self._set(operation.outputs, Applied(operation, self.values).unknown())

    def _branch(self, operation: Operation, loops: int) -> None:
        op = Applied(operation, self.values)
        condition = op.tensors_of("cond") or op.tensors_of("x")
        before = {output.key: self.values.get(output.key) for output in operation.outputs}
        yields = [self.run(block, loops) for block in operation.blocks]
        if _from_inputs(condition):
            self._set(operation.outputs, op.mixed(_CONDITION, follows_data=True))
        elif any(value.kind is Kind.SIZES and value.certain for value in condition):
            self._set(operation.outputs, op.mixed(_BY_ROWS, follows_data=True))
        elif operation.kind == "if":
            for place, output in enumerate(operation.outputs):
                found = [values[place] for values in yields if place < len(values)]
                self._set([output], _joined(found) if found else op.unknown())
        else:  # a legacy branch writes its results under their names outside
            for key, old in before.items():
                if old is not None and key in self.values:
                    self.values[key] = join(old, self.values[key])

    def _loop(self, operation: Operation, loops: int) -> None:
        op = Applied(operation, self.values)
        (body,) = operation.blocks
        named = not body.arguments  # a legacy loop reads and writes its variables by their names outside
        keys = [out.key for out in operation.outputs] if named else [arg.key for arg in body.arguments]
        inputs = [] if named else op.tensors()
        conditions = op.tensors_of("condition") if named else inputs[:1]
        state = [self.values.get(key) for key in keys] if named else list(inputs[1:])
        blind = loops >= _MOST_LOOPS
        for turn in range(1 if blind else _LOOP_TURNS):
            if blind or turn == _LOOP_TURNS - 1:
                state = [_given_up(value, op) for value in state]
            for key, value in zip(keys, state, strict=False):
                if value is not None:
                    self.values[key] = value
            yielded = self.run(body, loops + 1)
            after = [self.values.get(key) for key in keys] if named else list(yielded[1:])
            conditions += op.tensors_of("condition") if named else yielded[:1]
            joined = [
                new if old is None else old if new is None else join(old, new)
                for old, new in zip(state, after, strict=False)
            ]
            if joined == state:
                break
            state = joined
        if _from_inputs(conditions):
            self._set(operation.outputs, op.mixed(_CONDITION, follows_data=True))
            return
        if any(value.kind is Kind.SIZES for value in conditions):  # a loop over the rows may be batch-wise
            state = [_given_up(value, op) for value in state]
        for place, output in enumerate(operation.outputs):
            value = state[place] if place < len(state) else None
            self._set([output], value or op.unknown())


def _from_inputs(conditions: Sequence[Value]) -> bool:
    return any(value.kind in _FROM_INPUTS for value in conditions)


def _joined(values: Sequence[Value]) -> Value:
    found = values[0]
    for value in values[1:]:
        found = join(found, value)
    return found


def _given_up(value: Value | None, op: Applied) -> Value | None:
    """Gives up on a loop whose variables still change after some turns."""
    if value is None or value.kind in (Kind.MIXED, Kind.UNKNOWN):
        return value
    return Value(Kind.UNKNOWN, cause=Cause(op.operation.name, ""))


def _results(op: Applied) -> Value | Sequence[Value]:
    kind = op.operation.kind
    if kind in SHAPES:
        return _shape(op)
    others = list(_OF_OTHERS.get(kind, ()))
    if kind in LIKE or kind in BY_SIZES:
        others += op.operation.arguments
    values = op.tensors(*_LAYOUT, *others)
    layout = [value for name in _LAYOUT if name not in others for value in op.tensors_of(name)]
    worst = [value for value in (*values, *layout) if value.kind is Kind.MIXED]
    worst += [value for name in others for value in op.tensors_of(name) if value.follows_data]
    if worst:
        return replace(worst[0], sizes=None, content=None, elements=None)
    if kind in RANDOM:
        return op.unknown()
    followed = {value.kind for value in values}
    unknown = Kind.UNKNOWN in followed or any(value.kind in _FROM_INPUTS for value in layout)
    if not unknown and Kind.ROWS not in followed:
        return _without_data(op, values)
    if kind in FOLLOWING_DATA or kind.endswith("nms"):
        return op.mixed(FOLLOWS, follows_data=True)
    if unknown:
        if kind in FULL_REDUCTIONS or (kind in REDUCTIONS and _reduces_all(op)):
            return op.mixed()
        cause = next((value.cause for value in values if value.kind is Kind.UNKNOWN), None)
        return Value(Kind.UNKNOWN, cause=cause or Cause(op.operation.name, ""))
    rule = ALL_RULES.get(kind)
    if rule is None or (Kind.SIZES in followed and kind not in ELEMENTWISE):
        return op.unknown()
    return rule(op)


def _reduces_all(op: Applied) -> bool:
    name = "dim" if "dim" in op.attributes else "axis"
    return op.flag("reduce_all") or not op.integers(name, ())


def _shape(op: Applied) -> Value:
    """Returns the sizes of a tensor, or their product."""
    x = op.tensor()
    if x.follows_data:
        return replace(x, sizes=None, content=None, elements=None)
    if x.sizes is None:
        return Value(Kind.SIZES, certain=False, cause=Cause(op.operation.name, ""))
    return _with_content(op, (product(x.sizes),) if op.operation.kind == "numel" else x.sizes, False)


def _without_data(op: Applied, values: Sequence[Value]) -> Value:
    """Returns a result that depends on no input's data."""
    sizes = [value for value in values if value.kind is Kind.SIZES]
    content = content_of(op)
    if content is not None:
        return _with_content(op, content, bool(sizes) and all(value.certain for value in sizes))
    if not sizes:
        return Value(Kind.CONSTANT)
    kept = op.operation.kind in ELEMENTWISE or op.operation.kind in _KEEPING
    return Value(Kind.SIZES, certain=kept and all(value.certain for value in sizes), cause=sizes[0].cause)


def _with_content(op: Applied, content: Sequence[Size | None], certain: bool) -> Value:
    found = tuple(content)
    if any(size is not None and size.has_rows for size in found):
        certain = True
    elif None not in found:
        return Value(Kind.CONSTANT, content=found)
    return Value(Kind.SIZES, content=found, certain=certain, cause=Cause(op.operation.name, ""))
