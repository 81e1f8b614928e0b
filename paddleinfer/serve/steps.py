"""What a service does for a request: its functions one after the other, and what stands between them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from concurrent import futures
from typing import Any

from paddleinfer.errors import InvalidInput, PaddleInferError, ServiceError
from paddleinfer.serve.functions import Functions
from paddleinfer.serve.processes import FunctionProcesses
from paddleinfer.serve.run import CURRENT, Run

__all__ = ["Finish", "Steps"]

_log = logging.getLogger("paddleinfer.serve")

Finish = Callable[[Any], Any]
"""Of an answer: what the caller gets in its place."""


class Steps:
    """The steps of one service's requests, for any thread; each raises what the caller is to get."""

    def __init__(self, name: str, functions: Functions, processes: FunctionProcesses | None) -> None:
        self.name = name
        self.functions = functions
        self._processes = processes

    # -- on a thread that has a turn

    def whole(self, run: Run, finish: Finish | None) -> Any:
        """All of them, of plain functions; this thread waits for the engine."""
        token = CURRENT.set(run)
        try:
            request, functions = run.request, self.functions
            self.decode(run)
            if functions.handle is not None:
                run.to("handle")
                answer = self._plain("handle", functions.handle, request)
            else:
                assert functions.preprocess is not None and functions.postprocess is not None
                run.to("preprocess")
                inputs = self._plain("preprocess", functions.preprocess, request)
                run.to(None)
                run.check()
                try:
                    results = functions.engine().infer(inputs)
                except InvalidInput as error:
                    raise self.blamed(error) from error
                del inputs
                run.to("postprocess")
                answer = self._plain("postprocess", functions.postprocess, results, request)
            answer = self.finished(run, finish, answer)
            run.to(None)
            return answer
        finally:
            CURRENT.reset(token)

    def one(
        self,
        run: Run,
        stage: str,
        function: Callable[..., Any],
        *args: Any,
        decodes: bool = False,
        finish: Finish | None = None,
    ) -> Any:
        """One plain function, with what stands before the first and after the last of them."""
        token = CURRENT.set(run)
        try:
            if decodes:
                self.decode(run)
            run.to(stage)
            answer = self.finished(run, finish, self._plain(stage, function, *args))
            run.to("wait")  # for the loop
            return answer
        finally:
            CURRENT.reset(token)

    def _plain(self, stage: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            if self._processes is not None and stage != "encode":
                return self._in_process(self._processes, function, args)
            given = function(*args)
            if inspect.iscoroutine(given):
                given.close()
                raise TypeError(f"{stage} gave a coroutine without being declared by async def")
            return given
        except PaddleInferError:
            raise
        except Exception as error:
            raise self.failed(stage, error) from error

    def _in_process(
        self, processes: FunctionProcesses, function: Callable[..., Any], args: tuple[Any, ...]
    ) -> Any:
        run = CURRENT.get()
        left_s = None if run is None else run.left_s()
        try:
            return processes.call(function, args, left_s)
        except (TimeoutError, futures.TimeoutError):
            if run is not None:
                run.check()  # which raises where it was the deadline
            raise

    # -- on any thread

    def decode(self, run: Run) -> None:
        """Makes the request's value of its body."""
        run.to("decode")
        _ = run.request.value

    def finished(self, run: Run, finish: Finish | None, answer: Any) -> Any:
        """What the caller gets of an answer."""
        if finish is None:
            return answer
        run.to("encode")
        return self._plain("encode", finish, answer)

    async def ask(self, inputs: Any) -> Any:
        """The engine's results, on a loop."""
        try:
            return await self.functions.engine().ainfer(inputs)
        except InvalidInput as error:
            raise self.blamed(error) from error

    def failed(self, stage: str, error: BaseException) -> ServiceError:
        """Of a function that raised what only the log is to say."""
        _log.error("the service %s failed in %s", self.name, stage, exc_info=error)
        return ServiceError(
            f"the service {self.name} failed in {stage} ({type(error).__name__}); its log says why",
            stage=stage,
        )

    def blamed(self, error: InvalidInput) -> PaddleInferError:
        """Of what the engine refused: where preprocess made it, it is no fault of the client."""
        if not self.functions.checks_inputs:
            return error
        _log.error("the engine of the service %s refused what preprocess gave: %s", self.name, error)
        return ServiceError(
            f"the service {self.name} failed in preprocess: the engine refused what it gave; "
            "its log says why",
            stage="preprocess",
        )
