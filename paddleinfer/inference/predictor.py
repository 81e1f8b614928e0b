"""``Predictor`` and ``PredictorPool``: Paddle's predictor over a shared engine, for any number of threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from paddleinfer.backends.paddle.tensors import array_of, is_tensor, tensor_of
from paddleinfer.config.checks import is_int
from paddleinfer.engine.engine import Engine
from paddleinfer.engine.sharing import EngineLease, lease_engine
from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.inference.config import Config
from paddleinfer.inference.handles import InputTensor, OutputTensor, Tensor, ThreadData
from paddleinfer.models.spec import TensorSpec
from paddleinfer.sentences import listed, shown

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Predictor", "PredictorPool", "create_predictor"]

_log = logging.getLogger("paddleinfer")

Kind = TypeVar("Kind", bound=Tensor)


class Predictor:
    """What ``paddle.inference.Predictor`` is, over an ``Engine``: any number of threads may use one object.

    Each thread has inputs and outputs of its own: what it copies into a handle is what its ``run()`` takes,
    and what it reads from a handle is the result of its last ``run()``. Predictors of equal Configs over the
    same files share one engine in a process, which closes with the last of them: by ``close()``, at the end
    of a ``with`` block, or when nobody refers to it any more.

    Parameters
    ----------
    config
        The model and what it asks for; it is read once, and can be used again.

    Raises
    ------
    ConfigError, ModelLoadError, OutOfMemory, ThreadStartError
        As of ``Engine``.
    """

    def __init__(self, config: Config) -> None:
        if not isinstance(config, Config):
            raise ConfigError(f"a predictor takes a Config of paddleinfer.inference, not {shown(config)}")
        path, engine_config = config.engine_config()
        self._source = config._source  # files of a model from memory stay as long as this
        self._begin(lease_engine(path, engine_config), tuple(config.notes))
        for note in self.notes:
            _log.info("%s: %s", path, note)

    def _begin(self, lease: EngineLease, notes: tuple[str, ...]) -> None:
        self._lease = lease
        self._data = ThreadData()
        self._inputs: tuple[TensorSpec, ...] = lease.engine.inputs
        self._outputs: tuple[TensorSpec, ...] = lease.engine.outputs
        self.notes = notes
        """What the Config asked for that changes nothing here, in one sentence each."""

    @property
    def engine(self) -> Engine:
        """The engine, for all that Paddle's predictor has no name for.

        Raises
        ------
        EngineClosed
            The predictor was closed.
        """
        return self._lease.engine

    def get_input_names(self) -> list[str]:
        """Returns the names of the inputs, in the model's order."""
        return [spec.name for spec in self._inputs]

    def get_output_names(self) -> list[str]:
        """Returns the names of the outputs, in the model's order."""
        return [spec.name for spec in self._outputs]

    def get_input_handle(self, name: str) -> Tensor:
        """Returns the handle of an input.

        Raises
        ------
        InvalidInput
            There is no input of this name.
        """
        return self._handle(InputTensor, "input", name, self._inputs)

    def get_output_handle(self, name: str) -> Tensor:
        """Returns the handle of an output.

        Raises
        ------
        InvalidInput
            There is no output of this name.
        """
        return self._handle(OutputTensor, "output", name, self._outputs)

    def _handle(
        self,
        kind: Callable[[TensorSpec, ThreadData], Kind],
        what: str,
        name: str,
        specs: Sequence[TensorSpec],
    ) -> Kind:
        for spec in specs:
            if spec.name == name:
                return kind(spec, self._data)
        known = listed(spec.name for spec in specs)
        raise InvalidInput(f"there is no {what} {shown(name)}; the model has {known}")

    def run(self, inputs: Sequence[Any] | None = None) -> list[Any] | None:
        """Runs the model on this thread's inputs and waits for the result, which its handles then have.

        Parameters
        ----------
        inputs
            Arrays, or tensors of Paddle's, in the order of ``get_input_names``; None takes what
            ``copy_from_cpu`` has put into the handles.

        Returns
        -------
        list or None
            With `inputs` the outputs in the order of ``get_output_names``: paddle.Tensor where one of
            `inputs` was a tensor, else writable arrays. None without.

        Raises
        ------
        InvalidInput
            The inputs do not fit the model; nothing ran.
        DeadlineExceeded, ModelError, EngineClosed, OutOfMemory
            As of ``Engine.infer``.
        """
        if inputs is not None:
            return self._run_on(inputs)
        data = self._data
        data.outputs = None
        feeds = data.feeds(self._inputs)
        try:
            data.outputs = self._lease.engine.infer(feeds)
        except BaseException:
            data.keep_inputs_unwritten()
            raise
        return None

    def _run_on(self, inputs: Sequence[Any]) -> list[Any]:
        if not isinstance(inputs, (list, tuple)):
            raise InvalidInput(f"run takes a list of arrays or tensors, not {type(inputs).__name__}")
        self._data.outputs = None
        feeds: list[Any] = [array_of(value) if is_tensor(value) else value for value in inputs]
        outputs = self._lease.engine.infer(feeds)
        self._data.outputs = outputs
        as_tensors = any(map(is_tensor, inputs))
        given = (outputs[spec.name] for spec in self._outputs)
        return [tensor_of(array) if as_tensors else _own(array) for array in given]

    def clone(self, stream: object = None) -> Self:
        """Returns another predictor over the same engine, with inputs and outputs of its own.

        Parameters
        ----------
        stream
            A stream of a GPU; None is the only one possible.

        Raises
        ------
        ConfigError, EngineClosed
            A stream was given; this predictor was closed.
        """
        if stream is not None:
            raise ConfigError("clone(stream) is not offered: instances have streams of their own")
        another = type(self).__new__(type(self))
        another._source = self._source
        another._begin(self._lease.another(), self.notes)
        return another

    def clear_intermediate_tensor(self) -> None:
        """Does nothing: ``eager_deletion`` and ``mem_optim`` say what instances keep between runs."""

    def try_shrink_memory(self) -> int:
        """Returns 0: nothing is given back between runs."""
        return 0

    def register_input_hook(self, hook: object) -> None:
        """Is not offered."""
        raise ConfigError("register_input_hook is not offered: the engine does not see single operators")

    def register_output_hook(self, hook: object) -> None:
        """Is not offered."""
        raise ConfigError("register_output_hook is not offered: the engine does not see single operators")

    def close(self) -> None:
        """Ends the predictor, and its engine with the last one that uses it. Again does nothing.

        A call that another thread still has under way ends first, as with ``Engine.close``.
        """
        self._lease.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._lease.closed else "open"
        names = (", ".join(spec.name for spec in specs) for specs in (self._inputs, self._outputs))
        return f"<Predictor {' -> '.join(names)}, {state}>"


def _own(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns a copy: the handles have the array itself."""
    return np.array(array, order="C")


def create_predictor(config: Config) -> Predictor:
    """Returns a predictor, over the engine of predictors with an equal Config where there are some.

    Raises
    ------
    ConfigError, ModelLoadError, OutOfMemory, ThreadStartError
        As of ``Engine``.
    """
    return Predictor(config)


class PredictorPool:
    """Several predictors over one engine.

    Parameters
    ----------
    config
        As of ``create_predictor``.
    size
        How many there are, from 1 up. ``instances`` of the engine says how many runs go at once.

    Raises
    ------
    ConfigError, ModelLoadError, OutOfMemory, ThreadStartError
        As of ``create_predictor``.
    """

    def __init__(self, config: Config, size: int = 1) -> None:
        if not is_int(size) or size < 1:
            raise ConfigError(f"the size of a PredictorPool must be an integer from 1 up, not {shown(size)}")
        first = Predictor(config)
        self._predictors = [first, *(first.clone() for _ in range(size - 1))]

    def retrieve(self, index: int) -> Predictor:
        """Returns one of the predictors, which are counted from 0.

        Raises
        ------
        InvalidInput
            There is none of this number.
        """
        if not is_int(index) or not 0 <= index < len(self._predictors):
            last = len(self._predictors) - 1
            raise InvalidInput(f"the pool has predictors 0 to {last}, and not {shown(index)}")
        return self._predictors[index]

    retrive = retrieve  # Paddle 2's spelling

    def close(self) -> None:
        """Closes all predictors of the pool."""
        for predictor in self._predictors:
            predictor.close()
