"""``Tensor``: the handle of one input or output, which resolves to the calling thread's own data."""

from __future__ import annotations

import abc
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.backends.paddle.tensors import array_of, is_tensor
from paddleinfer.errors import InvalidInput
from paddleinfer.inference.enums import DataType, data_type_of
from paddleinfer.models.spec import TensorSpec
from paddleinfer.sentences import shown

__all__ = ["InputTensor", "OutputTensor", "Tensor", "ThreadData"]

Array = npt.NDArray[Any]


@dataclass
class _Filled:
    """What a thread has put into one input."""

    array: Array | None = None
    """A copy of what the caller gave."""
    shared: Any = None
    """A tensor of Paddle's instead, which is read when the model runs."""
    shape: list[int] | None = None
    """What ``reshape`` said, until data come."""
    is_free: bool = True
    """Whether no run may still read the array, so that it can be written to."""

    def current(self) -> Array | None:
        return self.array if self.shared is None else array_of(self.shared)


class ThreadData(threading.local):
    """The inputs and results of one predictor object, for each thread (or greenlet) its own."""

    def __init__(self) -> None:
        self.inputs: dict[str, _Filled] = {}
        self.outputs: Mapping[str, Array] | None = None

    def feeds(self, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
        """Returns what this thread has put into the inputs.

        Raises
        ------
        InvalidInput
            It has put nothing into one of them.
        """
        feeds = {}
        for spec in inputs:
            filled = self.inputs.get(spec.name)
            array = None if filled is None else filled.current()
            if array is None:
                raise InvalidInput(
                    f"input {spec.name!r} has no data: call copy_from_cpu on its handle first, on the thread "
                    "that calls run(), because each thread has its own inputs and outputs"
                )
            feeds[spec.name] = array
        return feeds

    def keep_inputs_unwritten(self) -> None:
        """Has later inputs go into new arrays: a run that failed may still read those of now."""
        for filled in self.inputs.values():
            filled.is_free = False


class Tensor(abc.ABC):
    """The handle of one input or output of a predictor.

    Any thread may use it: it stands for the calling thread's own data.
    """

    def __init__(self, spec: TensorSpec, data: ThreadData) -> None:
        self._spec = spec
        self._data = data

    def name(self) -> str:
        """Returns the name of the input or output."""
        return self._spec.name

    def shape(self) -> list[int]:
        """Returns the sizes of this thread's data; before there are any, the model's, -1 for a free one."""
        array = self._current()
        return list(self._spec.shape or ()) if array is None else list(array.shape)

    def type(self) -> DataType:
        """Returns the dtype of this thread's data; before there are any, the model's.

        Raises
        ------
        InvalidInput
            Paddle's enumeration has no name for it, as for int16.
        """
        array = self._current()
        return data_type_of(_ext.NUMPY_DTYPES[self._spec.dtype] if array is None else array.dtype)

    def lod(self) -> list[list[int]]:
        """Returns no offsets: sequences of several levels do not exist here."""
        return []

    def set_lod(self, lod: Sequence[Sequence[int]]) -> None:
        """Refuses offsets of sequences.

        Raises
        ------
        InvalidInput
            `lod` is not empty.
        """
        if len(lod):
            raise InvalidInput(
                f"set_lod of {self._spec.name!r} is not offered: give sequences padded to one length"
            )

    def copy_to_cpu(self) -> Array:
        """Returns a copy of this thread's data; bfloat16 as uint16, as Paddle does.

        Raises
        ------
        InvalidInput
            There are none yet on this thread.
        """
        array = self._current()
        if array is None:
            raise InvalidInput(self._why_empty())
        copy = np.array(array, order="C")
        return copy.view(np.uint16) if copy.dtype == _ext.NUMPY_DTYPES["bfloat16"] else copy

    def copy_from_cpu(self, data: Any) -> None:
        """Is for inputs."""
        self._refuse_writing()

    def reshape(self, shape: Any) -> None:
        """Is for inputs."""
        self._refuse_writing()

    def share_external_data(self, data: Any) -> None:
        """Is for inputs."""
        self._refuse_writing()

    def share_external_data_by_ptr_name(self, data: Any, shape: Any, dtype: Any, place: Any) -> None:
        """Is not offered."""
        raise InvalidInput(
            "share_external_data_by_ptr_name is not offered: an address tells neither device nor lifetime; "
            "use copy_from_cpu or share_external_data"
        )

    @abc.abstractmethod
    def _current(self) -> Array | None:
        """Returns this thread's data, if there are any."""

    @abc.abstractmethod
    def _why_empty(self) -> str:
        """Returns the sentence for a thread that has none."""

    def _refuse_writing(self) -> NoReturn:
        raise InvalidInput(f"{self._spec.name!r} is an output of the model, which cannot be written to")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._spec.name!r}>"


class InputTensor(Tensor):
    """The handle of an input."""

    def shape(self) -> list[int]:
        """Returns the sizes of this thread's data, or those of ``reshape``; before, the model's."""
        filled = self._data.inputs.get(self._spec.name)
        if filled is not None and filled.shape is not None:
            return list(filled.shape)
        return super().shape()

    def reshape(self, shape: int | Sequence[int]) -> None:
        """Sets the sizes of this thread's data. Data of as many elements stay, others are dropped.

        Parameters
        ----------
        shape
            Sizes; copy_from_cpu sets those of its array by itself.

        Raises
        ------
        InvalidInput
            They are no sizes.
        """
        sizes = list(shape) if isinstance(shape, Iterable) else [shape]
        if not all(isinstance(size, (int, np.integer)) and size >= 0 for size in sizes):
            raise InvalidInput(f"reshape takes sizes from 0 up, not {shown(shape)}")
        filled = self._filled()
        array = filled.current()
        fits = array is not None and array.size == int(np.prod(sizes, dtype=np.int64))
        filled.array = array.reshape(sizes) if array is not None and fits else None
        filled.shared, filled.shape = None, None if fits else [int(size) for size in sizes]

    def copy_from_cpu(self, data: Array) -> None:
        """Takes a copy of an array as this thread's input, until it gives another.

        Parameters
        ----------
        data
            An array of the input's rank and kind of dtype; float64 becomes float32 and so on when the model
            runs.

        Raises
        ------
        TypeError
            It is no array.
        InvalidInput
            It is an array of texts or of objects.
        """
        if isinstance(data, list) and data and isinstance(data[0], str):
            raise InvalidInput(f"input {self._spec.name!r}: tensors of texts are not offered")
        if not isinstance(data, np.ndarray):
            raise TypeError(f"copy_from_cpu takes a NumPy array, not {type(data).__name__}")
        if data.dtype.kind in "OUSV" and data.dtype != _ext.NUMPY_DTYPES["bfloat16"]:
            raise InvalidInput(f"input {self._spec.name!r} takes {self._spec.dtype}, not {data.dtype}")
        filled = self._filled()
        kept = filled.array
        if kept is not None and filled.is_free and (kept.shape, kept.dtype) == (data.shape, data.dtype):
            np.copyto(kept, data)
        else:
            filled.array = np.array(data, order="C")
        filled.shared, filled.shape, filled.is_free = None, None, True

    def share_external_data(self, data: Any) -> None:
        """Takes a tensor of Paddle's as this thread's input. It is read, and copied, when the model runs.

        Raises
        ------
        TypeError
            It is no tensor of Paddle's.
        """
        if not is_tensor(data):
            raise TypeError(f"share_external_data takes a paddle.Tensor, not {type(data).__name__}")
        filled = self._filled()
        filled.array, filled.shared, filled.shape = None, data, None

    def _filled(self) -> _Filled:
        return self._data.inputs.setdefault(self._spec.name, _Filled())

    def _current(self) -> Array | None:
        filled = self._data.inputs.get(self._spec.name)
        return None if filled is None else filled.current()

    def _why_empty(self) -> str:
        return f"input {self._spec.name!r} has no data on this thread; call copy_from_cpu first"


class OutputTensor(Tensor):
    """The handle of an output."""

    def _current(self) -> Array | None:
        outputs = self._data.outputs
        return None if outputs is None else outputs[self._spec.name]

    def _why_empty(self) -> str:
        return (
            f"output {self._spec.name!r} has no data: run() has not given a result on this thread, and each "
            "thread has its own inputs and outputs"
        )
