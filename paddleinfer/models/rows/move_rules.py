"""Says what operators that move, fold, cut or choose entries do to the rows."""

from __future__ import annotations

from collections.abc import Sequence

from paddleinfer.models.rows.operators import Applied, NotKnownError
from paddleinfer.models.rows.rules import RULES, Rule
from paddleinfer.models.rows.values import ONE, ROWS, Kind, Size, Value, known, product

__all__ = ["ALL_RULES", "stacked"]

_CUTS = "which takes rows out of the batch by their place in it"
_CHOOSES = "which chooses rows of the batch by their place in it"
_APART = "which takes the rows of the batch apart"
_JOINS = "which puts rows in the place of others"
_TO_THE_END = 1 << 30


def reshape(op: Applied) -> Value:
    """Follows the batch through the entries' order, which a reshape keeps."""
    x = op.tensor("x")
    rank = op.rank(x)
    given = op.sizes_of("shape")
    if given is None:
        raise NotKnownError
    assert x.sizes is not None
    total = product(x.sizes)
    sizes: list[Size | None] = []
    open_places = []
    for place, size in enumerate(given):
        if size is None or size.number == -1:
            open_places.append(place)
            sizes.append(None)
        elif size.number == 0:
            sizes.append(x.sizes[place] if place < rank else None)
        else:
            sizes.append(size)
    if len(open_places) == 1:
        others = product(size for place, size in enumerate(sizes) if place != open_places[0])
        sizes[open_places[0]] = total.over(others) if total is not None and others is not None else None
    return _refolded(op, x, sizes)


def flatten(op: Applied) -> Value:
    """Folds a range of axes into one."""
    x = op.tensor("x")
    rank = op.rank(x)
    (start,), (stop,) = op.axes("start_axis", rank, [1]), op.axes("stop_axis", rank, [-1])
    assert x.sizes is not None
    return _refolded(op, x, [*x.sizes[:start], product(x.sizes[start : stop + 1]), *x.sizes[stop + 1 :]])


def legacy_flatten(op: Applied) -> Value:
    """Folds all axes into two, divided at a given one."""
    x = op.tensor("x")
    axis = op.axes("axis", op.rank(x), [1])[0]
    assert x.sizes is not None
    return _refolded(op, x, [product(x.sizes[:axis]), product(x.sizes[axis:])])


def _refolded(op: Applied, x: Value, sizes: Sequence[Size | None]) -> Value:
    """Returns the same entries in the same order, in axes of these sizes."""
    assert x.sizes is not None
    before = product((*x.sizes[: x.axis], x.outer))
    if before is None:
        raise NotKnownError
    for axis, size in enumerate(sizes):
        if size is None:
            raise NotKnownError
        inner = size.over(before)
        rest = None if inner is None else inner.over(ROWS)
        if inner is not None and inner.has_rows and rest is not None and not rest.has_rows:
            if rest.factor.denominator != 1 and not rest.powers:
                return op.mixed(_APART)
            return op.moved(x, axis, before, rest, sizes)
        if not size.divides(before):
            # A size that does not surely divide it may still do so, unless all sizes are known.
            certain = before.number is not None and size.number is not None
            if certain:
                return op.mixed(_APART)
            raise NotKnownError
        left = before.over(size)
        if left is None:
            raise NotKnownError
        before = left
    raise NotKnownError


def transpose(op: Applied) -> Value:
    """Puts axes in another order."""
    x = op.tensor("x")
    rank = op.rank(x)
    order = op.axes("perm" if "perm" in op.attributes else "axis", rank)
    assert x.sizes is not None
    return op.moved(x, order.index(x.axis), sizes=[x.sizes[axis] for axis in order])


def unsqueeze(op: Applied) -> Value:
    """Adds axes of size 1."""
    x = op.tensor("x")
    axis, rank = x.axis, op.rank(x)
    for new in op.integers("axis" if op.given("axis") or "axis" in op.attributes else "axes"):
        rank += 1
        axis += (new + rank if new < 0 else new) <= axis
    return op.moved(x, axis)


def squeeze(op: Applied) -> Value:
    """Removes axes of size 1; a batch of one row is such an axis."""
    x = op.tensor("x")
    rank = op.rank(x)
    axes = op.axes("axis" if op.given("axis") or "axis" in op.attributes else "axes", rank, ())
    if not axes:
        assert x.sizes is not None
        axes = [axis for axis, size in enumerate(x.sizes) if size == ONE or axis == x.axis]
    if x.axis in axes:
        if (x.outer, x.inner) != (ONE, ONE):
            return op.unknown()
        return op.mixed("which leaves out the axis of the batch when there is one row")
    return op.moved(x, x.axis - sum(axis < x.axis for axis in axes))


def concat(op: Applied) -> Value:
    """Joins along an axis; joined batches are a fold that a split can undo."""
    values = op.tensors("axis")
    rank = max(op.rank(value) for value in values)
    (axis,) = op.axes("axis", rank, [0])
    rows = [value for value in values if value.kind is Kind.ROWS]
    first = rows[0]
    if any((one.axis, one.outer, one.inner) != (first.axis, first.outer, first.inner) for one in rows):
        same = all(one.axis == first.axis for one in rows)
        return op.unknown() if same else op.mixed("which joins rows that lie along different axes")
    if axis != first.axis or len(values) == 1:
        return op.moved(first, axis=first.axis)
    if len(rows) < len(values) or (first.outer, first.inner) != (ONE, ONE):
        return op.mixed("which puts more behind the rows of the batch")
    return op.moved(first, axis, outer=known(len(values)))


def stack(op: Applied) -> Value:
    """Joins along a new axis."""
    values = op.tensors("axis")
    first = next(value for value in values if value.kind is Kind.ROWS)
    (axis,) = op.axes("axis", op.rank(first) + 1, [0])
    for value in values:
        if value.kind is Kind.ROWS and (value.axis, value.outer) != (first.axis, first.outer):
            return op.unknown()
    return op.moved(first, first.axis + (axis <= first.axis))


def stacked(op: Applied) -> Value:
    """Returns an array's elements along a new axis."""
    x = op.tensor("x")
    if x.kind is not Kind.ROWS:
        return x
    (axis,) = op.axes("axis", op.rank(x) + 1, [0])
    return op.moved(x, x.axis + (axis <= x.axis))


def split(op: Applied) -> Value:
    """Divides along an axis; joined batches become batches again."""
    x = op.tensor("x")
    (axis,) = op.axes("axis", op.rank(x), [0])
    if axis != x.axis:
        return op.moved(x, x.axis)
    parts = sum(len(output.types) for output in op.operation.outputs)
    even = op.operation.kind == "split_with_num" or op.integer("num", 0) == parts
    if x.outer == known(parts) and even:
        return op.moved(x, axis, outer=ONE)
    return op.mixed(_CUTS) if x.outer == ONE else op.unknown()


def unstack(op: Applied) -> Value:
    """Separates the entries along an axis."""
    x = op.tensor("x")
    (axis,) = op.axes("axis", op.rank(x), [0])
    return op.mixed(_CUTS) if axis == x.axis else op.moved(x, x.axis - (axis < x.axis))


def cut(op: Applied) -> Value:
    """Takes a range along some axes."""
    x = op.tensor("x")
    rank = op.rank(x)
    axes = op.axes("axes", rank)
    dropped = op.axes("decrease_axis", rank, ()) if "decrease_axis" in op.attributes else []
    if x.axis in axes and not _is_whole(op, x, axes.index(x.axis)):
        return op.mixed(_CUTS) if x.outer == ONE else op.unknown()
    return op.moved(x, x.axis - sum(axis < x.axis for axis in dropped))


def _is_whole(op: Applied, x: Value, place: int) -> bool:
    starts, ends = op.sizes_of("starts"), op.sizes_of("ends")
    steps = op.sizes_of("strides") or op.sizes_of("steps")
    if starts is None or ends is None or len(starts) <= place or len(ends) <= place:
        raise NotKnownError
    end = ends[place]
    if starts[place] is None or end is None:
        raise NotKnownError
    to_the_end = (end.number or 0) >= _TO_THE_END or (x.sizes is not None and end == x.sizes[x.axis])
    return starts[place] == known(0) and to_the_end and (steps is None or steps[place] == ONE)


def set_value(op: Applied) -> Value:
    """Writes into a part of x."""
    x = op.tensor("x")
    others = op.tensors("x", "starts", "ends", "steps", "strides")
    if x.kind is not Kind.ROWS or any(value.kind is Kind.ROWS for value in others):
        return op.unknown()
    axes = op.axes("axes", op.rank(x))
    if x.axis in axes and not _is_whole(op, x, axes.index(x.axis)):
        return op.mixed("which writes to rows of the batch by their place in it")
    return op.moved(x, x.axis, sizes=x.sizes)


def expand(op: Applied) -> Value:
    """Adds axes at the front, and repeats axes of size 1."""
    x = op.tensor("x")
    rank = op.operation.outputs[0].types[0].shape
    if rank is None:
        raise NotKnownError
    return op.moved(x, x.axis + len(rank) - op.rank(x))


def tile(op: Applied) -> Value:
    """Repeats a whole axis."""
    x = op.tensor("x")
    times = op.sizes_of("repeat_times") or []
    shift = max(0, len(times) - op.rank(x))
    place = x.axis + shift - max(0, op.rank(x) - len(times))
    repeats = ONE if place < 0 else times[place]
    outer = None if repeats is None else x.outer.times(repeats)
    folded_twice = ONE not in (x.outer, repeats)
    if outer is None or outer.has_rows or folded_twice:
        return op.unknown()
    return op.moved(x, x.axis + shift, outer=outer)


def repeat_interleave(op: Applied) -> Value:
    """Repeats each entry along an axis."""
    x = op.tensor("x")
    (axis,) = op.axes("axis" if "axis" in op.attributes else "dim", op.rank(x), [0])
    if axis != x.axis:
        return op.moved(x, x.axis)
    inner = x.inner.times(known(op.integer("repeats" if "repeats" in op.attributes else "Repeats")))
    return op.unknown() if inner is None else op.moved(x, axis, inner=inner)


def gather(op: Applied) -> Value:
    """Takes entries along an axis by their indices."""
    x, index = op.tensor("x"), op.tensor("index")
    name = "axis" if op.given("axis") or "axis" in op.attributes else "dim"
    (axis,) = op.axes(name, op.rank(x), [0])
    # A column of indices counts as a list of them.
    ranks = 1 if op.operation.kind == "gather" and op.rank(index) == 2 else op.rank(index)
    if x.kind is not Kind.ROWS:
        return op.moved(index, axis + index.axis)
    if axis == x.axis:
        return op.mixed(_CHOOSES)
    if index.kind is Kind.ROWS:
        return op.mixed("which pairs every row with the numbers of every other row")
    return op.moved(x, x.axis + (ranks - 1 if axis < x.axis else 0))


def gather_nd(op: Applied) -> Value:
    """Takes entries by their indices on several axes."""
    x, index = op.tensor("x"), op.tensor("index")
    deep = (index.sizes or (None,))[-1]
    depth = None if deep is None else deep.number
    if depth is None or (index.kind is Kind.ROWS and index.axis == op.rank(index) - 1):
        raise NotKnownError
    if x.kind is not Kind.ROWS:
        return op.moved(index, index.axis)
    if x.axis < depth:
        return op.mixed(_CHOOSES)
    if index.kind is Kind.ROWS:
        return op.mixed("which pairs every row with the numbers of every other row")
    return op.moved(x, x.axis - depth + op.rank(index) - 1)


def take_along_axis(op: Applied) -> Value:
    """Takes entries along an axis by an index for each place."""
    x, index = op.tensor("x"), op.tensor("index")
    name = "axis" if "axis" in op.attributes else "Axis"
    (axis,) = op.axes(name, op.rank(x))
    rows = [value for value in (x, index) if value.kind is Kind.ROWS]
    if any(value.axis != rows[0].axis for value in rows):
        return op.unknown()
    if x.kind is Kind.ROWS and axis == x.axis:
        return op.mixed(_CHOOSES)
    return op.moved(rows[0], rows[0].axis)


def put_along_axis(op: Applied) -> Value:
    """Writes entries along an axis by an index for each place."""
    x, others = op.tensor("x"), op.tensors("x")
    (axis,) = op.axes("axis" if "axis" in op.attributes else "Axis", op.rank(x))
    rows = [value for value in (x, *others) if value.kind is Kind.ROWS]
    if any(value.axis != rows[0].axis for value in rows):
        return op.unknown()
    return op.mixed(_JOINS) if axis == rows[0].axis else op.moved(rows[0], rows[0].axis)


def scatter(op: Applied) -> Value:
    """Writes whole entries of axis 0 by their indices."""
    rows = [value for value in op.tensors() if value.kind is Kind.ROWS]
    return op.mixed(_JOINS) if any(value.is_plain for value in rows) else op.unknown()


def pad(op: Applied) -> Value:
    """Adds entries at both ends of axes."""
    x = op.tensor("x")
    paddings = op.integers("paddings")
    if len(paddings) <= 2 * x.axis + 1:
        raise NotKnownError
    around = paddings[2 * x.axis : 2 * x.axis + 2]
    return op.mixed("which puts more around the rows of the batch") if any(around) else op.moved(x, x.axis)


def pad_space(op: Applied) -> Value:
    """Pads images, never around the rows."""
    x = op.tensor("x")
    return op.moved(x, 0) if x.axis == 0 else op.unknown()


def temporal_shift(op: Applied) -> Value:
    """Shifts between the frames of one clip, which lie together on axis 0."""
    x = op.tensor("x")
    frames = op.integer("seg_num")
    if x.axis == 0 and x.inner == known(frames):
        return op.moved(x, 0)
    return op.mixed("which shifts between rows that stand side by side") if x.is_plain else op.unknown()


ALL_RULES: dict[str, Rule] = {
    **RULES,
    **dict.fromkeys(("reshape", "legacy_reshape", "view_shape"), reshape),
    **dict.fromkeys(("gather", "index_select"), gather),
    **dict.fromkeys(("scatter", "scatter_nd_add", "index_add"), scatter),
    **dict.fromkeys(("set_value", "set_value_with_tensor"), set_value),
    **dict.fromkeys(("slice", "strided_slice"), cut),
    **dict.fromkeys(("split", "split_with_num"), split),
    **dict.fromkeys(("unstack", "unbind"), unstack),
    **dict.fromkeys(("expand", "expand_as"), expand),
    **dict.fromkeys(("pad2d", "pad3d"), pad_space),
    "concat": concat,
    "flatten": flatten,
    "gather_nd": gather_nd,
    "legacy_flatten": legacy_flatten,
    "pad": pad,
    "put_along_axis": put_along_axis,
    "repeat_interleave": repeat_interleave,
    "squeeze": squeeze,
    "stack": stack,
    "take_along_axis": take_along_axis,
    "temporal_shift": temporal_shift,
    "tile": tile,
    "transpose": transpose,
    "unsqueeze": unsqueeze,
}
