"""Reads the tensors of Paddle Serving's messages. What one holds is counted first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from paddleinfer._ext import WireTable
from paddleinfer.serving.formats.tensors import message_fields

from .checks import MOST_NAME_CHARACTERS, MOST_TENSORS
from .errors import RequestError, bad_request

__all__ = ["ANY_BYTES", "MOST_FIELDS", "TensorFields", "TensorReader"]

MOST_FIELDS: Final = 1 << 23
"""Of a message, in all. Numbers that are not packed are a field each."""
# Of all but what is read where it lies. A packed integer may be a byte, and takes eight.
_MOST_REST_BYTES: Final = 4 << 20
ANY_BYTES: Final = (1 << 63) - 1
"""A field without a limit of its own."""

# Of one field of packed floats: a writer makes one. More are counted as if they were not packed.
_MOST_PIECES: Final = 16
_FLOATS: Final[dict[int, tuple[str, np.dtype[Any]]]] = {
    2: ("float_data", np.dtype("<f4")),
    4: ("float64_data", np.dtype("<f8")),
}
_NUMBERS: Final = range(1, 9)
# The type of a tensor whose numbers are floats -> where they are.
_FLOATS_OF_TYPE: Final = {1: "float_data", 3: "float64_data", 5: "float_data"}

Row = tuple[int, int, int, int, bool]
Walked = tuple[str, int, int, int, bytes, list[tuple[int, int, int, int]]]


@dataclass(frozen=True)
class TensorFields:
    """The numbers of a tensor's fields, where the kinds of messages differ."""

    texts: int
    content: int
    """Bytes."""
    content_name: str
    elem_type: int
    counts: tuple[int, int]
    """Its shape, and the lengths of its sequences."""
    names: tuple[int, ...]


class TensorReader:
    """Reads requests of one kind. Packed floats and bytes are arrays and views of the request's own bytes.

    Parameters
    ----------
    kind
        The message's class.
    tensors
        The name of its field of tensors.
    tensor
        What these are.
    others
        Its other fields that are read: number, how often, bytes of each at most, -1, False.
    """

    def __init__(self, kind: Any, tensors: str, tensor: TensorFields, others: Sequence[Row]) -> None:
        self._kind = kind
        self._tensors = tensors
        self._tensor = tensor
        self._others = others
        self._packed = self._table((*_FLOATS, tensor.content))
        self._unpacked = self._table((tensor.content,))

    def _table(self, cut: Collection[int]) -> WireTable:
        """Of each type: number, how often, bytes of each at most, place of its type, whether it is cut."""
        fields = self._tensor
        number = self._kind.DESCRIPTOR.fields_by_name[self._tensors].number
        request: list[Row] = [(number, MOST_TENSORS, ANY_BYTES, 1, False), *self._others]
        tensor: list[Row] = [
            *(
                (number, _MOST_PIECES if number in cut else MOST_FIELDS, ANY_BYTES, -1, number in cut)
                for number in (*_NUMBERS, *fields.counts)
            ),
            (fields.texts, MOST_TENSORS, ANY_BYTES, -1, False),
            (fields.elem_type, 1, ANY_BYTES, -1, False),
            *((number, 1, MOST_NAME_CHARACTERS, -1, False) for number in fields.names),
            (fields.content, 1, ANY_BYTES, -1, True),
        ]
        return WireTable([request, tensor], MOST_FIELDS, _MOST_REST_BYTES)

    def read(self, body: bytes) -> dict[str, Any]:
        """The fields of a message, as a document has them.

        Raises
        ------
        RequestError
            400: it is no such message, or holds more than it may.
        """
        walked = self._packed.walk(body)
        fault, _, number, *_ = walked
        if fault == "times" and number in _FLOATS:
            return self._fields(self._unpacked.walk(body), body)
        fields = self._fields(walked, body)
        if any(_lacks_floats(tensor) for tensor in fields[self._tensors]):
            return self._fields(self._unpacked.walk(body), body)  # which older clients send
        return fields

    def _fields(self, walked: Walked, body: bytes) -> dict[str, Any]:
        fault, _, _, _, rest, cut = walked
        if fault and fault != "damaged":
            raise bad_request(
                f"the Request has more than {MOST_TENSORS} tensors or names, {MOST_NAME_CHARACTERS} bytes of "
                f"a name, or {_MOST_REST_BYTES} bytes beside packed floats and {self._tensor.content_name}, "
                "which are the most"
            )
        if fault:
            raise self.damaged()
        try:
            fields = message_fields(self._kind.FromString(rest), self._tensors)
            self._add_cut(fields[self._tensors], memoryview(body), cut)
        except (DecodeError, ValueError):  # NumPy's, of bytes that are no whole numbers
            raise self.damaged() from None
        return fields

    def damaged(self) -> RequestError:
        """What a body is refused with that is none of these messages."""
        return bad_request(f"the body is not a message {self._kind.DESCRIPTOR.full_name}")

    def _add_cut(
        self,
        tensors: list[dict[str, Any]],
        body: memoryview,
        cut: Sequence[tuple[int, int, int, int]],
    ) -> None:
        for owner, number, first, size in cut:
            data = body[first : first + size]
            if number == self._tensor.content:
                tensors[owner][self._tensor.content_name] = data
                continue
            name, dtype = _FLOATS[number]
            numbers: npt.NDArray[Any] = np.frombuffer(data, dtype)
            before = tensors[owner].get(name)
            tensors[owner][name] = numbers if before is None else np.concatenate([before, numbers])


def _lacks_floats(tensor: Mapping[str, Any]) -> bool:
    wanted = _FLOATS_OF_TYPE.get(tensor.get("elem_type", 0))
    return wanted is not None and wanted not in tensor and "tensor_content" not in tensor
