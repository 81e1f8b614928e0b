"""The engine: a model as a thread-safe, parallel, self-batching function."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, overload

from paddleinfer import _ext
from paddleinfer.config import check_timeout
from paddleinfer.engine_base import EngineBase, Inputs, Results
from paddleinfer.errors import ConfigError, EngineClosed, InvalidInput, ModelError
from paddleinfer.explanation import InferInfo
from paddleinfer.futures import InferFuture
from paddleinfer.generation import ReloadReport
from paddleinfer.padding import Padded, PaddedHandle, explained
from paddleinfer.streams import in_order
from paddleinfer.warmup import WarmupReport, warmup

__all__ = ["Engine"]


class Engine(EngineBase):
    __doc__ = EngineBase.__doc__

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
            Also return why the request went as it did; a ModelError's ``info`` says it, too.

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
            How else the request ended.
        """
        seconds = self._timeout(timeout)
        while True:
            generation = self._generation
            padded = None if generation.padding is None else generation.padding.apply(inputs)
            feeds = inputs if padded is None else padded.feeds
            try:
                answer = generation.core.infer(feeds, seconds, outputs, priority, return_info)
                break
            except EngineClosed as error:
                if not self._has_moved_on(generation, error):
                    raise
            except ModelError as error:
                _explain(error, error.info, padded)
                raise
        results: Results = answer[0] if return_info else answer
        if padded is not None:
            results = padded.crop(results)
        return (results, explained(answer[1], padded)) if return_info else results

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
        seconds = self._timeout(timeout)
        while True:
            generation = self._generation
            generation.start_completions()
            padded = None if generation.padding is None else generation.padding.apply(inputs)
            future = InferFuture(padded)
            feeds = inputs if padded is None else padded.feeds
            try:
                generation.core.submit(feeds, seconds, outputs, priority, future)
                return future
            except EngineClosed as error:
                if not self._has_moved_on(generation, error):
                    raise

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
        seconds = self._timeout(timeout)
        while True:
            generation = self._generation
            padded = None if generation.padding is None else generation.padding.apply(inputs)
            feeds = inputs if padded is None else padded.feeds
            try:
                call = generation.core.ainfer(feeds, seconds, outputs, priority)
                try:
                    results: Results = await call.future
                    break
                except BaseException:
                    call.give_up()
                    raise
            except EngineClosed as error:
                if not self._has_moved_on(generation, error):
                    raise
            except ModelError as error:
                if return_info:
                    _explain(error, call.info(), padded)
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

        For more data than fits in memory: at most `look_ahead` items are under way, and the iterable is only
        asked for the next when there is room for it. Leaving the loop early cancels what is under way.

        Parameters
        ----------
        inputs
            Each item is what ``infer`` takes.
        timeout, outputs, priority
            For each request, as of ``infer``.
        look_ahead
            Items under way at once; None is enough for every instance to have a full batch running and
            another waiting.
        progress
            Called with the number of results so far, before each is given.

        Raises
        ------
        ConfigError
            `look_ahead` is not a positive integer.
        Exception
            What ``infer`` raises, or the iterable, after the results of the items before it.
        """
        if look_ahead is None:
            instances = self._generation.settings["instances"].value
            look_ahead = 2 * instances * self._config.batching.most_rows
        elif isinstance(look_ahead, bool) or not isinstance(look_ahead, int) or look_ahead < 1:
            raise ConfigError(f"look_ahead must be a positive integer, not {look_ahead!r}")
        start = self._starter(self._timeout(timeout), outputs, priority)
        return in_order(iter(inputs), start, look_ahead, progress)

    def _starter(
        self, seconds: float | None, outputs: Sequence[str] | None, priority: int
    ) -> Callable[[Inputs], _ext.Handle | PaddedHandle]:
        """What queues one item of a stream."""

        def start(item: Inputs) -> _ext.Handle | PaddedHandle:
            while True:
                generation = self._generation
                try:
                    if generation.padding is None:
                        return generation.core.start(item, seconds, outputs, priority)
                    padded = generation.padding.apply(item)
                    handle = generation.core.start(padded.feeds, seconds, outputs, priority)
                    return PaddedHandle(handle, padded)
                except EngineClosed as error:
                    if not self._has_moved_on(generation, error):
                        raise

        return start

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
        while True:
            generation = self._generation
            try:
                return warmup(generation, inputs, batch_sizes)
            except EngineClosed as error:
                if not self._has_moved_on(generation, error):
                    raise

    def reload(
        self, path: str | os.PathLike[str] | None = None, *, timeout: float | None = 30.0
    ) -> ReloadReport:
        """Puts another model, or a new version of this one, into service while requests go on.

        The new one is loaded with the engine's options, and warmed up where ``warmup=True`` asked for it.
        Then new requests go to it, and the one before serves what it had accepted and is freed. Until then
        both are in memory. Reloads of several threads go one after the other.

        The new model has to fit the callers: the same names, aliases and dtypes of inputs and outputs in the
        same order, inputs that take every shape they took before, and outputs whose known sizes stay.

        Parameters
        ----------
        path
            As of ``Engine``; None is the path of the model in service. An engine over a function takes None
            only, and makes its instances anew.
        timeout
            Seconds for the model before to serve what it had accepted. Past them those requests end with
            EngineClosed, as after ``close(timeout=)``; the new model is in service all the same. None waits
            for ever.

        Raises
        ------
        ModelLoadError, ConfigError, ModelError
            The model is missing, broken, does not fit the callers or ``max_memory_bytes``, or failed its
            warm-up. The model before stays in service, and the error says so.
        EngineClosed
            The engine is closed, or was while this went on; nothing of it is left running.
        """
        return self._replace(path, timeout)

    def _timeout(self, given: float | None) -> float | None:
        if given is None:
            return self._default_timeout
        try:
            check_timeout("timeout", given)
        except ConfigError as error:
            raise InvalidInput(str(error)) from None
        return given


def _explain(error: ModelError, facts: Any, padded: Padded | None) -> None:
    """Gives the error what the core says of its request, where that was asked for."""
    error.info = None if facts is None else explained(facts, padded)
