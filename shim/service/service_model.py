"""A service as a model of the Open Inference Protocol: what the routes of models ask of an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy.typing as npt

from paddleinfer.errors import InvalidInput
from paddleinfer.models.spec import ModelFormat, TensorSpec
from paddleinfer.sentences import listed, shown
from paddleinfer.serve.request import Request
from paddleinfer.serve.service import Service as ModelService
from paddleinfer.serve.tensors import arrays_of, check_inputs

__all__ = ["ServiceModel"]

Array = npt.NDArray[Any]


# A service keeps no results.
_OF_CACHE: Final = (
    *("cache_hits", "cache_hit_ns", "cache_misses", "cache_miss_ns"),
    "cache_coalesced",
)


@dataclass(frozen=True)
class _Model:
    """What it is made of."""

    format: ModelFormat = ModelFormat.CALLABLE


class ServiceModel:
    """Stands where a model's engine does. Its service declares inputs and outputs."""

    model = _Model()
    generation = 1
    """It is never loaded again."""

    def __init__(self, service: ModelService) -> None:
        self._service = service
        self.inputs: Sequence[TensorSpec] = service.calls.inputs
        self.outputs: Sequence[TensorSpec] = service.calls.outputs

    @property
    def closed(self) -> bool:
        """Whether it takes no more requests."""
        return self._service.closed

    async def ainfer(
        self,
        inputs: Mapping[str, Array],
        *,
        timeout: float | None = None,
        outputs: Sequence[str] | None = None,
        priority: int = 1,
        return_info: bool = False,
    ) -> Any:
        """As of an engine; there is no info."""
        check_inputs(self.inputs, inputs)
        known = [spec.name for spec in self.outputs]
        for name in outputs or ():
            if name not in known:
                raise InvalidInput(f"there is no output {shown(name)}; the service has {listed(known)}")
        request = Request(dict(inputs), priority=priority)
        results = await self._service.acall(request, timeout=timeout, finish=partial(arrays_of, self.outputs))
        chosen = {name: results[name] for name in outputs or known}
        return (chosen, None) if return_info else chosen

    def effective_config(self) -> dict[str, dict[str, Any]]:
        """What the model's configuration says: each request is one call."""
        limits = self._service.calls.limits
        return {
            "batchable": {"value": "no"},
            "max_batch_size": {"value": 0},
            "cache_bytes": {"value": 0},
            "instances": {"value": limits.running},
            "max_requests": {"value": limits.max_requests},
        }

    def stats(self) -> dict[str, Any]:
        """By the names of an engine's."""
        counted = self._service.stats()
        outcomes, stages = counted["outcomes"], counted["stages"]

        def total_ns(*names: str) -> int:
            return sum(stages[name]["total_ns"] for name in names if name in stages)

        results = outcomes["result"]
        return {
            "results": results,
            "errors": outcomes["error"],
            "refused": outcomes["refused"] + outcomes["invalid"],
            "expired": outcomes["expired"],
            "shed": 0,
            "cancelled": outcomes["cancelled"],
            "executed_rows": results,
            "executions": results,
            "result_ns": counted["request"]["total_ns"],
            "queue_ns": total_ns("wait"),
            "gather_ns": total_ns("decode", "preprocess"),
            "run_ns": total_ns("infer", "handle"),
            "scatter_ns": total_ns("postprocess", "encode"),
            **dict.fromkeys(_OF_CACHE, 0),
            "batch_rows": {1: results} if results else {},
        }
