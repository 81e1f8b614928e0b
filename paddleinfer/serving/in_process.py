"""Pipelines in this process, for ``PipelineClient``: an engine, or whatever else answers their requests."""

from __future__ import annotations

import concurrent.futures
import inspect
import json
import os
from typing import Any

from paddleinfer.engine.engine import Engine
from paddleinfer.errors import Cancelled, ConfigError, EngineClosed, PaddleInferError
from paddleinfer.sentences import shown
from paddleinfer.serve.loops import LoopThread
from paddleinfer.serving.formats import prediction
from paddleinfer.serving.formats.pipeline import Answering, PipelineRequest, PipelineResponse
from paddleinfer.serving.pipeline.errors import number_of
from paddleinfer.serving.profiling import StageClock

__all__ = ["InProcess", "LocalAnswer", "pipeline_of"]


def pipeline_of(target: object) -> Answering:
    """What answers requests for this engine or pipeline.

    Raises
    ------
    ConfigError
        It is neither.
    """
    if isinstance(target, Engine):
        return _EnginePipeline(target)
    if inspect.iscoroutinefunction(getattr(target, "answer", None)):
        return target  # type: ignore[return-value]
    raise ConfigError(
        "in this process an Engine is asked, or a pipeline, such as the pipeline of a WebService, "
        f"not {shown(target)}"
    )


class _EnginePipeline:
    """Answers for an engine as a server does."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def answer(self, request: PipelineRequest, *, timeout: float | None = None) -> PipelineResponse:
        """The response, also to a request that fails."""
        clock = StageClock()
        document = {"key": request.keys, "value": request.values, "tensors": request.tensors}
        try:
            arrays, has_tensors = prediction.read_keys_and_values(document, self._engine.inputs, _parsed)
            clock.end("prepack")
            wanted = [tensor.alias or tensor.name for tensor in self._engine.outputs]
            results = await self._engine.ainfer(arrays, outputs=wanted, timeout=timeout)
            clock.end("midp")
        except PaddleInferError as error:
            return PipelineResponse(number_of(error), str(error))
        clock.end("postpack")
        profile = clock.line() if request.asks_for_profile else None
        answered = prediction.answer(results, as_tensors=has_tensors, profile=profile)
        return PipelineResponse(keys=answered["key"], values=answered["value"], tensors=answered["tensors"])


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deep") from None


class LocalAnswer:
    """What will be answered to one request."""

    def __init__(self, future: concurrent.futures.Future[PipelineResponse]) -> None:
        self._future = future

    def result(self, timeout_s: float | None = None) -> PipelineResponse:
        """Waits for it; TimeoutError where it is not there after `timeout_s`, Cancelled after ``cancel``."""
        try:
            return self._future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            raise TimeoutError(f"the request has no answer within {timeout_s} s") from None
        except concurrent.futures.CancelledError:
            raise Cancelled("the request was cancelled, or the client was released") from None
        except BaseException:  # Ctrl-C, after which nobody waits
            self._future.cancel()
            raise

    def done(self) -> bool:
        """Whether it is there, or never will be."""
        return self._future.done()

    def cancel(self) -> bool:
        """Gives the request up; False if it is over."""
        return self._future.cancel()


class InProcess:
    """Asks a pipeline from any thread.

    Parameters
    ----------
    pipeline
        It is asked on an event loop of this object's own.
    owned
        An engine that ``close`` closes, too.
    """

    def __init__(self, pipeline: Answering, owned: Engine | None) -> None:
        self._pipeline = pipeline
        self._owned = owned
        self._loop = LoopThread("paddleinfer-pipeline-client")
        self._is_closed = False
        self._pid = os.getpid()

    def begin(self, request: PipelineRequest, timeout_s: float) -> LocalAnswer:
        """Begins to answer; the answer's deadline is after `timeout_s`.

        Raises
        ------
        EngineClosed
            ``close`` was called, or the process is a fork, which has not the loop's thread.
        """
        if os.getpid() != self._pid:
            raise EngineClosed("the client belongs to another process: connect it after the fork")
        if self._is_closed:
            raise EngineClosed("the client was released meanwhile")
        return LocalAnswer(self._loop.begin(lambda: self._pipeline.answer(request, timeout=timeout_s)))

    def close(self) -> None:
        """Ends the requests under way, and what is owned."""
        if os.getpid() != self._pid:
            return
        self._is_closed = True
        self._loop.close()
        if self._owned is not None:
            self._owned.close()
