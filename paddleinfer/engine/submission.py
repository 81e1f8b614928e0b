"""Starts one request in one generation: padded, in parts, in a stream, or from a greenlet."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.engine.futures import InferFuture
from paddleinfer.engine.generation import Generation
from paddleinfer.engine.greenlets import GreenHandle, Inbox, on_a_real_thread
from paddleinfer.engine.padding import Padded, PaddedHandle, explained
from paddleinfer.engine.row_lengths import JoinedFuture, JoinedHandle, split_rows
from paddleinfer.errors import ModelError, ThreadStartError
from paddleinfer.explanation import InferInfo

__all__ = [
    "Answer",
    "Inputs",
    "Results",
    "StreamHandle",
    "answer_of",
    "blame",
    "infer_in",
    "split_in",
    "start_in",
    "submit_in",
]

Results = dict[str, npt.NDArray[Any]]
Inputs = Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike] | npt.ArrayLike
Answer = Results | tuple[Results, InferInfo]
StreamHandle = _ext.Handle | GreenHandle | PaddedHandle | JoinedHandle


def infer_in(
    generation: Generation,
    inputs: Inputs,
    seconds: float | None,
    outputs: Sequence[str] | None,
    priority: int,
    return_info: bool,
) -> Answer:
    """Runs one request and waits for its result."""
    padded = None if generation.padding is None else generation.padding.apply(inputs)
    feeds = inputs if padded is None else padded.feeds
    try:
        answer = generation.core.infer(feeds, seconds, outputs, priority, return_info)
    except ModelError as error:
        blame(error, error.info, padded)
        raise
    results: Results = answer[0] if return_info else answer
    if padded is not None:
        results = padded.crop(results)
    return (results, explained(answer[1], padded)) if return_info else results


def submit_in(
    generation: Generation,
    inputs: Inputs,
    seconds: float | None,
    outputs: Sequence[str] | None,
    priority: int,
) -> InferFuture:
    """Queues one request."""
    generation.start_completions()
    padded = None if generation.padding is None else generation.padding.apply(inputs)
    feeds = inputs if padded is None else padded.feeds
    if generation.green:
        return _submit_in_greenlet(generation, feeds, padded, seconds, outputs, priority)
    future = InferFuture(padded)
    generation.core.submit(feeds, seconds, outputs, priority, future)
    return future


def answer_of(future: InferFuture, return_info: bool) -> Answer:
    """Waits for a request of ``submit`` as ``infer`` waits."""
    try:
        results = future.result()
    except BaseException as error:
        future.give_up()  # whatever ended the wait; this does nothing to a request that is over
        if return_info and isinstance(error, ModelError):
            error.info = future.info
        raise
    info = future.info
    assert info is not None  # it ran
    return (results, info) if return_info else results


def split_in(
    generation: Generation,
    inputs: Inputs,
    seconds: float | None,
    outputs: Sequence[str] | None,
    priority: int,
    waits: bool,
    blocks: bool,
) -> JoinedFuture | None:
    """Queues one request in parts; None if all its rows have one length.

    With `waits` the parts wait for room, whatever ``on_full`` says; with `blocks` this call waits, too.
    """
    split = split_rows(generation.padding, inputs)
    if split is None:
        return None
    generation.start_completions()

    def submit(parts: list[Results], futures: list[InferFuture]) -> None:
        queue = functools.partial(
            generation.core.submit_together, parts, seconds, outputs, priority, futures, waits, blocks
        )
        if blocks and generation.green:
            on_a_real_thread(queue)
        else:
            queue()

    return JoinedFuture(split, submit)


def start_in(
    generation: Generation,
    item: Inputs,
    seconds: float | None,
    outputs: Sequence[str] | None,
    priority: int,
) -> StreamHandle:
    """Queues one item of a stream."""
    padded = None if generation.padding is None else generation.padding.apply(item)
    feeds = item if padded is None else padded.feeds
    core = generation.core
    handle: _ext.Handle | GreenHandle
    if generation.green:
        handle = GreenHandle(
            on_a_real_thread(core.start, feeds, seconds, outputs, priority, unwanted=_ext.Handle.give_up)
        )
    else:
        handle = core.start(feeds, seconds, outputs, priority)
    return handle if padded is None else PaddedHandle(handle, padded)


def blame(error: ModelError, facts: Any, padded: Padded | None) -> None:
    """Adds the core's record of the request to the error, if the call asked for it."""
    error.info = None if facts is None else explained(facts, padded)


def _submit_in_greenlet(
    generation: Generation,
    feeds: Inputs,
    padded: Padded | None,
    seconds: float | None,
    outputs: Sequence[str] | None,
    priority: int,
) -> InferFuture:
    """Returns a future that is settled in its greenlet's hub."""
    inbox = Inbox.of_this_hub()
    future = InferFuture(padded, inbox)

    def queue() -> _ext.Handle:
        try:
            return generation.core.submit(feeds, seconds, outputs, priority, future)
        except BaseException:
            inbox.put([None])
            raise

    inbox.expect()
    if generation.config.batching.on_full == "wait":
        try:
            on_a_real_thread(queue, unwanted=_ext.Handle.give_up)
        except ThreadStartError:  # the call was never made
            inbox.put([None])
            raise
    else:
        queue()
    return future
