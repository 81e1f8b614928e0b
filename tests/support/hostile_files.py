"""Makes hostile model files: countless small parts, wrong sizes, deep nests, holes.

``FILES`` names them; each is written for a number of bytes, and has to be refused in one sentence.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

__all__ = ["FILES", "NAMES", "write"]

_HEAD = b'{"base_code":{"magic":"pir","version":9,"trainable":true},"program":'
_OPERATORS, _END = b'{"regions":[{"blocks":[{"ops":[', b"]}]}]}}"
_DATA = (
    b'{"#":"1.data","A":[{"N":"name","AT":{"D":"%b"}}],"O":[{"%%":1,"TT":{"#":"0.t_dtensor",'
    b'"D":[{"#":"%b"},[%b]]}}]},'
)
_FETCH = (
    b'{"#":"1.fetch","A":[{"N":"name","AT":{"D":"y"}},{"N":"col","AT":{"D":0}}],"I":[{"%":1}],'
    b'"O":[{"%":1,"TT":{"#":"0.t_dtensor","D":[{"#":"0.t_f32"},[-1,4]]}}]}'
)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes((number & 127 | 128,))
        number >>= 7
    return out + bytes((number,))


def _bytes(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _block(body: bytes) -> bytes:
    return _bytes(1, b"\x08\x00\x10\x00" + body)


def _tensor(name: bytes, dimensions: bytes, more: bytes = b"") -> bytes:
    kind = _number(1, 7) + _bytes(3, _bytes(1, _number(1, 5) + dimensions))
    return _bytes(3, _bytes(1, name) + _bytes(2, kind) + more)


def _end_operator(kind: bytes, side: int, slot: bytes, name: bytes) -> bytes:
    column = _bytes(4, _bytes(1, b"col") + _number(2, 0) + _number(3, 0))
    return _bytes(4, _bytes(side, _bytes(1, slot) + _bytes(2, name)) + _bytes(3, kind) + column)


_ENDS = _end_operator(b"feed", 2, b"Out", b"x") + _end_operator(b"fetch", 1, b"X", b"x")
_SMALL = _ENDS + _tensor(b"x", b"\x10\x04\x10\x04")
_WEIGHT = _tensor(b"w", b"\x10\x02\x10\x02", _number(3, 1))


def _repeated(part: bytes, size: int) -> bytes:
    return part * (size // len(part))


def _json(program: bytes) -> dict[str, bytes]:
    return {"m.json": _HEAD + program}


def _json_operators(operators: bytes, data: bytes) -> dict[str, bytes]:
    return _json(_OPERATORS + data + operators + _FETCH + _END)


def _legacy(program: bytes) -> dict[str, bytes]:
    return {"m.pdmodel": program}


def _weights(file: bytes) -> dict[str, bytes]:
    return {"m.pdmodel": _block(_SMALL + _WEIGHT), "m.pdiparams": file}


def _conf(text: bytes) -> dict[str, bytes]:
    return {"m.pdmodel": _block(_SMALL), "serving_server_conf.prototxt": text}


_PLAIN = _DATA % (b"x", b"0.t_f32", b"-1,4")
_LIE = 2**64 - 1

FILES: dict[str, Callable[[int], dict[str, bytes]]] = {
    "legacy: tiny fields": lambda size: _legacy(_repeated(b"\x08\x00", size)),
    "legacy: tiny fields of a block": lambda size: _legacy(_block(_repeated(b"\x28\x00", size))),
    "legacy: fields of all numbers": lambda size: _legacy(
        b"".join(_number(number, 0) for number in range(1, size // 4))
    ),
    "legacy: empty blocks": lambda size: _legacy(_repeated(b"\x0a\x02\x08\x00", size)),
    "legacy: empty variables": lambda size: _legacy(_block(_repeated(b"\x1a\x03\x0a\x01a", size))),
    "legacy: variables": lambda size: _legacy(
        _block(b"".join(_bytes(3, _bytes(1, b"%x" % place)) for place in range(size // 9)))
    ),
    "legacy: parameters": lambda size: _legacy(
        _block(_SMALL + b"".join(_tensor(b"%x" % place, b"", _number(3, 1)) for place in range(size // 22)))
    ),
    "legacy: empty operators": lambda size: _legacy(_block(_SMALL + _repeated(b"\x22\x03\x1a\x01x", size))),
    "legacy: inputs": lambda size: _legacy(_block(_SMALL + _repeated(_ENDS, size))),
    "legacy: dimensions": lambda size: _legacy(_block(_ENDS + _tensor(b"x", _repeated(b"\x10\x01", size)))),
    "legacy: packed dimensions": lambda size: _legacy(
        _block(_ENDS + _tensor(b"x", _bytes(2, b"\x01" * size)))
    ),
    "legacy: a long name": lambda size: _legacy(
        _block(_SMALL + _end_operator(b"feed", 2, b"Out", b"y" * size))
    ),
    "json: empty objects": lambda size: _json(b"[" + _repeated(b"{},", size) + b"0]}"),
    "json: empty lists": lambda size: _json(b"[" + _repeated(b"[],", size) + b"0]}"),
    "json: small objects": lambda size: _json(b"[" + _repeated(b'{"a":1},', size) + b"0]}"),
    "json: small texts": lambda size: _json(b"[" + _repeated(b'"ab",', size) + b"0]}"),
    "json: numbers": lambda size: _json(b"[" + _repeated(b"999,", size) + b"0]}"),
    "json: keys": lambda size: _json(
        b"{" + b",".join(b'"%x":0' % place for place in range(size // 10)) + b"}}"
    ),
    "json: a deep nest": lambda size: _json(b"[" * size),
    "json: an unterminated text": lambda size: _json(b'"' + b"a" * size),
    "json: an unterminated text of escapes": lambda size: _json(b'"' + _repeated(b"\\n", size)),
    "json: a long integer": lambda size: _json(b"9" * size + b"}"),
    "json: a long number": lambda size: _json(b"0." + b"9" * size + b"}"),
    "json: empty operators": lambda size: _json_operators(_repeated(b'{"#":"1.x","A":[]},', size), _PLAIN),
    "json: dimensions": lambda size: _json_operators(
        b"", _DATA % (b"x", b"0.t_f32", b"-1" + _repeated(b",1", size))
    ),
    "json: a large dimension": lambda size: _json_operators(
        b"", _DATA % (b"x", b"0.t_f32", b"-1," + b"9" * min(size, 4000))
    ),
    "json: a long name": lambda size: _json_operators(b"", 2 * (_DATA % (b"x" * size, b"0.t_f32", b"-1"))),
    "json: a long dtype": lambda size: _json_operators(
        b"", _DATA % (b"x", _repeated(b"\\u001b[31m", size), b"-1")
    ),
    "parameters: a level of 2^64-1 bytes": lambda size: _weights(
        struct.pack("<IQQ", 0, 1, _LIE) + bytes(100)
    ),
    "parameters: a level of 2^63 bytes": lambda size: _weights(
        struct.pack("<IQQ", 0, 1, 1 << 63) + bytes(100)
    ),
    "parameters: 2^64-1 levels": lambda size: _weights(struct.pack("<IQQ", 0, _LIE, 1) + bytes(100)),
    "parameters: large dimensions": lambda size: _weights(_large_dimensions()),
    "parameters: a name with a NUL": lambda size: {
        "__model__": _block(_SMALL + _tensor(b"w\0", b"\x10\x02", _number(3, 1)))
    },
    "serving: a long list": lambda size: _conf(
        b'feed_var { name: "x" shape: [' + _repeated(b"1,", size) + b"1] }"
    ),
    "serving: an unterminated text": lambda size: _conf(b'feed_var { name: "' + b"a" * size),
    "serving: an unterminated text of escapes": lambda size: _conf(
        b'feed_var { name: "' + _repeated(b"\\n", size)
    ),
    "serving: texts": lambda size: _conf(b"feed_var { name: " + _repeated(b'"a" ', size) + b"}"),
    "serving: a long word": lambda size: _conf(b"a" * size),
    "serving: a deep nest": lambda size: _conf(_repeated(b"a{", size)),
    "serving: comments": lambda size: _conf(_repeated(b"#\n", size)),
    "serving: feeds": lambda size: _conf(_repeated(b'feed_var{name:"x"}', size)),
}
"""Name -> for a number of bytes, the files of a directory."""


def _large_dimensions() -> bytes:
    description = _number(1, 5) + b"".join(_number(2, (1 << 63) - 1) for _ in range(370))
    return struct.pack("<IQIi", 0, 0, 0, len(description)) + description + bytes(100)


_HOLES = {
    "a hole": ("m.pdmodel", b""),
    "a hole in a block": ("m.pdmodel", b"\x0a" + _varint(8 << 30) + b"\x08\x00\x10\x00"),
    "a hole in JSON": ("m.json", _HEAD),
    "a hole for parameters": ("m.pdiparams", b""),
    "a hole for a configuration": ("serving_server_conf.prototxt", b""),
}
_HOLE_BYTES = 8 << 30

NAMES = (*FILES, *_HOLES)
"""Of all that `write` can write."""


def write(name: str, directory: Path, size: int) -> int:
    """Writes the files of this name; gives their bytes, of which those with a hole have eight gigabytes."""
    directory.mkdir()
    files = FILES[name](size) if name in FILES else {}
    if name in _HOLES:
        file, head = _HOLES[name]
        files = {} if head or file.endswith("model") else {"m.pdmodel": _block(_SMALL + _WEIGHT)}
        with (directory / file).open("wb") as hole:
            hole.write(head)
            hole.truncate(_HOLE_BYTES)
    for file, data in files.items():
        (directory / file).write_bytes(data)
    return sum(path.stat().st_size for path in directory.iterdir())
