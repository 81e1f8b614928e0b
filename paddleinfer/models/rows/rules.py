"""Says what operators that keep or remove axes do to the rows, with one rule for each kind of operator.

A rule is asked only if an argument holds rows and none is MIXED or UNKNOWN. It returns one value that stands
for all results of the operator, or one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paddleinfer.models.rows.operator_names import (
    BATCH_FIRST,
    ELEMENTWISE,
    FULL_REDUCTIONS,
    LINEAR_ALGEBRA,
    REDUCTIONS,
)
from paddleinfer.models.rows.operators import MIXES, Applied, NotKnownError
from paddleinfer.models.rows.values import ONE, Kind, Size, Value

__all__ = ["RULES", "Rule"]

Rule = Callable[[Applied], Value | Sequence[Value]]

_POSITION = "which brings the number of rows, or the place of a row among them, into its result"
_ONE_PAIR = "which pairs every row with every other row"

_ALONG_AXIS = {
    **dict.fromkeys(("argsort", "cummax", "cummin", "cumsum", "log_softmax", "logcumsumexp", "sort"), -1),
    **dict.fromkeys(("flip", "gumbel_softmax", "norm", "reverse", "softmax", "topk"), -1),
    **dict.fromkeys(("cumprod", "fft_c2c", "fft_c2r", "fft_r2c"), None),
    "maxout": 1,
}
"""Operators that keep the axes and work along some, with the default axis; None if it must be given."""


def elementwise(op: Applied) -> Value:
    """An operator that works entry by entry, with the arguments' axes aligned at the end."""
    return broadcast(op, op.tensors())


def broadcast(op: Applied, values: Sequence[Value]) -> Value:
    """Returns what an operator makes of arguments that it combines entry by entry."""
    if any(value.kind is Kind.SIZES for value in values):
        sure = all(value.certain for value in values if value.kind is Kind.SIZES)
        return op.mixed(_POSITION) if sure and op.operation.outputs[0].types[0].floating else op.unknown()
    ranks = [op.rank(value) for value in values]
    rank = max(ranks)
    offsets = [rank - one for one in ranks]
    if op.attributes.get("axis", -1) not in (-1, None) and len(values) == 2:
        offsets[1] = (
            op.integer("axis") - offsets[0]
        )  # a legacy operator may align its second argument elsewhere
    pairs = list(zip(values, offsets, strict=True))
    rows = [(value, value.axis + offset) for value, offset in pairs if _rows(value)]
    first, axis = rows[0]
    if any(other != axis for _, other in rows):
        return op.mixed(_ONE_PAIR)
    folds = {(value.outer, value.inner) for value, _ in rows}
    if len(folds) > 1 and any(outer != ONE for outer, _ in folds):
        return op.unknown()
    for value, offset in pairs:
        size = value.sizes[axis - offset] if value.sizes is not None and axis >= offset else ONE
        if not _rows(value) and size is not None and (size.number or 1) > 1:
            plain = first.inner == ONE and first.outer == ONE
            return op.mixed(f"which pairs the rows with {size.number} constants") if plain else op.unknown()
    return op.moved(first, axis, sizes=_widest(values, offsets, rank))


def _rows(value: Value) -> bool:
    return value.kind is Kind.ROWS


def _widest(values: Sequence[Value], offsets: Sequence[int], rank: int) -> list[Size | None]:
    found: list[Size | None] = [ONE] * rank
    for value, offset in zip(values, offsets, strict=True):
        for place, size in enumerate(value.sizes or ()):
            if found[place + offset] == ONE or (size is not None and (size.number or 1) > 1):
                found[place + offset] = size
    return found


def reduction(op: Applied) -> Value:
    """An operator that removes some or all axes."""
    x = op.tensor()
    rank = op.rank(x)
    name = "dim" if "dim" in op.attributes else "axis"
    axes = op.axes(name, rank, ())
    if op.operation.kind in ("kthvalue", "mode") and not axes:
        axes = [rank - 1]
    everything = op.flag("reduce_all") or op.flag("asvector") or op.flag("flatten") or not axes
    if everything or x.axis in axes:
        return op.mixed()
    keeps = op.flag("keepdim") or op.flag("keepdims")
    return op.moved(x, x.axis if keeps else x.axis - sum(axis < x.axis for axis in axes))


def along_axis(op: Applied) -> Value:
    """An operator that keeps all axes; the entries along some of them depend on each other."""
    x = op.tensor()
    rank = op.rank(x)
    default = _ALONG_AXIS[op.operation.kind]
    names = [name for name in ("axis", "axes", "dim", "dims") if name in op.attributes or op.given(name)]
    axes = op.axes(names[0] if names else "axis", rank, None if default is None else [default])
    return op.mixed() if x.axis in axes or op.flag("flatten") else op.moved(x, x.axis, sizes=x.sizes)


def roll(op: Applied) -> Value:
    """Rolls along the given axes, or along everything."""
    x = op.tensor()
    axes = op.axes("axis", op.rank(x), ())
    return op.mixed() if not axes or x.axis in axes else op.moved(x, x.axis, sizes=x.sizes)


def batch_first(op: Applied) -> Value:
    """An operator that is batch-wise by definition, if the rows are on axis 0."""
    rows = [value for value in op.tensors() if _rows(value)]
    first = rows[0]
    if all((value.axis, value.outer) == (0, first.outer) for value in rows):
        return op.moved(first, 0)
    return op.mixed() if "conv" in op.operation.kind and first.axis == 1 else op.unknown()


def batch_norm(op: Applied) -> list[Value]:
    """Normalises by the statistics in the model; in training form by those of the batch."""
    x = op.tensor()
    if not (op.flag("is_test") or op.flag("use_global_stats")):
        return [op.mixed("which normalises by the statistics of the batch, as in training")]
    result = op.moved(x, x.axis, sizes=x.sizes) if x.axis == 0 else op.unknown()
    # A legacy operator names its results, and writes its statistics back to parameters.
    main = {"", "y"}
    first = op.operation.outputs[0].key
    return [
        result if out.slot in main and (out.slot or out.key == first) else Value(Kind.CONSTANT)
        for out in op.operation.outputs
    ]


def layer_norm(op: Applied) -> Value:
    """Normalises over all axes from a given one on."""
    x = op.tensor()
    return op.mixed() if x.axis >= op.integer("begin_norm_axis", 1) else op.moved(x, x.axis, sizes=x.sizes)


def dropout(op: Applied) -> Value:
    """Does nothing in a model for inference."""
    x = op.tensor()
    return op.moved(x, x.axis, sizes=x.sizes) if op.flag("is_test") else op.unknown()


def linear_algebra(op: Applied) -> Value:
    """Works on each matrix of the last two axes."""
    values = op.tensors()
    rank = max(op.rank(value) for value in values)
    axes = {value.axis + rank - op.rank(value) for value in values if _rows(value)}
    if len(axes) > 1:
        return op.unknown()
    first = next(value for value in values if _rows(value))
    return op.mixed() if max(axes) >= rank - 2 else op.moved(first, max(axes))


def matmul(op: Applied) -> Value:
    """Multiplies matrices of the last two axes; the axes before them match."""
    x, y = op.tensor("x"), op.tensor("vec" if op.operation.kind == "mv" else "y")
    ranks = op.rank(x), op.rank(y)
    if min(ranks) < 1:
        raise NotKnownError
    swapped = op.flag("transpose_x"), op.flag("transpose_y")
    rank = max(*ranks, 2)
    # Maps an argument's axis to the result's; the axis that is summed over becomes None.
    places: list[int | None] = []
    for side, (value, own, swap) in enumerate(zip((x, y), ranks, swapped, strict=True)):
        if not _rows(value):
            continue
        from_end = own - value.axis
        if own == 1:
            places.append(None)
        elif from_end > 2:
            places.append(rank - from_end)
        else:
            summed = (from_end == 1) == (side == 0)
            summed = summed != swap
            places.append(None if summed else rank - 2 + side)
    if None in places:
        return op.mixed()
    if len(set(places)) > 1:
        return op.mixed(_ONE_PAIR)
    place = places[0]
    assert place is not None
    first = x if _rows(x) else y
    if _rows(x) and _rows(y) and x.outer != y.outer:
        return op.unknown()
    if ranks[0] == 1:  # a vector's axis is gone
        place -= place == rank - 1
    return op.moved(first, place)


def matmul_with_flatten(op: Applied) -> Value:
    """Multiplies matrices that have x's first axes as rows and the others as columns."""
    x, y = op.tensor("x"), op.tensor("y")
    if _rows(y):
        return op.mixed() if not _rows(x) else op.unknown()
    columns = op.integer("x_num_col_dims", 1)
    return op.moved(x, x.axis) if x.axis < columns else op.mixed()


def fc(op: Applied) -> Value:
    """Multiplies like `matmul_with_flatten`, and adds a bias."""
    x = op.tensor("x")
    if not _rows(x) or any(_rows(value) for value in op.tensors("x")):
        return op.unknown()
    return op.moved(x, x.axis) if x.axis < op.integer("in_num_col_dims", 1) else op.mixed()


def dot(op: Applied) -> Value:
    """Sums over the last axis, which it removes."""
    paired = broadcast(op, op.tensors())
    if paired.kind is not Kind.ROWS:
        return paired
    rank = max(op.rank(value) for value in op.tensors())
    return op.mixed() if paired.axis == rank - 1 else op.moved(paired, paired.axis)


def bmm(op: Applied) -> Value:
    """Multiplies matrices pairwise along axis 0, which must be the batch of both or of neither."""
    return matmul(op)


def addmm(op: Applied) -> Value:
    """Adds a term to a matrix product."""
    x, y, term = op.tensor("x"), op.tensor("y"), op.tensors("x", "y")
    if _rows(y) or not _rows(x) or any(_rows(value) for value in term):
        return op.unknown()
    return op.mixed() if x.axis == op.rank(x) - 1 else op.moved(x, x.axis)


def einsum(op: Applied) -> Value:
    """Follows the axes by their letters."""
    equation = str(op.attributes.get("equation", "")).replace(" ", "")
    left, _, right = equation.partition("->")
    terms, values = left.split(","), op.tensors()
    if "." in equation or not right or len(terms) != len(values):
        raise NotKnownError
    letters = {term[value.axis] for term, value in zip(terms, values, strict=True) if _rows(value)}
    if len(letters) > 1:
        return op.mixed(_ONE_PAIR)
    (letter,) = letters
    if letter not in right:
        return op.mixed()
    return op.moved(next(value for value in values if _rows(value)), right.index(letter))


def rnn(op: Applied) -> Value:
    """Expects steps on axis 0 and rows on axis 1."""
    x = op.tensor("x")
    if not _rows(x):
        return op.unknown()
    return op.moved(x, 1) if x.axis == 1 else op.mixed()


def embedding(op: Applied) -> Value:
    """Gives a vector for each number."""
    if any(_rows(value) for value in op.tensors("ids")):
        return op.unknown()
    ids = op.tensor("ids")
    return op.moved(ids, ids.axis)


def one_more_axis(op: Applied) -> Value:
    """Adds an axis at the end."""
    x = op.tensor("x")
    return op.moved(x, x.axis) if _rows(x) else op.unknown()


def sequence_mask(op: Applied) -> Value:
    """Gives masks of a given length, or as long as the longest row."""
    lengths = op.sizes_of("maxlen") or [ONE]
    if all(length is None or length.factor > 0 for length in lengths):
        return one_more_axis(op)
    return op.mixed("whose result is as wide as the longest row asks for", follows_data=True)


def full_reduction(op: Applied) -> Value:
    """Over everything."""
    return op.mixed(MIXES)


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(REDUCTIONS, reduction),
    **dict.fromkeys(FULL_REDUCTIONS, full_reduction),
    **dict.fromkeys(_ALONG_AXIS, along_axis),
    **dict.fromkeys(BATCH_FIRST, batch_first),
    **dict.fromkeys(LINEAR_ALGEBRA, linear_algebra),
    **dict.fromkeys(("matmul", "legacy_matmul", "mv"), matmul),
    **dict.fromkeys(("addmm", "baddbmm"), addmm),
    **dict.fromkeys(("layer_norm", "rms_norm"), layer_norm),
    **dict.fromkeys(("rnn", "cudnn_lstm"), rnn),
    **dict.fromkeys(("embedding", "lookup_table"), embedding),
    "batch_norm": batch_norm,
    "bmm": bmm,
    "dot": dot,
    "dropout": dropout,
    "einsum": einsum,
    "fc": fc,
    "matmul_with_flatten": matmul_with_flatten,
    "one_hot": one_more_axis,
    "roll": roll,
    "sequence_mask": sequence_mask,
}
