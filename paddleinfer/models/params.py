"""Checks parameter files against the program, without reading the weights.

Paddle does not check them: it silently loads a file whose last bytes are missing, and the model then
computes with whatever memory held. Each tensor has a header with its dtype and shape, so a
walk over the headers finds a file that is cut off or belongs to another model.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from paddleinfer.errors import ModelLoadError
from paddleinfer.models.file_states import FileState, settled_states
from paddleinfer.models.files import is_file, opened, refuse_stand_in
from paddleinfer.models.program import DATA_TYPES
from paddleinfer.models.spec import Parameter
from paddleinfer.models.wire import Message, WireError

__all__ = ["check_combined", "check_separate"]

_ITEM_SIZE = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "size_t": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}

# Far above what any real header needs; a foreign file's first bytes seldom stay below.
_MAX_LOD_LEVELS = 64
_MAX_DESCRIPTION = 4096


class _ForeignError(Exception):
    """The bytes are not a parameter header."""


class _CutOffError(Exception):
    """The file ends inside a tensor."""


def check_combined(path: Path, parameters: Sequence[Parameter], program: Path) -> None:
    """Check that a combined file holds exactly these parameters, each of them whole.

    Parameters
    ----------
    path
        The ``.pdiparams`` or ``__params__`` file.
    parameters
        What the program declares, in the file's order.
    program
        The program file, for messages.

    Raises
    ------
    ModelLoadError
        The file is empty, cut off, foreign, or from another export than the program.
    OSError
        The file cannot be read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        refuse_stand_in(path, file.read(64))
        if any(parameter.shape is None for parameter in parameters):
            return  # vocabularies and other types have a layout of their own
        file.seek(0)
        for index, parameter in enumerate(parameters):
            if index and file.tell() == size:
                raise ModelLoadError(
                    f"{path} holds {index} parameters, but {program} has {len(parameters)}; "
                    "they are not from the same export, or the file is truncated"
                )
            _check_tensor(file, size, parameter, path, program)
        if file.tell() != size:
            raise ModelLoadError(
                f"{path} goes on for {size - file.tell()} bytes after the {len(parameters)} parameters "
                f"that {program} has; they are not from the same export"
            )


def check_separate(directory: Path, parameters: Sequence[Parameter], program: Path) -> tuple[FileState, ...]:
    """Check that a directory holds one whole file for each parameter, named after it; return their states.

    Raises
    ------
    ModelLoadError
        Files are missing, empty, cut off, foreign, or from another export than the program.
    OSError
        A file cannot be read.
    """
    # The names are joined as Paddle does it: a name may contain, or even begin with, a slash.
    paths = [Path(f"{directory}/{parameter.name}") for parameter in parameters]
    pairs = list(zip(parameters, paths, strict=True))
    missing = [parameter.name for parameter, path in pairs if not is_file(path)]
    if missing:
        names = ", ".join(repr(name) for name in missing[:3]) + (", …" if len(missing) > 3 else "")
        raise ModelLoadError(
            f"{program} has {len(parameters)} parameters, but {directory} holds neither __params__ "
            f"nor a file for {len(missing)} of them ({names})"
        )
    states = settled_states(paths)
    for parameter, path in pairs:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            refuse_stand_in(path, file.read(64))
            if parameter.shape is not None:
                file.seek(0)
                _check_tensor(file, size, parameter, path, program)
    return states


def _check_tensor(file: BinaryIO, size: int, parameter: Parameter, path: Path, program: Path) -> None:
    """Read one tensor's header and step over its bytes."""
    try:
        dtype, shape = _read_header(file, size)
        end = file.tell() + _ITEM_SIZE[dtype] * math.prod(shape)
        if end > size:
            raise _CutOffError
        file.seek(end)
    except _CutOffError:
        raise ModelLoadError(
            f"{path} is truncated: its {size} bytes end inside the parameter {parameter.name!r}; "
            "copy or export it again"
        ) from None
    except _ForeignError as error:
        raise ModelLoadError(
            f"{path} is not a Paddle parameter file, or is damaged: {error} where the parameter "
            f"{parameter.name!r} should begin"
        ) from None
    if not _agree(parameter.shape, shape):
        raise ModelLoadError(
            f"{path} holds {list(shape)} where {program} has the parameter {parameter.name!r} "
            f"of shape {list(parameter.shape or ())}; they are not from the same export"
        )


def _read_header(file: BinaryIO, size: int) -> tuple[str, tuple[int, ...]]:
    """Reads the dtype and shape at the file's position, and moves that to the tensor's first byte."""
    (version, levels) = struct.unpack("<IQ", _take(file, 12))
    if version != 0 or levels > _MAX_LOD_LEVELS:
        raise _ForeignError(f"no version 0 of Paddle's tensor format but {version}")
    for _ in range(levels):
        (level_bytes,) = struct.unpack("<Q", _take(file, 8))
        if level_bytes > size - file.tell():
            raise _CutOffError
        file.seek(level_bytes, os.SEEK_CUR)
    (version, length) = struct.unpack("<Ii", _take(file, 8))
    if version != 0 or not 0 < length <= _MAX_DESCRIPTION:
        raise _ForeignError("no tensor description")
    try:
        description = Message(_take(file, length))
        number, shape = description.integer(1), description.integers(2)
    except WireError:
        raise _ForeignError("no tensor description") from None
    dtype = DATA_TYPES.get(number)
    if dtype is None or any(dimension < 0 for dimension in shape):
        raise _ForeignError(f"a tensor of the unknown dtype {number} and shape {list(shape)}")
    return dtype, shape


def _take(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise _CutOffError
    return data


def _agree(declared: tuple[int, ...] | None, held: tuple[int, ...]) -> bool:
    # Old exports write a scalar parameter as [1], and leave dimensions open.
    if declared is None or any(dimension < 0 for dimension in declared):
        return True
    return [d for d in declared if d != 1] == [d for d in held if d != 1]
