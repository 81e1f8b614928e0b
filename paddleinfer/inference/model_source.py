"""Where the model of a ``Config`` is: in a directory, in named files, or in memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.sentences import shown

__all__ = ["ModelInMemory", "ModelSource"]


class ModelInMemory:
    """A model that came as bytes, in files that only this user can read; they are removed with the object."""

    def __init__(self, program: bytes, params: bytes) -> None:
        directory = tempfile.mkdtemp(prefix="paddleinfer-")
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        suffix = ".json" if program.lstrip()[:1] == b"{" else ".pdmodel"
        self.program = Path(directory) / f"inference{suffix}"
        self.program.write_bytes(program)
        self.params: Path | None = None
        if params:
            self.params = self.program.with_suffix(".pdiparams")
            self.params.write_bytes(params)

    @classmethod
    def of(cls, program: bytes, params: bytes) -> ModelInMemory:
        """Returns the one of these bytes, so that equal models share an engine."""
        digest = hashlib.sha256(b"%d " % len(program) + program + params).hexdigest()
        with _making:
            found = _in_memory.get(digest)
            if found is None:
                found = _in_memory[digest] = cls(program, params)
            return found


_making = threading.Lock()
_in_memory: weakref.WeakValueDictionary[str, ModelInMemory] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class ModelSource:
    """The place of a model."""

    directory: str = ""
    program: str = ""
    params: str = ""
    memory: ModelInMemory | None = None

    @classmethod
    def of(cls, first: object, second: object | None) -> ModelSource:
        """Reads the arguments of ``Config``: a directory, a directory and a stem, or two files."""
        path = _path_of("model_dir" if second is None else "prog_file", first)
        if second is None:
            return cls(directory=path)
        params = _path_of("params_file", second)
        if os.path.isdir(path):
            return cls(program=os.path.join(path, params))
        return cls(program=path, params=params)

    def location(self) -> tuple[str, str | None]:
        """Returns the path of the model for an engine, and its option ``params``.

        Raises
        ------
        ConfigError
            The Config names no model.
        """
        if self.memory is not None:
            params = self.memory.params
            return str(self.memory.program), None if params is None else str(params)
        if self.directory:
            return self.directory, None
        if not self.program:
            raise ConfigError(
                "the Config names no model; give Config(prog_file, params_file), Config(model_dir), or call "
                "set_model_buffer"
            )
        return self.program, self._params_option()

    def _params_option(self) -> str | None:
        if not self.params:
            return None
        params = os.path.abspath(self.params)
        usual = os.path.splitext(os.path.abspath(self.program))[0] + ".pdiparams"
        # A model without parameters has no such file, and code names it all the same.
        return None if params == usual and not os.path.exists(params) else params


def model_from_memory(program: object, size: object, params: object, params_size: object) -> ModelSource:
    """Reads the arguments of ``set_model_buffer``.

    Raises
    ------
    InvalidInput
        They are no bytes, or shorter than their size says.
    """
    return ModelSource(
        memory=ModelInMemory.of(
            _bytes_of("prog_buffer", program, size), _bytes_of("params_buffer", params, params_size)
        )
    )


def _bytes_of(name: str, value: object, size: object) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidInput(f"{name} must be bytes, not {type(value).__name__}")
    if not isinstance(size, int) or not 0 <= size <= len(data):
        raise InvalidInput(f"the size of {name} must be an integer from 0 to {len(data)}, not {shown(size)}")
    return bytes(data[:size])


def _path_of(name: str, value: object) -> str:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise InvalidInput(f"{name} must be a path, not {type(value).__name__}")
    return os.fsdecode(value)
