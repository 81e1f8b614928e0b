"""Defines the calls of an engine: infer, submit, ainfer, infer_many and warmup."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Literal, overload

from paddleinfer import _ext
from paddleinfer.config import EngineConfig, check_timeout
from paddleinfer.engine.beside_loop import are_many
from paddleinfer.engine.futures import InferFuture
from paddleinfer.engine.generation import Generation
from paddleinfer.engine.generations import Generations
from paddleinfer.engine.padding import explained
from paddleinfer.engine.row_lengths import JoinedFuture
from paddleinfer.engine.streams import UnderWay, in_order
from paddleinfer.engine.submission import (
    Inputs,
    Results,
    StreamHandle,
    answer_of,
    blame,
    infer_in,
    split_in,
    start_in,
    submit_in,
)
from paddleinfer.engine.warmup import WarmupReport
from paddleinfer.errors import ConfigError, EngineClosed, InvalidInput, ModelError
from paddleinfer.explanation import InferInfo
from paddleinfer.sentences import shown

if TYPE_CHECKING:
    from paddleinfer.engine.observers import ObservedCalls

__all__ = ["EngineCalls"]


class EngineCalls:
    """The part of an engine that callers call."""

    _observed: ObservedCalls | None = None

    def __init__(self, generations: Generations, config: EngineConfig) -> None:
        self._generations = generations
        self._config = config
        self._default_timeout = config.default_timeout
        self._splits_rows = any(pad.split_rows for pad in config.batching.pad)

    @overload
    def infer(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = ...,
        outputs: Sequence[str] | None = ...,
        priority: int = ...,
        return_info: Literal[False] = ...,
    ) -> Results: ...

    @overload
    def infer(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = ...,
        outputs: Sequence[str] | None = ...,
        priority: int = ...,
        return_info: Literal[True],
    ) -> tuple[Results, InferInfo]: ...

    @overload
    def infer(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = ...,
        outputs: Sequence[str] | None = ...,
        priority: int = ...,
        return_info: bool,
    ) -> Results | tuple[Results, InferInfo]: ...

    def infer(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        outputs: Sequence[str] | None = None,
        priority: int = 1,
        return_info: bool = False,
    ) -> Results | tuple[Results, InferInfo]:
        """Runs the model on one request and waits for the result.

        Parameters
        ----------
        inputs
            A dict by name or alias, a list in order, or one array for a model with one input. Arrays have
            a batch axis first. They are never written to.
        timeout
            Seconds from this call to the result; None uses ``default_timeout``.
        outputs
            Names of the outputs to copy out; None is all of them.
        priority
            0, 1 or 2, the most urgent first. Without a deadline a request is due 0.1, 1 or 10 seconds after
            its arrival; of those that wait, the one that is due first goes first.
        return_info
            Also return why the request went as it did; a ModelError has it as ``info``.

        Returns
        -------
        dict
            Name (as in `outputs`, else Paddle's) -> a writable array of its own. With `return_info` a tuple
            of it and an InferInfo.

        Raises
        ------
        InvalidInput
            The inputs do not fit the model; nothing ran.
        QueueFull
            Too much waits, or so much that the result would come after the deadline; nothing ran.
        DeadlineExceeded, ModelError, EngineClosed
            The request ended without a result.
        """
        if self._observed is not None:
            return self._observed.infer(inputs, timeout, outputs, priority, return_info)
        if self._splits_rows:
            split = self._split(inputs, timeout, outputs, priority)
            if split is not None:
                return split.joined_with_info() if return_info else split.joined()
        generation = self._generations.present
        if generation.green:  # the thread's other greenlets go on meanwhile
            future = self.submit(inputs, timeout=timeout, outputs=outputs, priority=priority)
            return answer_of(future, return_info)
        seconds = self._timeout(timeout)
        while True:  # most requests take this branch, so it makes no further call
            try:
                return infer_in(generation, inputs, seconds, outputs, priority, return_info)
            except EngineClosed as error:
                generation = self._generations.next_after(generation, error)

    def submit(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        outputs: Sequence[str] | None = None,
        priority: int = 1,
    ) -> InferFuture:
        """Queues one request; see ``infer`` for the parameters and the errors raised at once.

        `timeout` is the request's deadline: past it the future ends with DeadlineExceeded. The arrays must
        not be written to before the future is done. Its ``info`` says why the request went as it did.
        """
        if self._observed is not None:
            return self._observed.submit(inputs, timeout, outputs, priority)
        if self._splits_rows:
            split = self._split(inputs, timeout, outputs, priority)
            if split is not None:
                return split
        return self._generations.call(submit_in, inputs, self._timeout(timeout), outputs, priority)

    @overload
    async def ainfer(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = ...,
        outputs: Sequence[str] | None = ...,
        priority: int = ...,
        return_info: Literal[False] = ...,
    ) -> Results: ...

    @overload
    async def ainfer(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = ...,
        outputs: Sequence[str] | None = ...,
        priority: int = ...,
        return_info: Literal[True],
    ) -> tuple[Results, InferInfo]: ...

    @overload
    async def ainfer(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = ...,
        outputs: Sequence[str] | None = ...,
        priority: int = ...,
        return_info: bool,
    ) -> Results | tuple[Results, InferInfo]: ...

    async def ainfer(
        self,
        inputs: Inputs,
        *,
        timeout: float | None = None,
        outputs: Sequence[str] | None = None,
        priority: int = 1,
        return_info: bool = False,
    ) -> Results | tuple[Results, InferInfo]:
        """Runs the model on one request and awaits the result. See ``infer`` for what it takes and raises.

        Requests of one turn of the event loop are queued together when the turn ends. Cancelling the task
        cancels the request. The arrays must not be written to before the result is there.
        """
        if self._observed is not None:
            return await self._observed.ainfer(inputs, timeout, outputs, priority, return_info)
        if self._splits_rows:
            split = self._split(inputs, timeout, outputs, priority, blocks=False)
            if split is not None:
                await split.awaited()
                return split.joined_with_info() if return_info else split.joined()
        seconds = self._timeout(timeout)
        called_ns = 0  # now
        generation = self._generations.present
        while True:
            feeds, padded = inputs, None
            try:
                if generation.padding is not None:
                    if are_many(inputs):
                        called_ns = called_ns or monotonic_ns()
                        padded = await generation.beside_loop.run(generation.padding.apply, inputs)
                    else:
                        padded = generation.padding.apply(inputs)
                    feeds = padded.feeds
                try:
                    call = generation.core.ainfer(feeds, seconds, outputs, priority, called_ns)
                except _ext.TooLongForLoop:
                    called_ns = called_ns or monotonic_ns()
                    take = functools.partial(generation.core.take, outputs=outputs)
                    taken = await generation.beside_loop.run(take, feeds)
                    call = generation.core.ainfer(taken, seconds, outputs, priority, called_ns)
                try:
                    results: Results = await call.future
                    break
                except BaseException:
                    call.give_up()
                    raise
            except EngineClosed as error:
                generation = self._generations.next_after(generation, error)
            except ModelError as error:
                if return_info:
                    blame(error, call.info(), padded)
                raise
        if padded is not None:
            results = padded.crop(results)
        if not return_info:
            return results
        facts = call.info()
        assert facts is not None  # it ran
        return results, explained(facts, padded)

    def infer_many(
        self,
        inputs: Iterable[Inputs],
        *,
        timeout: float | None = None,
        outputs: Sequence[str] | None = None,
        priority: int = 1,
        look_ahead: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Iterator[Results]:
        """Runs the model on each item of an iterable and gives the results in order, as they are asked for.

        For more data than fits in memory: a few batches of rows are under way, and the iterable is only
        asked for the next item when there is room for it. Leaving the loop early cancels what is under way.

        Parameters
        ----------
        inputs
            Each item is what ``infer`` takes.
        timeout, outputs, priority
            They apply to each request, as in ``infer``.
        look_ahead
            Items under way at once. None, or for items of many rows any number, keeps as many rows under way
            as give every instance a full batch to run and another one that waits, but at least two items.
        progress
            It is called with 1 before each result is given: pass the ``update`` of a tqdm bar, or
            ``functools.partial(progress.advance, task)`` for rich.

        Raises
        ------
        ConfigError
            `look_ahead` is not a positive integer, or `progress` not a function.
        InvalidInput
            `inputs` is not an iterable of requests.
        Exception
            An error of ``infer`` or of the iterable is raised after the results of the items before it.
        """
        present = self._generations.present
        few_batches = 2 * present.resolved.instances * present.config.batching.most_rows
        if look_ahead is None:
            look_ahead = few_batches
        elif isinstance(look_ahead, bool) or not isinstance(look_ahead, int) or look_ahead < 1:
            raise ConfigError(f"look_ahead must be a positive integer, not {shown(look_ahead)}")
        if progress is not None and not callable(progress):
            raise ConfigError(f"progress must be a function that takes 1, not {shown(progress)}")
        if isinstance(inputs, (Mapping, str, bytes)) or not isinstance(inputs, Iterable):
            raise InvalidInput(
                "infer_many takes an iterable whose items are what infer takes, such as [{'x': rows}, …], "
                f"not one {type(inputs).__name__}"
            )
        start = self._starter(self._timeout(timeout), outputs, priority)
        # With items of one row this is as many items as were asked for.
        return in_order(iter(inputs), start, look_ahead, max(look_ahead, few_batches), progress)

    def warmup(
        self, inputs: Inputs | None = None, *, batch_sizes: Sequence[int] | None = None
    ) -> WarmupReport:
        """Runs the model at several batch sizes on every instance, so that nothing is cold or unknown.

        It fills the table of run times, and compares rows alone with rows in a batch; a model that fails that
        runs each request by itself from then on, with a warning.

        Parameters
        ----------
        inputs
            One example row, as ``infer`` takes it. None: random numbers (zeros for integers) where the
            model's shape has no free dimension but the rows.
        batch_sizes
            None: 1, 2, 4 and so on up to ``max_batch_size``, or the allowed sizes.

        Raises
        ------
        InvalidInput
            The example does not fit the model, or the model needs one.
        ModelError, EngineClosed
            A run failed.
        """
        return self._generations.call(Generation.warmup, inputs, batch_sizes)

    def _timeout(self, given: float | None) -> float | None:
        """Returns the given timeout, or the engine's default.

        Raises
        ------
        InvalidInput
            It is not a timeout.
        """
        if given is None:
            return self._default_timeout
        try:
            check_timeout("timeout", given)
        except ConfigError as error:
            raise InvalidInput(str(error)) from None
        return given

    def _split(
        self,
        inputs: Inputs,
        timeout: float | None,
        outputs: Sequence[str] | None,
        priority: int,
        *,
        waits: bool = False,
        blocks: bool = True,
    ) -> JoinedFuture | None:
        """See ``split_in``."""
        seconds = self._timeout(timeout)
        return self._generations.call(split_in, inputs, seconds, outputs, priority, waits, blocks)

    def _starter(
        self, seconds: float | None, outputs: Sequence[str] | None, priority: int
    ) -> Callable[[Inputs], UnderWay]:
        """Returns the function that queues one item of a stream."""
        if self._observed is not None:
            return self._observed.starter(seconds, outputs, priority)
        return functools.partial(self.start, seconds, outputs, priority)

    def start(
        self, seconds: float | None, outputs: Sequence[str] | None, priority: int, item: Inputs
    ) -> StreamHandle:
        """Queues one item of a stream."""
        if self._splits_rows:
            split = self._split(item, seconds, outputs, priority, waits=True)
            if split is not None:
                return split.parts
        return self._generations.call(start_in, item, seconds, outputs, priority)
