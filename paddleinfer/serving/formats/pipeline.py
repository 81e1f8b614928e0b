"""What Paddle Serving's pipelines take and give, whichever protocol brought it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PipelineRequest", "PipelineResponse"]


@dataclass
class PipelineRequest:
    """The message ``Request``, or its document; it has the message's own names, too, for users' functions."""

    name: str = ""
    """Of the service."""
    method: str = ""
    keys: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    """As many as `keys`."""
    tensors: list[Mapping[str, Any]] = field(default_factory=list)
    """Each as its fields: ``name``, ``elem_type``, ``shape``, and its numbers, such as ``float_data``."""
    log_id: int = 0
    client_ip: str = ""

    @property
    def key(self) -> list[str]:
        """`keys`."""
        return self.keys

    @property
    def value(self) -> list[str]:
        """`values`."""
        return self.values

    @property
    def logid(self) -> int:
        """`log_id`."""
        return self.log_id

    @property
    def clientip(self) -> str:
        """`client_ip`."""
        return self.client_ip


@dataclass
class PipelineResponse:
    """The message ``Response``, or its document; it has the message's own names, too."""

    err_no: int = 0
    err_msg: str = ""
    keys: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    """As many as `keys`."""
    tensors: list[Mapping[str, Any]] = field(default_factory=list)
    """As of a request."""

    @property
    def key(self) -> list[str]:
        """`keys`."""
        return self.keys

    @property
    def value(self) -> list[str]:
        """`values`."""
        return self.values
