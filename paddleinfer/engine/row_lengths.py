"""Splits a request whose rows differ in length into parts of one length each, and joins their results."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from paddleinfer.engine.futures import InferFuture
from paddleinfer.engine.padding import Padded, Padding, length_of, padded_inputs, target_of
from paddleinfer.errors import InvalidInput, ModelError

if TYPE_CHECKING:
    from paddleinfer.config import PadAxis
    from paddleinfer.explanation import InferInfo

__all__ = ["JoinedFuture", "JoinedHandle", "Split", "split_rows"]

Array = npt.NDArray[Any]
Results = dict[str, Array]
Submit = Callable[[list[dict[str, Array]], list[InferFuture]], None]


@dataclass(frozen=True)
class Split:
    """A request in parts; the rows of a part are padded to one length."""

    parts: tuple[Padded, ...]
    rows: tuple[npt.NDArray[np.intp], ...]
    """For each part, the places of its rows in the request."""
    lengths: npt.NDArray[np.int64]
    """The length of each row."""
    length: int
    """The length of the whole request on the axis."""
    pad: PadAxis

    def join(self, results: Sequence[Results]) -> Results:
        """Joins the parts' results into one, its rows in order, with the fill after each row's own length."""
        return {name: self._joined(name, [part[name] for part in results]) for name in results[0]}

    def _joined(self, name: str, parts: list[Array]) -> Array:
        axis = self.pad.outputs.get(name)
        first = parts[0]
        shape = [len(self.lengths), *first.shape[1:]]
        if axis is None:
            joined = np.empty(shape, first.dtype)
            for rows, part in zip(self.rows, parts, strict=True):
                joined[rows] = part
            return joined
        per = self.pad.per.get(name, 1)
        shape[axis] = math.ceil(self.length / per)
        joined = np.full(shape, self.pad.output_fill.get(name, 0), first.dtype)
        for rows, part in zip(self.rows, parts, strict=True):
            for row, values in zip(rows, part, strict=True):
                kept = (slice(None),) * (axis - 1) + (slice(0, math.ceil(self.lengths[row] / per)),)
                joined[row][kept] = values[kept]
        return joined


def split_rows(padding: Padding | None, feeds: object) -> Split | None:
    """Splits a request; None if rows must not be split or are all as long as the request.

    Raises
    ------
    InvalidInput
        It does not fit the model, or a row has an impossible length.
    """
    pad = None if padding is None else next((one for one in padding.axes if one.split_rows), None)
    if pad is None or padding is None:
        return None
    arrays = padding.arrays(feeds)
    length = length_of(pad, arrays)
    lengths = _own_lengths(pad, arrays, length)
    if len(lengths) == 0 or lengths.min() == length:
        return None
    targets = np.array([target_of(pad, max(1, int(own))) for own in lengths])
    parts, places = [], []
    for target in np.unique(targets):
        rows = np.flatnonzero(targets == target)
        parts.append(padding.padded(_part(pad, arrays, rows, max(1, int(lengths[rows].max())))))
        places.append(rows)
    return Split(tuple(parts), tuple(places), lengths, length, pad)


def _own_lengths(pad: PadAxis, arrays: Mapping[str, Array], length: int) -> npt.NDArray[np.int64]:
    if pad.lengths is not None:
        own = np.asarray(arrays[pad.lengths]).reshape(-1).astype(np.int64)
        rows = len(next(iter(arrays.values())))
        if len(own) != rows or (rows and not 0 <= own.min() <= own.max() <= length):
            raise InvalidInput(
                f"{pad.lengths!r} must hold a length from 0 to {length} for each of the {rows} rows, "
                f"not {own.tolist()}"
            )
        return own
    assert pad.mask is not None
    known = arrays[pad.mask] != 0
    if length == 0:
        return np.zeros(len(known), np.int64)
    # A row ends with the last element that its mask admits.
    return np.where(known.any(axis=1), length - np.argmax(known[:, ::-1], axis=1), 0).astype(np.int64)


def _part(
    pad: PadAxis, arrays: Mapping[str, Array], rows: npt.NDArray[np.intp], length: int
) -> dict[str, Array]:
    axes = dict(padded_inputs(pad))
    part = {}
    for name, array in arrays.items():
        taken = array[rows]
        if name in axes:
            taken = taken[(slice(None),) * axes[name] + (slice(0, length),)]
        part[name] = np.ascontiguousarray(taken)
    return part


class JoinedHandle:
    """Offers the parts' futures as one handle, for ``InferFuture`` and ``infer_many``."""

    def __init__(self, split: Split, futures: Sequence[InferFuture]) -> None:
        self._split = split
        self._futures = futures
        self._handles = [future.handle for future in futures]

    @property
    def cancelled(self) -> bool:
        """Tells whether no part ran."""
        return (
            self.done() and any(handle.cancelled for handle in self._handles) and self._first_error() is None
        )

    @property
    def rows(self) -> int:
        """The rows of all parts."""
        return len(self._split.lengths)

    def done(self) -> bool:
        """Tells whether all parts have ended."""
        return all(handle.done() for handle in self._handles)

    def started(self) -> bool:
        """Tells whether any part runs or has run."""
        return any(handle.started() for handle in self._handles)

    def wait(self, timeout: float | None) -> bool:
        """Waits for all parts."""
        until = None if timeout is None else time.monotonic() + timeout
        for handle in self._handles:
            if not handle.wait(None if until is None else max(0.0, until - time.monotonic())):
                return False
        return True

    def cancel(self) -> bool:
        """Cancels the request as a whole; a part that has started keeps the others."""
        if self.started():
            return False
        return all([handle.cancel() for handle in self._handles])

    def give_up(self) -> None:
        """Ends all parts."""
        for handle in self._handles:
            handle.give_up()

    def info(self) -> Any:
        """Returns the record of the part that took longest."""
        if not self.done():
            return None
        facts = [found for handle in self._handles if (found := handle.info()) is not None]
        return max(facts, key=lambda found: found["queue_us"] + found["run_us"], default=None)

    def result(self) -> Results:
        """Returns the joined outputs, or raises the first part's error."""
        error = self._first_error()
        if error is not None:
            raise error
        return self._split.join([future.result() for future in self._futures])

    def _first_error(self) -> BaseException | None:
        """Returns the error that a part failed with; other parts may have been given up because of it."""
        for future in self._futures:
            if not future.cancelled() and (error := future.exception()) is not None:
                return error
        return None


class JoinedFuture(InferFuture):
    """The future of a request whose rows were split; the first failure of a part decides its end."""

    def __init__(self, split: Split, submit: Submit) -> None:
        super().__init__()
        self._settling = threading.Lock()
        self._settled = False
        futures = [InferFuture(part) for part in split.parts]
        submit([part.feeds for part in split.parts], futures)
        self._parts = JoinedHandle(split, futures)
        self.attach(self._parts)
        for future in futures:
            future.add_done_callback(self._part_ended)

    @property
    def parts(self) -> JoinedHandle:
        """Its requests as one handle."""
        return self._parts

    def _part_ended(self, future: InferFuture) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._parts.give_up()
        with self._settling:
            if self._settled or not self._parts.done():
                return
            self._settled = True
        self.settle()

    def joined(self) -> Results:
        """Returns what ``infer`` returns; a caller that stops waiting gives the request up."""
        try:
            return self.result()
        except BaseException:
            self._parts.give_up()
            raise

    def joined_with_info(self) -> tuple[Results, InferInfo]:
        """Returns the same with why the request went as it did, which a ModelError has, too."""
        try:
            results = self.joined()
        except ModelError as error:
            error.info = self.info
            raise
        info = self.info
        assert info is not None  # it ran
        return results, info

    async def awaited(self) -> None:
        """Waits for the end, without its outcome; cancelling the task gives the request up."""
        ended = asyncio.get_running_loop().create_future()

        def tell() -> None:
            if not ended.done():
                ended.set_result(None)

        def wake(_: InferFuture) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                ended.get_loop().call_soon_threadsafe(tell)

        self.add_done_callback(wake)
        try:
            await ended
        except asyncio.CancelledError:
            self._parts.give_up()
            raise
