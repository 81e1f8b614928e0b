"""Forms (multipart/form-data) of requests to a service, by python-multipart, in memory and up to a count."""

from __future__ import annotations

from typing import Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from paddleinfer.errors import InvalidInput
from paddleinfer.sentences import shown
from paddleinfer.serve.upload import Upload

__all__ = ["Form"]

_MOST_NAME_CHARACTERS: Final = 1024


class Form:
    """One body of multipart/form-data, taken apart in memory."""

    def __init__(self, content_type: str, most_parts: int) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise InvalidInput(
                "the Content-Type of a form must name its boundary: multipart/form-data; boundary=…"
            )
        self._boundary = boundary
        self._most_parts = most_parts
        self._values: dict[str, Any] = {}
        self._count = 0
        self._field = self._content = b""
        self._headers: dict[bytes, bytes] = {}
        self._data = bytearray()
        self._name = ""
        self._filename: str | None = None
        self._is_whole = False

    def read(self, body: bytes) -> dict[str, Any]:
        """Name -> a string or an Upload; a list of them where the name comes several times."""
        calls: Any = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_to_field,
            "on_header_value": self._add_to_content,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_part_end": self._end,
            "on_end": self._end_all,
        }
        try:
            parser = MultipartParser(self._boundary, calls)
            parser.write(body)
            parser.finalize()
        except FormParserError as error:
            raise InvalidInput(f"the form is damaged: {error}") from None
        if not self._is_whole:
            raise InvalidInput("the form is cut short: its last boundary is missing")
        return self._values

    def _begin(self) -> None:
        self._count += 1
        if self._count > self._most_parts:
            raise InvalidInput(
                f"the form has more than {self._most_parts} parts, which is the most (max_parts)"
            )
        self._headers = {}
        self._data = bytearray()

    def _add_to_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_to_content(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._field.lower()] = self._content
        self._field = self._content = b""

    def _end_headers(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition"))[1]
        name = options.get(b"name")
        if name is None:
            raise InvalidInput("a part of the form has no name: Content-Disposition: form-data; name=…")
        self._name = _text(name, "the name of a part")
        if len(self._name) > _MOST_NAME_CHARACTERS:
            raise InvalidInput(
                f"the name of a part has {len(self._name)} characters, "
                f"and {_MOST_NAME_CHARACTERS} is the most"
            )
        filename = options.get(b"filename")
        self._filename = None if filename is None else _text(filename, "a filename")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _end(self) -> None:
        data = bytes(self._data)
        value: str | Upload
        if self._filename is None:
            value = _text(data, f"the field {shown(self._name)}")
        else:
            given = self._headers.get(b"content-type", b"application/octet-stream")
            media_type = given.decode("latin-1").partition(";")[0].strip().lower()
            value = Upload(data, self._filename, media_type)
        before = self._values.get(self._name)
        if before is None:
            self._values[self._name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            self._values[self._name] = [before, value]

    def _end_all(self) -> None:
        self._is_whole = True


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{what} is not UTF-8") from None
