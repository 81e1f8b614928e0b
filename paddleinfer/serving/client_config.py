"""A client's configuration: what its model takes and gives, without the model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.models.reader import TensorSpec
from paddleinfer.models.serving_conf import CLIENT_FILE_NAME, ELEM_TYPES, FILE_NAME, ServingConf, read_conf
from paddleinfer.sentences import listed, shown
from paddleinfer.serving.formats.feeds import engine_inputs, wanted_names
from paddleinfer.serving.formats.tensors import DTYPE_OF

__all__ = ["ClientConfig"]

Array = npt.NDArray[Any]

_DTYPES = {number: dtype for dtype, number in ELEM_TYPES.items()}


class ClientConfig:
    """Read from ``serving_client_conf.prototxt``.

    Parameters
    ----------
    paths
        A file, or a directory that holds one; or a list: feeds are of its first, fetches of its last.

    Raises
    ------
    ConfigError
        There is no such file, or it names a type that models do not have.
    ModelLoadError
        A file is no configuration.
    """

    def __init__(self, paths: object) -> None:
        listed_paths: Sequence[object] = paths if isinstance(paths, (list, tuple)) else [paths]
        given = [Path(path) for path in listed_paths if isinstance(path, (str, os.PathLike))]
        if not given or len(given) < len(listed_paths):
            raise ConfigError(f"a client's configuration is a path or a list of paths, not {shown(paths)}")
        first, last = _read(given[0]), _read(given[-1])
        self.inputs = tuple(
            TensorSpec(one.name, one.alias, _dtype(one.elem_type, one.name), (-1, *one.shape))
            for one in first.feeds
        )
        self.outputs = tuple(
            TensorSpec(one.name, one.alias, _dtype(one.elem_type, one.name), None) for one in last.fetches
        )

    @property
    def feed_names(self) -> list[str]:
        """The inputs' aliases."""
        return [tensor.alias or tensor.name for tensor in self.inputs]

    @property
    def fetch_names(self) -> list[str]:
        """The outputs' aliases."""
        return [tensor.alias or tensor.name for tensor in self.outputs]

    def arrays(self, feed: object, *, batch: bool) -> dict[str, Array]:
        """The model's name of each input -> an array of its dtype, with its batch axis.

        Raises
        ------
        InvalidInput
            The feed does not fit the configuration.
        """
        arrays = engine_inputs(self._by_name(feed), self.inputs, batch=batch)
        return {tensor.name: _typed(arrays, tensor) for tensor in self.inputs}

    def fetched(self, fetch: object) -> list[str]:
        """The aliases of the outputs that are wanted.

        Raises
        ------
        InvalidInput
            One of them is none of the model's.
        """
        aliases = {
            name: one.alias or one.name for one in self.outputs for name in (one.name, one.alias or one.name)
        }
        names = wanted_names(fetch, self.outputs)
        for name in names:
            if name not in aliases:
                raise InvalidInput(
                    f"there is no output {shown(name)}; the model has {listed(self.fetch_names)}"
                )
        return [aliases[name] for name in names]

    def _by_name(self, feed: object) -> object:
        """Paddle Serving takes the values alone, too: of the one input, or of each in turn."""
        if isinstance(feed, np.ndarray) or (
            isinstance(feed, (list, tuple)) and not any(isinstance(one, Mapping) for one in feed)
        ):
            values: Sequence[object] = [feed] if len(self.inputs) == 1 else list(feed)
            if len(values) != len(self.inputs):
                raise InvalidInput(
                    f"the feed has {len(values)} values, and the model takes {len(self.inputs)} inputs: "
                    f"{listed(self.feed_names)}"
                )
            return dict(zip(self.feed_names, values, strict=True))
        return feed


def _read(path: Path) -> ServingConf:
    places = [path] if not path.is_dir() else [path / CLIENT_FILE_NAME, path / FILE_NAME]
    for place in places:
        if place.is_file():
            return read_conf(place)
    raise ConfigError(
        f"{path} is neither {CLIENT_FILE_NAME} nor a directory that holds one; "
        "paddleinfer convert writes it for any model"
    )


def _dtype(elem_type: int, name: str) -> str:
    if elem_type not in _DTYPES:
        raise ConfigError(f"{name!r} has the type {elem_type}, and models have {listed(map(str, _DTYPES))}")
    return _DTYPES[elem_type]


def _typed(arrays: Mapping[str, Array], tensor: TensorSpec) -> Array:
    if tensor.name not in arrays:
        raise InvalidInput(f"missing input {tensor.alias or tensor.name!r}")
    array, dtype = arrays[tensor.name], DTYPE_OF[ELEM_TYPES[tensor.dtype]]
    if array.dtype.kind not in "biufV" or (array.dtype.kind == "f" and dtype.kind in "biu"):
        raise InvalidInput(f"input {tensor.name!r} takes {tensor.dtype}, not {array.dtype}")
    if dtype.kind in "iu" and array.size:
        low, high = int(array.min()), int(array.max())
        if low < np.iinfo(dtype).min or high > np.iinfo(dtype).max:
            raise InvalidInput(f"input {tensor.name!r} goes from {low} to {high}, beyond {tensor.dtype}")
    with np.errstate(over="ignore"):  # too large becomes infinite, as everywhere in NumPy
        return array.astype(dtype, copy=False)
