"""The parts of a pipeline that users write: Ops, and what unpacks a request and packs its response."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.sentences import shown
from paddleinfer.serving.formats.pipeline import PipelineRequest, PipelineResponse, values_of
from paddleinfer.serving.formats.tensors import web_fields_of
from paddleinfer.serving.pipeline.channel_data import ChannelData
from paddleinfer.serving.pipeline.errors import CustomExceptionCode, OpError

if TYPE_CHECKING:
    from paddleinfer.serving.pipeline.conf import LocalServiceHandler
    from paddleinfer.serving.pipeline.models import OpModel

__all__ = ["EXECUTOR", "Op", "RequestOp", "ResponseOp", "VirtualOp"]

EXECUTOR: Final = "@DAGExecutor"
"""The name of what comes before the first Op and after the last."""

_numbers = itertools.count()

Prepared = tuple[Any, bool, int | None, str]
Answered = tuple[Any, int | None, str]


class Op:
    """One step of a pipeline: Python before and after one model, or Python alone.

    Arguments that are given have precedence over the configuration's. A request has the Op for itself:
    attributes that its functions set are that request's, and what ``init_op`` made is shared.

    Parameters
    ----------
    name
        As in the configuration; each Op has its own.
    input_ops
        The Ops whose outputs it takes.
    server_endpoints, client_config, client_type
        Servers that have its model, as of the configuration.
    fetch_list
        The outputs wanted, by name or alias; None is all of them.
    concurrency, timeout, retry, batch_size, auto_batching_timeout
        As of the configuration; both timeouts in milliseconds.
    local_service_handler
        A LocalServiceHandler, in the place of ``local_service_conf``.
    jump_to_ops
        See ``set_jump_to_ops``.
    """

    def __init__(
        self,
        name: str | None = None,
        input_ops: Op | Sequence[Op] | None = None,
        server_endpoints: Sequence[str] | None = None,
        fetch_list: Sequence[str] | None = None,
        client_config: str | None = None,
        client_type: str | None = None,
        concurrency: int | None = None,
        timeout: int | None = None,
        retry: int | None = None,
        batch_size: int | None = None,
        auto_batching_timeout: int | None = None,
        local_service_handler: LocalServiceHandler | None = None,
        jump_to_ops: Op | Sequence[Op] | None = None,
    ) -> None:
        self.name = f"Op_{next(_numbers)}" if name is None else name
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"an Op's name must be a text, not {shown(name)}")
        self.set_input_ops(input_ops)
        self.set_jump_to_ops(jump_to_ops)
        self.local_service_handler = local_service_handler
        self.given: dict[str, Any] = {
            "server_endpoints": server_endpoints,
            "fetch_list": fetch_list,
            "client_config": client_config,
            "client_type": client_type,
            "concurrency": concurrency,
            "timeout": timeout,
            "retry": retry or None,
            "batch_size": batch_size,
            "auto_batching_timeout": auto_batching_timeout,
        }
        """The arguments by the configuration's keys; None: the configuration says."""
        self.concurrency_idx: int | None = None
        """The number of the Op's copy, where ``is_thread_op`` is False."""
        self.model: OpModel | None = None
        """Its model, once the pipeline is prepared."""
        self.dynamic_shape_info: Mapping[str, Any] = {}
        self.set_dynamic_shape_info()

    # -- what an Op of a user's own says

    def init_op(self) -> None:
        """Makes what the Op needs; called once its model is loaded, and before any request."""

    def set_dynamic_shape_info(self) -> None:
        """Sets ``self.dynamic_shape_info``, TensorRT's ranges of shapes, which cannot be set here."""

    def preprocess(self, input_dicts: Any, data_id: int = 0, log_id: int = 0) -> Prepared:
        """What the model is to be given.

        Parameters
        ----------
        input_dicts
            Name of an Op before this one -> its output, a dict. The name of the request's is "@DAGExecutor".
        data_id, log_id
            The number of the request, and the client's number for it. Functions without one of them, or
            without both, are called without.

        Returns
        -------
        tuple
            A dict of arrays by the model's inputs, or a list of such dicts, which are run one by one; whether
            to leave the model out; None, or the number of an error of the product's; its sentence.
        """
        if len(input_dicts) != 1:
            raise ConfigError(
                f"Op {self.name!r} has {len(input_dicts)} inputs: "
                "its own preprocess must say what becomes of them"
            )
        (input_dict,) = input_dicts.values()
        return input_dict, False, None, ""

    def process(self, feed_batch: Any, typical_logid: int = 0) -> tuple[Any, int, str]:
        """Runs the model on the dict in `feed_batch`; gives its outputs, an error's number and sentence."""
        if self.model is None:
            raise ConfigError(f"Op {self.name!r} has no model")
        return self.model.run(self.model.prepare(feed_batch[0])), CustomExceptionCode.OK.value, ""

    def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int = 0, log_id: int = 0) -> Answered:
        """The Op's output.

        Parameters
        ----------
        input_dicts
            As of ``preprocess``.
        fetch_dict
            The model's outputs, arrays by name; a list of such dicts where ``preprocess`` gave a list; what
            ``preprocess`` gave where no model ran.
        data_id, log_id
            As of ``preprocess``.

        Returns
        -------
        tuple
            A dict; None, or the number of an error of the product's; its sentence.
        """
        return fetch_dict if isinstance(fetch_dict, dict) else {}, None, ""

    def check_jumping(self, input_data: Any) -> bool:
        """Whether the output goes to those after ``jump_to_ops``; asked where there are some.

        `input_data` is a dict of one request's number and its ChannelData.
        """
        return False

    # -- where it stands

    def get_input_ops(self) -> list[Op]:
        """The Ops before it."""
        return self._input_ops

    def set_input_ops(self, ops: Op | Sequence[Op] | None) -> None:
        """Says which Ops are before it."""
        self._input_ops = _ops("input_ops", self.name, ops)

    def get_jump_to_ops(self) -> list[Op]:
        """The Ops to whose place it may jump."""
        return self._jump_to_ops

    def set_jump_to_ops(self, ops: Op | Sequence[Op] | None) -> None:
        """Says in whose place its output may go on: those after them get it, as in a loop."""
        self._jump_to_ops = _ops("jump_to_ops", self.name, ops)

    def is_jump_op(self) -> bool:
        """Whether it may jump."""
        return bool(self._jump_to_ops)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class RequestOp(Op):
    """Unpacks requests; a class of one's own overrides ``unpack_request_package``."""

    def __init__(self) -> None:
        super().__init__(EXECUTOR)

    def unpack_request_package(self, request: PipelineRequest) -> tuple[Any, int | None, int | None, str]:
        """What the first Ops get: texts by the request's keys, arrays and texts by its tensors' names.

        Returns
        -------
        tuple
            A dict; the client's number; None, or the number of an error of the product's; its sentence.
        """
        return values_of(request), request.logid, None, ""


class ResponseOp(Op):
    """Packs responses; a class of one's own overrides ``pack_response_package``."""

    def __init__(self, input_ops: Op | Sequence[Op] | None) -> None:
        self.is_pack_tensor = False
        super().__init__(EXECUTOR, input_ops)

    def set_pack_format(self, isTensor: bool = False) -> None:
        """Whether arrays are answered as tensors, and not as text under their keys."""
        self.is_pack_tensor = isTensor

    def pack_response_package(self, channeldata: ChannelData) -> PipelineResponse:
        """The response: texts as they are, and arrays as lists in JSON.

        Raises
        ------
        OpError
            7000: the last Op gave what is neither.
        """
        if channeldata.error is not None:
            return PipelineResponse(channeldata.error.err_no, str(channeldata.error))
        response = PipelineResponse()
        for name, value in channeldata.parse().items():
            if isinstance(value, np.ndarray) and self.is_pack_tensor:
                response.tensors.append(_tensor(name, value))
            else:
                response.keys.append(name)
                response.values.append(_written(name, value))
        return response


class VirtualOp(Op):
    """Stands for the Ops before it: those after it get their outputs, by their names."""

    def __init__(self, name: str, concurrency: int = 1) -> None:
        super().__init__(name, concurrency=concurrency)

    def add_virtual_pred_op(self, op: Op) -> None:
        """One more Op that it stands for."""
        self.set_input_ops([*self.get_input_ops(), op])


def _ops(what: str, name: str, given: Op | Sequence[Op] | None) -> list[Op]:
    ops = [] if given is None else [given] if isinstance(given, Op) else given
    if not isinstance(ops, (list, tuple)) or not all(isinstance(op, Op) for op in ops):
        raise ConfigError(f"{what} of Op {name!r} must be an Op, or a list of Ops, not {shown(given)}")
    return list(ops)


def _tensor(name: str, array: npt.NDArray[Any]) -> dict[str, Any]:
    try:
        return web_fields_of(name, array)
    except InvalidInput as error:
        raise OpError(CustomExceptionCode.TYPE_ERROR.value, f"the last Op gave an array: {error}") from None


def _written(name: str, value: Any) -> str:
    from paddleinfer.serving.formats.texts import array_text  # brings orjson

    if isinstance(value, str):
        return value
    if isinstance(value, (np.ndarray, np.generic)) and (
        value.dtype.kind in "biuf" or value.dtype.name == "bfloat16"
    ):
        return array_text(np.asarray(value)).decode()
    raise OpError(
        CustomExceptionCode.TYPE_ERROR.value,
        f"the last Op gave {shown(name)} as {type(value).__name__}: it must be a text or an array of numbers",
    )
