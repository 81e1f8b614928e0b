"""What a service is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from paddleinfer.errors import InvalidInput
from paddleinfer.sentences import shown
from paddleinfer.serve.images import IMAGE_FORMATS, decode_image, image_bytes
from paddleinfer.serve.limits import ServiceLimits

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Request"]

# To decode less takes less than a hop to another thread and back.
_LARGE_BYTES: Final = 16 << 10
_LEAST_URGENT: Final = 2
_NOTHING: Mapping[str, str] = {}
_LIMITS: Final = ServiceLimits()


class Request:
    """One request, from a caller in the process or from a client of the server.

    Parameters
    ----------
    value
        What is asked, as Python has it. From a client: what its JSON says; of a form a dict with a string
        for each field and an Upload for each file (lists of them where a name comes several times); of any
        other body its bytes.
    body, media_type
        The bytes as they came, and their type, without parameters and in lower case.
    headers, query
        Of HTTP; the names of headers are in lower case.
    decode
        Gives the value, and is called once, when it is first asked for.
    priority
        0, 1 or 2, the most urgent first, as of ``Engine.infer``. None is that of the request on whose behalf
        a service asks another, and else 1.

    Raises
    ------
    InvalidInput
        The priority is none of these.
    """

    __slots__ = ("_decode", "_value", "body", "headers", "limits", "media_type", "priority", "query")

    def __init__(
        self,
        value: Any = None,
        *,
        body: bytes = b"",
        media_type: str = "",
        headers: Mapping[str, str] = _NOTHING,
        query: Mapping[str, str] = _NOTHING,
        decode: Callable[[], Any] | None = None,
        priority: int | None = None,
    ) -> None:
        if priority is not None and (type(priority) is not int or not 0 <= priority <= _LEAST_URGENT):
            raise InvalidInput(f"priority must be 0 (the most urgent), 1 or 2, not {shown(priority)}")
        self._value = value
        self._decode = decode
        self.body = body
        self.media_type = media_type
        self.headers = headers
        self.query = query
        self.priority = priority
        self.limits = _LIMITS
        """The service's, once it has accepted the request."""

    @property
    def is_large(self) -> bool:
        """Whether its value is still to be made of a body that may take long."""
        return self._decode is not None and len(self.body) > _LARGE_BYTES

    @property
    def value(self) -> Any:
        """What is asked.

        Raises
        ------
        InvalidInput
            The body is not what its type says.
        """
        if self._decode is not None:
            self._value = self._decode()
            self._decode = None
        return self._value

    def image(
        self, name: str | None = None, mode: str = "RGB", formats: Sequence[str] = IMAGE_FORMATS
    ) -> Image:
        """A picture that was sent: as the body, as a file of a form, or as base64 in JSON.

        It is upright, as its EXIF says.

        ``np.asarray(request.image())`` is its pixels, uint8 of shape (height, width, 3).

        Parameters
        ----------
        name
            Of the file in the form, or of the text in JSON; None where there is one file, or no form.
        mode
            Of Pillow: "RGB", "L" for grey, …
        formats
            Those of Pillow's that may be read.

        Raises
        ------
        InvalidInput
            There is no picture, it is damaged, or it is larger than ``max_image_bytes`` and
            ``max_image_pixels`` of the service's limits allow; the latter is seen before it is decoded.
        ImportError
            Pillow is not installed: ``pip install 'paddleinfer[image]'``.
        """
        limits = self.limits
        data = image_bytes(self.value, name)
        return decode_image(data, mode, limits.max_image_bytes, limits.max_image_pixels, formats)

    def __repr__(self) -> str:
        return f"<Request {self.media_type or 'value'} {shown(self.body if self._decode else self._value)}>"
