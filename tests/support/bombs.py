"""Makes requests that are cheap to send and meant to be expensive to answer, for every HTTP route.

Each is within the server's default limits, or just past one. A new route gets those of all routes by itself.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

__all__ = ["Bomb", "http_bombs"]

INFER: Final = "/v2/models/m/infer"
JSON_BYTES: Final = 32 << 20
BODY_BYTES: Final = 64 << 20
_SMALL_BODY_BYTES: Final = 1 << 16
_HEAD_BYTES: Final = 60_000


@dataclass(frozen=True)
class Bomb:
    """One request."""

    name: str
    wire: bytes
    """As it is sent."""
    size_bytes: int
    """Of what was sent, of a compressed body of what it becomes."""


def http_bombs(routes: Iterable[Any], scale: float = 1.0) -> Iterator[Bomb]:
    """Over these routes of an application with a model `m`; large bodies are `scale` of what is allowed."""
    for route in routes:
        path = route.path.replace("{model}", "m").replace("{version}", "1")
        for method in sorted(route.methods - {"HEAD"}):
            yield from _heads(method, path)
            if method == "POST" and not path.endswith("/infer"):
                yield from _small_bodies(path)
            if path.endswith("/prediction") or path.startswith("/GeneralModelService"):
                for name, headers, body in _serving_bodies(path, int(JSON_BYTES * scale)):
                    yield _bomb(name, method, path, headers, body)
    yield from _infer_bodies(int(JSON_BYTES * scale), int(BODY_BYTES * scale))


def _bomb(
    name: str, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Bomb:
    fields = {"Host": "t", **({} if body is None else {"Content-Length": str(len(body))}), **(headers or {})}
    lines = [f"{method} {target} HTTP/1.1", *(f"{field}: {value}" for field, value in fields.items())]
    wire = "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
    return Bomb(f"{method} {target[:60]}: {name}", wire, len(wire))


# -- of every route


def _heads(method: str, path: str) -> Iterator[Bomb]:
    body = b"{}" if method == "POST" else None
    digits = "1" * _HEAD_BYTES
    targets = {
        "a long path": f"{path}/{'x' * _HEAD_BYTES}",
        "a path of slashes": path + "/" * _HEAD_BYTES,
        "an escaped path": f"{path}/{'%41' * (_HEAD_BYTES // 3)}",
        "many parameters": f"{path}?{'a&' * (_HEAD_BYTES // 2)}",
        "a long parameter": f"{path}?model={'x' * _HEAD_BYTES}",
        "digits and a letter": f"{path}?seconds={digits}x",
        "digits": f"{path}?seconds={digits}",
        "an exponent": f"{path}?seconds=1e{digits}",
    }
    if "/versions/1" in path:
        targets["a long version"] = path.replace("/versions/1", f"/versions/{digits}")
    if "/m" in path:
        targets["a long name"] = path.replace("/m", f"/{'m' * _HEAD_BYTES}", 1)
    for name, target in targets.items():
        yield _bomb(name, method, target, body=body)
    headers = {
        "encodings": {"Accept-Encoding": "gzip;q=0," * (_HEAD_BYTES // 9)},
        "a quality": {"Accept-Encoding": f"gzip;q={digits}"},
        "a long key": {"Authorization": f"Bearer {digits}"},
        "a long length": {"Inference-Header-Content-Length": digits},
        "a length of zeros": {"Content-Length": "0" * _HEAD_BYTES + "2"},
        "a length of nines": {"Content-Length": "9" * 4301},
        "an unknown encoding": {"Content-Encoding": "x" * _HEAD_BYTES},
        "a trace's parent": {"Traceparent": "0" * _HEAD_BYTES, "Tracestate": "a=b," * (_HEAD_BYTES // 8)},
        "many headers": {f"a{number}": "" for number in range(_HEAD_BYTES // 10)},
    }
    for name, fields in headers.items():
        yield _bomb(name, method, path, fields, body)


# -- of bodies that must be small


def _small_bodies(path: str) -> Iterator[Bomb]:
    bodies = {name: make(_SMALL_BODY_BYTES) for name, make in _JSON.items()}
    config = orjson.dumps("[" * 20_000 + "]" * 20_000)
    bodies["a deep configuration"] = b'{"parameters":{"config":%b}}' % config
    config = orjson.dumps('{"a":' * 10_000)
    bodies["an open configuration"] = b'{"parameters":{"config":%b}}' % config
    config = orjson.dumps('{"max_batch_size":' + "9" * 30_000 + "}")
    bodies["a large batch"] = b'{"parameters":{"config":%b}}' % config
    bodies["a long parameter"] = b'{"parameters":{"%b":1}}' % (b"x" * 60_000)
    for name, body in bodies.items():
        yield _bomb(name, "POST", path, body=body[:_SMALL_BODY_BYTES])


# -- of inference


def _filled(begin: bytes, part: bytes, end: bytes) -> Callable[[int], bytes]:
    """Bodies of as many parts as fit."""

    def make(size: int) -> bytes:
        return begin + part * ((size - len(begin) - len(end)) // len(part)) + end

    return make


def _tensor(shape: str, data: bytes, datatype: str = "FP32") -> bytes:
    return (
        b'{"inputs":[{"name":"x","datatype":"%b","shape":%b,"data":[' % (datatype.encode(), shape.encode())
        + data
    )


def _numbered(begin: bytes, part: bytes, end: bytes) -> Callable[[int], bytes]:
    """As _filled, with a number in each part."""

    def make(size: int) -> bytes:
        count = (size - len(begin) - len(end)) // (len(part) + 6)
        return begin + b"".join(part % number for number in range(count)) + end

    return make


def _of_shape(part: bytes, last: bytes, datatype: str, row: int = 1) -> Callable[[int], bytes]:
    """A tensor that is right: rows of one part each."""

    def make(size: int) -> bytes:
        count = (size - 200) // len(part)
        return _tensor(f"[1,{(count + 1) * row}]", part * count + last + b"]}]}", datatype)

    return make


def _empty_rows(size: int) -> bytes:
    count = (size - 200) // 3
    return _tensor(f"[{count + 1},0]", b"[]," * count + b"[]]}]}")


def _deep(size: int) -> bytes:
    half = (size - 200) // 2
    return _tensor("[1]", b"[" * half + b"]" * half + b"]}]}")


_JSON: Final[dict[str, Callable[[int], bytes]]] = {
    "empty lists": _filled(_tensor("[1]", b""), b"[],", b"[]]}]}"),
    "empty rows": _empty_rows,
    "deep lists": _deep,
    "open lists": _filled(_tensor("[1]", b""), b"[", b""),
    "inputs": _filled(b'{"inputs":[', b"{},", b"{}]}"),
    "inputs with names": _numbered(b'{"inputs":[', b'{"name":"%d"},', b"{}]}"),
    "outputs": _numbered(b'{"inputs":[],"outputs":[', b'{"name":"%d"},', b'{"name":"y"}]}'),
    "parameters": _numbered(b'{"parameters":{', b'"%d":0,', b'"k":0}}'),
    "unknown keys": _numbered(b"{", b'"%d":{},', b'"k":{}}'),
    "equal keys": _filled(b"{", b'"":{},', b'"":{}}'),
    "texts": _filled(b'{"inputs":[', b'"",', b'""]}'),
    "texts as data": _filled(_tensor("[1]", b"", "BYTES"), b'"",', b'""]}]}'),
    "escapes": _filled(b'{"id":"', b"\\u0000", b'"}'),
    "quotes": _filled(b'{"id":"', b'\\"', b'"}'),
    "a long identity": _filled(b'{"id":"', b"x", b'"}'),
    "a long name": _filled(b'{"inputs":[{"name":"', b"x", b'"}]}'),
    "a long output": _filled(b'{"outputs":[{"name":"', b"\\u00e9", b'"}]}'),
    "a long datatype": _filled(b'{"inputs":[{"name":"x","datatype":"', b"x", b'"}]}'),
    "a long shape": _filled(b'{"inputs":[{"name":"x","datatype":"FP32","shape":[', b"1,", b"1]}]}"),
    "a long number": _filled(_tensor("[1]", b"1"), b"0", b"]}]}"),
    "a long fraction": _filled(_tensor("[1]", b"0."), b"9", b"]}]}"),
    "spaces": _filled(_tensor("[1]", b"1"), b" ", b"]}]}"),
    "spaces at the end": _filled(b"{}", b" ", b""),
    "commas": _filled(_tensor("[1]", b""), b",", b"]}]}"),
    "data of nobody": _filled(b'{"data":[', b"1,", b"1]}"),
    "lists of data": _filled(b'{"inputs":[', b'{"data":[1]},', b"{}]}"),
    "nothing but letters": _filled(b"", b"x", b""),
    "integers as floats": _of_shape(b"1,", b"1", "FP32"),
    "integers": _of_shape(b"257,", b"257", "FP64"),
    "fractions": _of_shape(b"1.5,", b"1.5", "FP32"),
    "halves": _of_shape(b"1.5,", b"1.5", "FP16"),
}


def _infer_bodies(json_bytes: int, body_bytes: int) -> Iterator[Bomb]:
    for name, make in _JSON.items():
        for size in (_SMALL_BODY_BYTES, json_bytes):
            body = make(size)
            yield _bomb(f"{name}, {size >> 10} KiB", "POST", INFER, body=body)
        packed = gzip.compress(body, 1, mtime=0)
        bomb = _bomb(f"{name}, gzip", "POST", INFER, {"Content-Encoding": "gzip"}, packed)
        yield Bomb(bomb.name, bomb.wire, len(body))
    zeros = bytes(body_bytes + 1)
    for encoding, packed in (("gzip", gzip.compress(zeros, 9)), ("deflate", zlib.compress(zeros, 9))):
        bomb = _bomb(f"zeros, {encoding}", "POST", INFER, {"Content-Encoding": encoding}, packed)
        yield Bomb(bomb.name, bomb.wire, len(zeros))
    yield from _binary(body_bytes)
    yield _chunks(1 << 20)


def _binary(size: int) -> Iterator[Bomb]:
    count = (size - 400) // 8 * 2
    data = np.zeros(count, np.float32).tobytes()
    asked: dict[str, tuple[str, int, dict[str, Any]]] = {
        "binary": ("FP32", count, {"parameters": {"binary_data_output": True}}),
        "binary, answered in JSON": ("FP32", count, {}),
        "binary, converted": ("FP64", count // 2, {"parameters": {"binary_data_output": True}}),
        "binary, of another kind": ("BOOL", 4 * count, {}),
        "classes": ("FP32", count, {"outputs": [{"name": "y", "parameters": {"classification": count}}]}),
        "the best class": ("FP32", count, {"outputs": [{"name": "y", "parameters": {"classification": 1}}]}),
    }
    for name, (datatype, elements, further) in asked.items():
        for shift in (0, 1):  # aligned or not
            tensor = {
                "name": "x",
                "datatype": datatype,
                "shape": [1, elements],
                "parameters": {"binary_data_size": len(data)},
            }
            head = orjson.dumps({"inputs": [tensor], **further})
            head += b" " * (-len(head) % 8 + shift)
            yield _bomb(
                f"{name}{', not aligned' if shift else ''}",
                "POST",
                INFER,
                {"Inference-Header-Content-Length": str(len(head))},
                head + data,
            )


def _chunks(size: int) -> Bomb:
    """A body that comes in pieces of one byte."""
    wire = f"POST {INFER} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    wire += b"1\r\n \r\n" * size + b"0\r\n\r\n"
    return Bomb(f"POST {INFER}: chunks of a byte", wire, len(wire))


# -- of inference in Paddle Serving's forms

_PROTO: Final = {"Content-Type": "application/proto"}
_FLOATS, _INTEGERS, _ELEM_TYPE, _UNKNOWN = 2, 1, 10, 200


def _serving_bodies(path: str, size: int) -> Iterator[tuple[str, dict[str, str], bytes]]:
    """(name, headers, body) for one of these routes; each body has nearly `size` bytes."""
    is_prediction = path.endswith("/prediction")
    bodies = _PREDICTION if is_prediction else _GENERAL
    for name, make in bodies.items():
        yield name, {}, make(size)
    # So the header says that nothing of it is JSON, and more may come.
    yield "all of it binary", {"Inference-Header-Content-Length": "0"}, next(iter(bodies.values()))(size)
    if not is_prediction:
        for name, make in _MESSAGES.items():
            yield name, _PROTO, make(size)


def _escaped(text: str) -> bytes:
    """As JSON may write it: no sign of a list shows."""
    return "".join(f"\\u{ord(sign):04x}" if sign in "[]," else sign for sign in text).encode()


_PREDICTION: Final[dict[str, Callable[[int], bytes]]] = {
    "a text of numbers": _filled(b'{"key":["x"],"value":["', b"1.5,", b'1"]}'),
    "a text of lists": _filled(b'{"key":["x"],"value":["[', b"[],", b'[]]"]}'),
    "escaped numbers": _filled(b'{"key":["x"],"value":["', _escaped("1e1,"), b'1"]}'),
    "escaped lists": _filled(b'{"key":["x"],"value":["[', _escaped("[],"), b'[]]"]}'),
    "escaped depths": _filled(b'{"key":["x"],"value":["', _escaped("["), b'"]}'),
    "keys": _filled(b'{"value":[],"key":[', b'"",', b'""]}'),
    "a long key": _filled(b'{"value":["1"],"key":["', b"x", b'"]}'),
    "a tensor of numbers": _filled(
        b'{"tensors":[{"name":"x","elem_type":1,"shape":[1],"float_data":[', b"1.5,", b"1]}]}"
    ),
    "tensors": _filled(b'{"tensors":[', b"{},", b"{}]}"),
    "keys without values": _filled(b'{"key":["x"],"value":[', b'"1",', b'"1"]}'),
    "values that are no texts": _filled(b'{"key":["x"],"value":[', b"[[]],", b"1]}"),
    "a tensor of texts": _filled(b'{"tensors":[{"name":"x","elem_type":12,"str_data":[', b'"",', b'""]}]}'),
    "a tensor's shape": _filled(b'{"tensors":[{"name":"x","elem_type":1,"shape":[', b"1,", b"1]}]}"),
    "a tensor's file": _filled(b'{"tensors":[{"name":"x","elem_type":13,"byte_data":"', b"k05V", b'"}]}'),
    "a row of numbers": _filled(b'{"fetch":["y"],"feed":[{"x":[', b"1.5,", b"1]}]}"),
    "rows": _filled(b'{"fetch":["y"],"feed":[', b"{},", b"{}]}"),
    "outputs": _filled(b'{"feed":[],"fetch":[', b'"y",', b'"y"]}'),
}
_GENERAL: Final[dict[str, Callable[[int], bytes]]] = {
    "numbers": _filled(b'{"tensor":[{"name":"x","elem_type":1,"shape":[1],"float_data":[', b"1.5,", b"1]}]}"),
    "dimensions": _filled(b'{"tensor":[{"name":"x","elem_type":1,"shape":[', b"1,", b"1]}]}"),
    "tensors": _filled(b'{"tensor":[', b"{},", b"{}]}"),
    "outputs": _filled(b'{"tensor":[],"fetch_var_names":[', b'"",', b'""]}'),
}


def _varint(number: int) -> bytes:
    parts = [number & 127]
    while number := number >> 7:
        parts.append(number & 127)
    return bytes([*(part | 128 for part in parts[:-1]), parts[-1]])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _message(part: bytes) -> Callable[[int], bytes]:
    """A request of one tensor, full of this."""

    def make(size: int) -> bytes:
        kind = _varint(_ELEM_TYPE << 3) + b"\x01"
        return _field(1, part * ((size - 32) // len(part)) + kind)

    return make


_MESSAGES: Final[dict[str, Callable[[int], bytes]]] = {
    "a message of pieces": _message(_field(_FLOATS, bytes(4))),
    "a message of single floats": _message(_varint(_FLOATS << 3 | 5) + bytes(4)),
    "a message of integers": lambda size: _field(1, _field(_INTEGERS, b"\x01" * (size - 32))),
    "a message of floats": lambda size: _field(1, _field(_FLOATS, bytes((size - 64) // 4 * 4))),
    "a message of unknown fields": _message(_field(_UNKNOWN, b"")),
    "a message of tensors": lambda size: _field(1, b"") * (size // 2),
    "a message of names": lambda size: _field(2, b"") * (size // 2),
}
