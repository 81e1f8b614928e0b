"""Reads arrays from .npy and .npz files (the formats of numpy.save and numpy.savez)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.errors import InvalidInput

__all__ = ["read_arrays"]

Array = npt.NDArray[Any]


def read_arrays(path: Path, option: str) -> dict[str | None, Array]:
    """Returns name -> array; the array of an .npy file has the name None.

    Parameters
    ----------
    path
        The file.
    option
        The name of the option that it was given with, for the sentence.

    Raises
    ------
    InvalidInput
        The file cannot be read, or holds no arrays.
    """
    try:
        # The file is opened here, because NumPy leaves its own open if it is not an archive after all.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {None: _with_bfloat16(loaded)}
            return {name: _with_bfloat16(_member(loaded, name)) for name in loaded.files}
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read ({error.strerror or error}); {option} takes an .npy or .npz file"
        ) from error
    except Exception as error:  # damage shows as any of a dozen kinds, zlib.error among them
        raise InvalidInput(
            f"{path} holds no arrays that NumPy can read; write it with numpy.save or numpy.savez, "
            "without Python objects"
        ) from error


def _member(archive: Any, name: str) -> Array:
    member = archive[name]
    if not isinstance(member, np.ndarray):  # NumPy gives the bytes of what is no .npy file
        raise ValueError(f"{name} is no array")
    return member


def _with_bfloat16(array: Array) -> Array:
    # NumPy's files do not know the type, and store it as two bytes of unknown meaning.
    return array.view(_ext.NUMPY_DTYPES["bfloat16"]) if array.dtype == np.dtype("V2") else array
