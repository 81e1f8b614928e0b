"""Limits what a message may hold, by counting fields in its bytes before a parser makes objects of them."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from paddleinfer._ext import WireTable

from ..protocol.checks import MOST_PARAMETERS, MOST_TENSORS
from ..protocol.errors import RequestError, bad_request

__all__ = ["MAX_FIELDS", "CutField", "MessageReader"]

MAX_FIELDS: Final = 16_384
"""The most fields of a message, nested ones included; each number that is not packed is one."""
# The most bytes of a message beside its tensors.
_MAX_REST_BYTES: Final = 4 << 20
_MAX_NAME_BYTES: Final = 1_024
_MAX_TEXT_BYTES: Final = 1 << 16
_ANY_BYTES: Final = (1 << 63) - 1

# Repeated fields that are not maps.
_MOST: Final = {
    **dict.fromkeys(("inputs", "outputs", "raw_input_contents"), MOST_TENSORS),
    "shape": MAX_FIELDS,
}
_MOST_BYTES: Final = {
    **dict.fromkeys(("id", "string_param"), _MAX_TEXT_BYTES),
    "shape": 1 << 14,
}
# The bytes of these fields are not needed, or are read in place.
_CUT: Final = frozenset({"raw_input_contents", "contents", "bytes_param"})

CutField = tuple[int, int, int, int]
"""(index of the message of its type, field number, first byte, size)."""


class MessageReader:
    """Parses messages of one kind. The bytes of tensors are not parsed, only located."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._types: list[Any] = []
        rows: list[list[tuple[int, int, int, int, bool]]] = []
        self._add(kind.DESCRIPTOR, rows)
        self._table = WireTable(rows, MAX_FIELDS, _MAX_REST_BYTES)

    def _add(self, descriptor: Any, rows: list[list[tuple[int, int, int, int, bool]]]) -> int:
        """Adds a type to the table, followed by the types inside it, and returns its place."""
        place = len(rows)
        row: list[tuple[int, int, int, int, bool]] = []
        self._types.append(descriptor)
        rows.append(row)
        for field in descriptor.fields:
            is_cut = field.name in _CUT
            part = -1 if field.message_type is None or is_cut else self._add(field.message_type, rows)
            is_whole = is_cut or part >= 0
            most_bytes = _ANY_BYTES if is_whole else _MOST_BYTES.get(field.name, _MAX_NAME_BYTES)
            row.append((field.number, _most(field), most_bytes, part, is_cut))
        return place

    def __call__(self, body: bytes) -> Any:
        """Parses these bytes, without the parts that are cut out.

        Raises
        ------
        RequestError
            400: they are not such a message, or hold more than they may.
        """
        return self.with_cut(body)[0]

    def with_cut(self, body: bytes) -> tuple[Any, list[CutField]]:
        """Returns the message, and where its tensors lie."""
        fault, place, number, found, rest, cut = self._table.walk(body)
        if fault:
            raise self._refusal(fault, place, number, found)
        try:
            return self._kind.FromString(rest), cut
        except DecodeError as error:
            raise bad_request(f"the message is not an {self._kind.DESCRIPTOR.full_name}: {error}") from None

    def _refusal(self, fault: str, place: int, number: int, found: int) -> RequestError:
        whole = self._kind.DESCRIPTOR.full_name
        if fault == "damaged":
            return bad_request(
                f"the message is not an {whole}: its bytes break off, or have an impossible tag or size"
            )
        if fault == "fields":
            return bad_request(
                f"the {whole} has more than {MAX_FIELDS} fields, which is the most; "
                "many numbers go into raw_input_contents"
            )
        if fault == "rest":
            return bad_request(
                f"the {whole} has more than {_MAX_REST_BYTES} bytes beside its tensors, which is the most"
            )
        owner = self._types[place]
        field = owner.fields_by_number[number]
        if fault == "times":
            return bad_request(
                f"{owner.full_name} has {field.name} more than {_most(field)} times, "
                f"and {_most(field)} is the most"
            )
        return bad_request(
            f"{field.name} of {owner.full_name} has {found} bytes, "
            f"and {_MOST_BYTES.get(field.name, _MAX_NAME_BYTES)} is the most"
        )


def _most(field: Any) -> int:
    """Returns how often a field may occur in one message."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return MOST_PARAMETERS
    return _MOST.get(field.name, 1)
