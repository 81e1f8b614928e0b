"""What a pipeline does with a request: unpack it, walk through the graph, pack the response."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping
from typing import Any, Final, TypeVar

from paddleinfer.errors import InvalidInput
from paddleinfer.sentences import shown
from paddleinfer.serve.request import Request
from paddleinfer.serving.formats.pipeline import (
    PROFILE_KEY,
    PipelineFailure,
    PipelineRequest,
    PipelineResponse,
    check_response,
    document_of,
    read_document,
)
from paddleinfer.serving.pipeline.channel_data import ChannelData
from paddleinfer.serving.pipeline.errors import CustomException, CustomExceptionCode, OpError
from paddleinfer.serving.pipeline.graph import Graph
from paddleinfer.serving.pipeline.hooks import Hook
from paddleinfer.serving.pipeline.op_copies import Copier
from paddleinfer.serving.pipeline.op_run import InFunction, OpRun, PreparedOp
from paddleinfer.serving.pipeline.waits import Waits
from paddleinfer.serving.pipeline.walk import Walk
from paddleinfer.serving.profiling import StageClock

__all__ = ["Executor"]

_NO_SERVICE: Final = CustomExceptionCode.NO_SERVICE.value
_TYPE_ERROR: Final = CustomExceptionCode.TYPE_ERROR.value
_PACKAGE_ERROR: Final = CustomExceptionCode.RPC_PACKAGE_ERROR.value
_UNPACK: Final = (("dict", None), ("log_id", None), ("prod_errcode", None), ("prod_errinfo", ""))


Result = TypeVar("Result")
Parts = Generator[Waits, OpRun, Result]


class Executor:
    """All requests of one pipeline.

    Parameters
    ----------
    name
        Of the pipeline.
    graph, prepared
        Its Ops, and the same by name, ready to run.
    tries
        How often a request that ran out of an Op's time is walked through the graph.
    writes_profile
        Whether each request writes a ``PROFILE`` line to standard error.
    """

    def __init__(
        self, name: str, graph: Graph, prepared: Mapping[str, PreparedOp], tries: int, writes_profile: bool
    ) -> None:
        self._name = name
        self._graph = graph
        self._prepared = prepared
        self._tries = tries
        self._writes_profile = writes_profile
        self._ids = itertools.count()
        self._unpack = Hook(graph.request_op, "unpack_request_package", 1, _UNPACK)
        for op in (graph.request_op, graph.response_op):
            op.init_op()
        self._copy_request_op = Copier(graph.request_op)
        self._copy_response_op = Copier(graph.response_op)

    def handle(self, request: Request) -> PipelineResponse | dict[str, Any]:
        """The response, or its document where the request is one.

        Raises
        ------
        PipelineFailure
            The response says that there is no result.
        InvalidInput
            It is no request.
        QueueFull, EngineClosed, DeadlineExceeded, OutOfMemory
            As of the service.
        """
        parts = self.parts(request)
        try:
            waits = next(parts)
            while True:
                waits = parts.send(waits.here())
        except StopIteration as end:
            answer: PipelineResponse | dict[str, Any] = end.value
            return answer

    def parts(self, request: Request) -> Parts[PipelineResponse | dict[str, Any]]:
        """As `handle`; it yields where it waits."""
        value = request.value
        if isinstance(value, Mapping):
            return document_of((yield from self._respond(read_document(value))))
        return (yield from self._respond(value))

    def _respond(self, request: PipelineRequest) -> Parts[PipelineResponse]:
        if not isinstance(request, PipelineRequest):
            raise InvalidInput(f"a pipeline takes a PipelineRequest, not {shown(request)}")
        if request.name not in ("", self._name):
            sentence = f"there is no service {shown(request.name)}; this one is {self._name!r}"
            raise PipelineFailure(PipelineResponse(_NO_SERVICE, sentence))
        data_id = next(self._ids)
        clock = StageClock()
        log_id = request.logid
        is_asked_for_profile = False
        try:
            unpacked, log_id, is_asked_for_profile = self._unpacked(request, data_id)
            is_timed = is_asked_for_profile or self._writes_profile
            if is_timed:
                clock.end(f"prepack_{data_id}#@DAGExecutor")
            output = yield from self._walked(unpacked, data_id, log_id, clock if is_timed else None)
            channel_data = ChannelData(data_id, log_id, output)
        except OpError as error:
            channel_data = ChannelData(data_id, log_id, error=error)
        response = self._packed(channel_data)
        if is_asked_for_profile or self._writes_profile:
            clock.end(f"postpack_{data_id}#@DAGExecutor")
        if is_asked_for_profile:
            response.keys.append(PROFILE_KEY)
            response.values.append(clock.line())
        if self._writes_profile:
            clock.write()
        if response.err_no:
            raise PipelineFailure(response)
        return response

    def _unpacked(self, request: PipelineRequest, data_id: int) -> tuple[dict[str, Any], int, bool]:
        op = self._copy_request_op()
        try:
            with InFunction("unpack_request_package", op, request.logid):
                unpacked, log_id, _, _ = self._unpack(op, (request,), data_id, request.logid)
                if not isinstance(unpacked, dict):
                    raise OpError(
                        _TYPE_ERROR,
                        f"unpack_request_package must give a dict, and gave {shown(unpacked)}",
                    )
        except OpError as error:
            if error.__cause__ is None or isinstance(error.__cause__, CustomException):
                raise
            raise OpError(_PACKAGE_ERROR, str(error)) from error
        return unpacked, request.logid if log_id is None else log_id, unpacked.pop(PROFILE_KEY, None) == "1"

    def _walked(
        self, unpacked: dict[str, Any], data_id: int, log_id: int, clock: StageClock | None
    ) -> Parts[Mapping[str, Any]]:
        for left in range(self._tries - 1, -1, -1):
            try:
                given = unpacked if not left else dict(unpacked)
                walk = Walk(self._graph, self._prepared, data_id, log_id, clock)
                return (yield from walk.go(given))
            except OpError as error:
                if error.err_no != CustomExceptionCode.TIMEOUT.value or error.is_of_product or not left:
                    raise
        raise AssertionError("there is at least one try")

    def _packed(self, channel_data: ChannelData) -> PipelineResponse:
        op = self._copy_response_op()
        try:
            with InFunction("pack_response_package", op, channel_data.log_id):
                response = op.pack_response_package(channel_data)
                if not isinstance(response, PipelineResponse):
                    raise OpError(
                        _TYPE_ERROR,
                        f"pack_response_package must give a PipelineResponse, and gave {shown(response)}",
                    )
            check_response(response)
            return response
        except InvalidInput as wrong:
            return PipelineResponse(_TYPE_ERROR, f"the response cannot be sent: {wrong}")
        except OpError as wrong:
            return PipelineResponse(wrong.err_no, str(wrong))
