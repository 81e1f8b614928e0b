"""One pipeline object for all threads."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from paddleinfer.backends.processors import usable_cores
from paddleinfer.config.checks import check_int
from paddleinfer.errors import ConfigError, EngineClosed
from paddleinfer.paddlex.copies import copy_of, runners_of
from paddleinfer.sentences import shown

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SharedPipeline", "close", "shared"]

_MOST_THREADS = 1024


def shared(pipeline: Any, *, threads: int | None = None) -> SharedPipeline:
    """Makes of a pipeline, or of one model's predictor, an object that any number of threads may call.

    Parameters
    ----------
    pipeline
        A ``PaddleOCR`` or another one of PaddleOCR's, or what PaddleX's ``create_pipeline`` or
        ``create_model`` returns; made with ``engine="paddleinfer"``. Call it itself no more.
    threads
        How many calls of ``apredict`` run at once; None: four more than there are cores.

    Raises
    ------
    ConfigError
        A model of it runs on another engine, or it is no pipeline.
    """
    if not callable(getattr(pipeline, "predict", None)):
        raise ConfigError(f"shared() takes a pipeline of PaddleOCR's or PaddleX's, not {shown(pipeline)}")
    if threads is None:
        threads = usable_cores() + 4
    check_int("threads", threads, 1, _MOST_THREADS)
    return SharedPipeline(pipeline, threads)


def close(pipeline: Any) -> None:
    """Gives back the engines of a pipeline; those that no other pipeline uses end.

    PaddleOCR's and PaddleX's own ``close`` keep the models until Python collects the pipeline.
    """
    for runner in runners_of(pipeline):
        runner.close()


class SharedPipeline:
    """A pipeline that any number of threads may call; `shared` makes it.

    Each call has a light copy of the pipeline for itself, since PaddleX's objects keep state of a call, and
    all copies use the same engines. Copies are kept for later calls: there are as many as calls were under
    way at once. Attributes and further methods are those of the pipeline.
    """

    def __init__(self, pipeline: Any, threads: int) -> None:
        self._pipeline = pipeline
        self._lock = threading.RLock()
        self._idle: list[Any] = []
        self._closed = False
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        self._give_back(copy_of(pipeline))  # what cannot be copied is refused here

    def predict(self, input: Any, **options: Any) -> Any:
        """As the pipeline's own ``predict``: a list of PaddleOCR's, an iterator of PaddleX's.

        Raises
        ------
        EngineClosed
            It is closed.
        """
        return self._call("predict", input, **options)

    def __call__(self, input: Any, **options: Any) -> Any:
        """As ``predict``."""
        return self.predict(input, **options)

    def predict_iter(self, input: Any, **options: Any) -> Iterator[Any]:
        """Yields the results one by one, each as soon as it is there."""
        name = "predict_iter" if hasattr(self._pipeline, "predict_iter") else "predict"
        return iter(self._call(name, input, **options))

    async def apredict(self, input: Any, **options: Any) -> list[Any]:
        """Awaits the results. Cancelling the task does not end a call that runs already.

        Raises
        ------
        EngineClosed
            It is closed.
        """
        call = functools.partial(self._listed, input, **options)
        with self._lock:
            self._check_open()
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._threads, "paddleinfer-pipeline")
            queued = asyncio.get_running_loop().run_in_executor(self._executor, call)
        return await queued

    def _listed(self, input: Any, **options: Any) -> list[Any]:
        return list(self.predict_iter(input, **options))

    def close(self) -> None:
        """Gives the engines back, and refuses further calls; those under way end before their engines."""
        with self._lock:
            self._closed = True
            idle, self._idle = [*self._idle, self._pipeline], []
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()
        for copy in idle:
            close(copy)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._pipeline, name)
        return functools.partial(self._call, name) if inspect.ismethod(value) else value

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        copy = self._take()
        try:
            result = getattr(copy, name)(*args, **options)
        except BaseException:
            self._give_back(copy)
            raise
        if inspect.isgenerator(result):
            return _Results(result, functools.partial(self._give_back, copy))
        self._give_back(copy)
        return result

    def _take(self) -> Any:
        with self._lock:
            self._check_open()
            if self._idle:
                return self._idle.pop()
        return copy_of(self._pipeline)

    def _give_back(self, copy: Any) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(copy)
                return
        close(copy)

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosed("the pipeline is closed; make another one")


class _Results:
    """The results of one call; with the last one its copy of the pipeline is given back."""

    def __init__(self, results: Any, give_back: Any) -> None:
        self._results = results
        self._give_back = give_back

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._results)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the call."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            self._results.close()
            give_back()

    def __del__(self) -> None:
        self.close()
