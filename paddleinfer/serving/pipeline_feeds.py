"""What ``PipelineClient`` is fed -> the document and the message of a request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paddleinfer.config.checks import check_int
from paddleinfer.errors import InvalidInput
from paddleinfer.sentences import shown
from paddleinfer.serving.formats.pipeline import PROFILE_KEY
from paddleinfer.serving.formats.tensors import check_text, file_fields_of, fill_tensor, web_fields_of

__all__ = ["document_of_feed", "message_of"]

_LOD: Final = ".lod"
_MOST_INT: Final = (1 << 63) - 1


def document_of_feed(
    feed: object, log_id: object, as_tensors: bool, as_files: bool, profile: bool
) -> dict[str, Any]:
    """The request's fields; see ``PipelineClient.predict``.

    Raises
    ------
    InvalidInput, ConfigError
        The feed cannot be sent; the log id is no integer of 64 bits.
    """
    if not isinstance(feed, Mapping):
        raise InvalidInput(f"feed_dict must be a dict of texts and arrays by their keys, not {shown(feed)}")
    for key in feed:
        check_text("a key of feed_dict", key)
    own = {key: feed[key] for key in ("logid", "clientip") if key in feed}
    rest = {key: value for key, value in feed.items() if key not in own}
    pairs: dict[str, str] = {}
    tensors: list[dict[str, Any]] = []
    if as_tensors:
        tensors = list(_tensors(rest, as_files))
    else:
        pairs = {key: _text(key, value) for key, value in rest.items()}
    if profile:
        pairs[PROFILE_KEY] = "1"
    number = own.get("logid", log_id)
    check_int("log_id", number, -_MOST_INT, _MOST_INT)
    client_ip = own.get("clientip", "")
    check_text("clientip", client_ip)
    return {
        **{"key": [*pairs], "value": [*pairs.values()], "tensors": tensors},
        **{"logid": number, "clientip": client_ip},
    }


def message_of(document: Mapping[str, Any], name: str) -> bytes:
    """The message of these fields, for the pipeline of this name."""
    from paddleinfer.serving.formats.messages import pipeline

    message = pipeline("Request")(name=name, logid=document["logid"], clientip=document["clientip"])
    message.key.extend(document["key"])
    message.value.extend(document["value"])
    for tensor in document["tensors"]:
        fill_tensor(message.tensors.add(), tensor)
    data: bytes = message.SerializeToString()
    return data


def _text(key: str, value: object) -> str:
    if isinstance(value, str):
        check_text(repr(key), value)
        return value
    array = _array(key, value)
    try:
        return json.dumps(array.tolist(), allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"{key!r} has what JSON cannot say, such as NaN, infinities and bytes; "
            "give pack_tensor_format=True for the former, and texts for the latter"
        ) from None


def _tensors(feed: Mapping[str, Any], as_files: bool) -> Iterator[dict[str, Any]]:
    for key, value in feed.items():
        if key.endswith(_LOD) and key.removesuffix(_LOD) in feed:
            continue
        if isinstance(value, str):
            check_text(repr(key), value)
            yield {"str_data": [value], "elem_type": 12, "name": key}
            continue
        array = _array(key, value)
        fields = (file_fields_of if as_files else web_fields_of)(key, array)
        lengths = feed.get(key + _LOD)
        if lengths is not None:
            fields["lod"] = [int(one) for one in np.asarray(lengths).reshape(-1)]
        yield fields


def _array(key: str, value: object) -> npt.NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, (list, tuple)):
        raise InvalidInput(f"{key!r} must be a text, an array or a list, not {shown(value)}")
    try:
        array = np.array(value)
    except ValueError as error:
        raise InvalidInput(f"{key!r} is no rectangular list: {error}") from None
    if array.dtype.kind == "U" and not all(isinstance(one, str) for one in np.array(value, object).flat):
        raise InvalidInput(f"{key!r} must be a list of texts, or of numbers, and holds both")
    return array
