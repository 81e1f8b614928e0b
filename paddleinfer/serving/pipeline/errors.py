"""The numbers of a pipeline's errors, and the exceptions that carry them."""

from __future__ import annotations

import enum

from paddleinfer.errors import (
    ConfigError,
    DeadlineExceeded,
    EngineClosed,
    InvalidInput,
    ModelError,
    OutOfMemory,
    PaddleInferError,
    QueueFull,
    ThreadStartError,
)
from paddleinfer.sentences import shown

__all__ = [
    "ChannelDataErrcode",
    "CustomException",
    "CustomExceptionCode",
    "OpError",
    "ProductErrCode",
    "number_of",
]


class CustomExceptionCode(enum.Enum):
    """Paddle Serving's numbers of errors, as ``err_no`` has them. A product's own are 51 to 99."""

    OK = 0
    PRODUCT_ERROR = 50
    NOT_IMPLEMENTED = 3000
    CLOSED_ERROR = 3001
    NO_SERVICE = 3002
    INIT_ERROR = 3003
    CONF_ERROR = 4000
    INPUT_PARAMS_ERROR = 5000
    TIMEOUT = 6000
    TYPE_ERROR = 7000
    RPC_PACKAGE_ERROR = 8000
    CLIENT_ERROR = 9000
    UNKNOW = 10000


ChannelDataErrcode = CustomExceptionCode
"""The same, by the name that Paddle Serving has for it where an Op looks at a ChannelData."""


class ProductErrCode(enum.Enum):
    """The numbers of a product's own errors, for its class to derive from."""


_NUMBER_OF: dict[type[BaseException], CustomExceptionCode] = {
    InvalidInput: CustomExceptionCode.INPUT_PARAMS_ERROR,
    ConfigError: CustomExceptionCode.CONF_ERROR,
    DeadlineExceeded: CustomExceptionCode.TIMEOUT,
    QueueFull: CustomExceptionCode.NO_SERVICE,
    EngineClosed: CustomExceptionCode.CLOSED_ERROR,
    ModelError: CustomExceptionCode.CLIENT_ERROR,
    OutOfMemory: CustomExceptionCode.CLOSED_ERROR,
    ThreadStartError: CustomExceptionCode.CLOSED_ERROR,
}


def number_of(error: BaseException) -> int:
    """The ``err_no`` of an error of paddleinfer; the nearest of its classes counts."""
    kinds = (kind for kind in type(error).__mro__ if kind in _NUMBER_OF)
    return next((_NUMBER_OF[kind] for kind in kinds), CustomExceptionCode.UNKNOW).value


class CustomException(PaddleInferError):
    """For an Op's functions to raise: its number is the answer's ``err_no``.

    Parameters
    ----------
    exceptionCode
        One of CustomExceptionCode, or of a ProductErrCode.
    errorMsg
        The sentence; the client gets it where `isSendToUser` is true, and the log has it either way.
    """

    def __init__(self, exceptionCode: enum.Enum, errorMsg: str, isSendToUser: bool = False) -> None:
        if not isinstance(exceptionCode, enum.Enum) or type(exceptionCode.value) is not int:
            raise TypeError(
                "exceptionCode must be a CustomExceptionCode, or of an enum of integers, "
                f"not {shown(exceptionCode)}"
            )
        super().__init__(errorMsg)
        self.err_no: int = exceptionCode.value
        self.is_send_to_user = isSendToUser


class OpError(PaddleInferError):
    """What ends a request in an Op.

    Attributes
    ----------
    err_no
        Of CustomExceptionCode; for an Op's own error that of the product.
    is_of_product
        Whether a function of the Op gave the error, as its ``prod_errcode``.
    """

    def __init__(self, err_no: int, sentence: str, *, is_of_product: bool = False) -> None:
        super().__init__(sentence)
        self.err_no = err_no
        self.is_of_product = is_of_product
