"""What goes from one Op to the next, as an Op's functions may look at it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paddleinfer.errors import InvalidInput
from paddleinfer.serving.pipeline.errors import CustomExceptionCode, OpError

__all__ = ["ChannelData", "ChannelDataType"]


class ChannelDataType(enum.Enum):
    """What a ChannelData holds."""

    DICT = 0
    CHANNEL_NPDATA = 1
    ERROR = 2


@dataclass
class ChannelData:
    """The output of an Op, or the error that a request ends with."""

    id: int
    """Of the request."""
    log_id: int
    data: Mapping[str, Any] = field(default_factory=dict)
    error: OpError | None = None

    @property
    def datatype(self) -> int:
        """A value of ChannelDataType: only arrays, any values, or an error."""
        if self.error is not None:
            return ChannelDataType.ERROR.value
        if all(isinstance(value, np.ndarray) for value in self.data.values()):
            return ChannelDataType.CHANNEL_NPDATA.value
        return ChannelDataType.DICT.value

    @property
    def error_code(self) -> int:
        """0, or a value of CustomExceptionCode: PRODUCT_ERROR for an Op's own."""
        if self.error is None:
            return CustomExceptionCode.OK.value
        return CustomExceptionCode.PRODUCT_ERROR.value if self.error.is_of_product else self.error.err_no

    @property
    def error_info(self) -> str:
        """The sentence of an error."""
        return "" if self.error is None or self.error.is_of_product else str(self.error)

    @property
    def prod_error_code(self) -> int | None:
        """The number of an Op's own error."""
        return self.error.err_no if self.error is not None and self.error.is_of_product else None

    @property
    def prod_error_info(self) -> str | None:
        """The sentence of an Op's own error."""
        return str(self.error) if self.error is not None and self.error.is_of_product else None

    def parse(self) -> Mapping[str, Any]:
        """The output, by name.

        Raises
        ------
        InvalidInput
            It is an error.
        """
        if self.error is not None:
            raise InvalidInput(f"there is no output to parse: {self.error}")
        return self.data
