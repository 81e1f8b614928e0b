"""What Paddle Serving's pipelines take and give, whichever protocol brought it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from paddleinfer.errors import InvalidInput, PaddleInferError
from paddleinfer.sentences import shown
from paddleinfer.serving.formats.prediction import MOST_KEYS, PROFILE_KEY, check_pairs
from paddleinfer.serving.formats.tensors import check_text, sequence_of, text_or_array_of

if TYPE_CHECKING:
    from paddleinfer.serve.service import Service

__all__ = [
    "PROFILE_KEY",
    "Answering",
    "Pipeline",
    "PipelineFailure",
    "PipelineRequest",
    "PipelineResponse",
    "check_response",
    "document_of",
    "read_document",
    "status_of",
    "values_of",
]

_MOST_INT: Final = 1 << 63
_MOST_ERR_NO: Final = 1 << 31
_PRODUCT_ERRORS: Final = range(50, 100)
_STATUS_OF: Final = {
    0: 200,
    3001: 503,
    3002: 404,
    5000: 400,
    6000: 504,
    8000: 400,
}


class _NamedAsMessage:
    """Has the message's own names, too, for users' functions."""

    keys: list[str]
    values: list[str]

    @property
    def key(self) -> list[str]:
        """`keys`."""
        return self.keys

    @property
    def value(self) -> list[str]:
        """`values`."""
        return self.values


@dataclass
class PipelineRequest(_NamedAsMessage):
    """The message ``Request``, or its document."""

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
    def asks_for_profile(self) -> bool:
        """Whether its stages are wanted in the answer."""
        return (PROFILE_KEY, "1") in zip(self.keys, self.values, strict=False)

    @property
    def logid(self) -> int:
        """`log_id`."""
        return self.log_id

    @property
    def clientip(self) -> str:
        """`client_ip`."""
        return self.client_ip


@dataclass
class PipelineResponse(_NamedAsMessage):
    """The message ``Response``, or its document."""

    err_no: int = 0
    err_msg: str = ""
    keys: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    """As many as `keys`."""
    tensors: list[Mapping[str, Any]] = field(default_factory=list)
    """Each as its fields, whose numbers are a flat array or bytes."""


class PipelineFailure(PaddleInferError):
    """A request that gets no result, and `response`, which says so."""

    def __init__(self, response: PipelineResponse) -> None:
        super().__init__(f"{response.err_msg} (err_no {response.err_no})")
        self.response = response


class Answering(Protocol):
    """What answers requests of this form."""

    async def answer(self, request: PipelineRequest, *, timeout: float | None = None) -> PipelineResponse:
        """The response, also to a request that fails. `timeout` is in seconds."""


class Pipeline(Answering, Protocol):
    """What a server serves under ``/{name}/prediction``."""

    @property
    def service(self) -> Service:
        """It takes what `read` gives, and gives what `write` takes; a failure is an exception."""

    def read(self, document: Mapping[str, Any], name: str, method: str) -> Any:
        """A request, of a document over HTTP; raises InvalidInput."""

    def write(self, answer: Any) -> dict[str, Any]:
        """The document of an answer. It may hold arrays and bytes."""

    def refusal(
        self, error: BaseException, status: int, sentence: str, *, is_real: bool
    ) -> tuple[int, dict[str, Any]]:
        """The status and the document of a request that failed.

        Parameters
        ----------
        error, status, sentence
            What went wrong; its status; what the client may know of it.
        is_real
            Whether the status is to be given, where Paddle Serving has 200.
        """


def read_document(document: Mapping[str, Any], name: str = "", method: str = "") -> PipelineRequest:
    """A request, of its document.

    Raises
    ------
    InvalidInput
        It is none; the sentence says why.
    """
    keys, values = _texts(document, "key"), _texts(document, "value")
    check_pairs(keys, values)
    tensors = list(sequence_of(document, "tensors"))
    if not all(isinstance(tensor, Mapping) for tensor in tensors):
        raise InvalidInput('each of "tensors" must be an object')
    for what, parts in (("keys", keys), ("tensors", tensors)):
        if len(parts) > MOST_KEYS:
            raise InvalidInput(f"the request has {len(parts)} {what}, and {MOST_KEYS} is the most")
    client_ip = document.get("clientip") or ""
    if not isinstance(client_ip, str):
        raise InvalidInput(f'"clientip" must be a text, not {shown(client_ip)}')
    return PipelineRequest(name, method, keys, values, tensors, _log_id(document), client_ip)


def values_of(request: PipelineRequest) -> dict[str, Any]:
    """Its texts by their keys, and its arrays and texts by the names of their tensors.

    Raises
    ------
    InvalidInput
        A key has no value, a tensor contradicts itself, or a name is there twice.
    """
    check_pairs(request.keys, request.values)
    values: dict[str, Any] = {}
    pairs = zip(request.keys, request.values, strict=True)
    for name, value in itertools.chain(pairs, map(text_or_array_of, request.tensors)):
        if name in values:
            raise InvalidInput(f"{shown(name)} is given twice")
        values[name] = value
    return values


def check_response(response: PipelineResponse) -> None:
    """Raises InvalidInput where no message can say it; the sentence says what."""
    err_no = response.err_no
    if type(err_no) is not int or not -_MOST_ERR_NO <= err_no < _MOST_ERR_NO:
        raise InvalidInput(f"the number of an error must be an integer of 32 bits, not {shown(err_no)}")
    check_text("the sentence of an error", response.err_msg)
    for what, texts in (("key", response.keys), ("value", response.values)):
        for text in texts:
            check_text(f"a {what}", text)
    for tensor in response.tensors:
        check_text("the name of a tensor", tensor.get("name", ""))
    check_pairs(response.keys, response.values)


def document_of(response: PipelineResponse) -> dict[str, Any]:
    """The document of a response. Its tensors hold arrays and bytes."""
    return {
        "err_no": response.err_no,
        "err_msg": response.err_msg,
        "key": list(response.keys),
        "value": list(response.values),
        "tensors": [dict(tensor) for tensor in response.tensors],
    }


def status_of(err_no: int) -> int:
    """The status of HTTP that says the same as an ``err_no``; a product's own errors are 400."""
    if err_no in _PRODUCT_ERRORS:
        return 400
    return _STATUS_OF.get(err_no, 500)


def _texts(document: Mapping[str, Any], name: str) -> list[str]:
    texts = list(sequence_of(document, name))
    for text in texts:
        if not isinstance(text, str):
            raise InvalidInput(f'"{name}" must be a list of texts, not of {shown(text)}')
    return texts


def _log_id(document: Mapping[str, Any]) -> int:
    """A number, or its digits, as gateways of gRPC write 64 bits."""
    value = document.get("logid", 0)
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 21:
        value = int(value)
    if type(value) is not int or not -_MOST_INT <= value < _MOST_INT:
        raise InvalidInput(f'"logid" must be an integer of 64 bits, not {shown(value)}')
    return value
