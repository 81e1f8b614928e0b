"""A class for ``map_batches`` of Ray Data and ``mapInPandas`` of Spark: columns through an engine."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paddleinfer.config import EngineConfig, EngineOptions
from paddleinfer.engine.engine import Engine, one_config
from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.models.reader import TensorSpec
from paddleinfer.ray.sizing import replica_size
from paddleinfer.sentences import listed, shown

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Scorer"]

Columns = Mapping[str, str | Sequence[str]]

# While one call waits for its rows, another turns its results into a block, and a third its block into rows.
_CALLS_PER_ACTOR = 3
# Full batches in a call: Ray takes milliseconds for each call, however few its rows are.
_BATCHES_PER_CALL = 32


class Scorer:
    """An engine in an actor of Ray Data: ``dataset.map_batches(Scorer, **Scorer.arguments("model_dir"))``.

    Several calls of one actor share the engine and its batches. A call hands its rows over in pieces, so that
    no more than a few batches are queued, and waits for room like any other.

    Parameters
    ----------
    path
        The model, as ``Engine`` takes it, readable on every node.
    columns
        Input -> the column with its rows, or several columns of numbers that become its last axis. None: the
        columns that have the inputs' names.
    outputs
        Output -> the column to write, or the names of outputs that keep their names. None: all of them.
    keep
        Columns of the input that stay; None is all of them.
    config
        All options of the engine, grouped; it replaces the keywords.
    **engine_options
        The options of the engine.

    Raises
    ------
    ConfigError
        A name is not one of the model's, or an option is unknown or out of range.
    ModelLoadError
        The path is not a model, or Paddle cannot load it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        columns: Columns | None = None,
        outputs: Mapping[str, str] | Sequence[str] | None = None,
        keep: Sequence[str] | None = None,
        config: EngineConfig | None = None,
        **engine_options: Unpack[EngineOptions],
    ) -> None:
        config = one_config(config, engine_options)
        self._engine = Engine(path, config)
        self._rows = config.batching.most_rows
        self._keep = None if keep is None else tuple(keep)
        self._inputs = {tensor.name: tensor for tensor in self._engine.inputs}
        self._columns = dict(columns or {name: name for name in self._inputs})
        known = [tensor.name for tensor in self._engine.outputs]
        if outputs is None:
            outputs = known
        self._outputs = dict(outputs if isinstance(outputs, Mapping) else zip(outputs, outputs, strict=True))
        _check_names("columns", "input", self._columns, list(self._inputs), all_needed=True)
        _check_names("outputs", "output", self._outputs, known, all_needed=False)

    @classmethod
    def arguments(
        cls,
        path: str | os.PathLike[str],
        *,
        columns: Columns | None = None,
        outputs: Mapping[str, str] | Sequence[str] | None = None,
        keep: Sequence[str] | None = None,
        actors: int | tuple[int, int] = 1,
        batch_size: int | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        config: EngineConfig | None = None,
        **engine_options: Unpack[EngineOptions],
    ) -> dict[str, Any]:
        """Returns the keywords of ``Dataset.map_batches`` for this class.

        Parameters
        ----------
        path, columns, outputs, keep, config, **engine_options
            As of the class.
        actors
            How many engines, or (fewest, most).
        batch_size
            Rows of a call; None: 32 times ``instances`` times ``max_batch_size``. An actor holds the rows of
            a few calls and their results in memory: give fewer rows where they are large.
        num_cpus, num_gpus
            What an actor reserves, as of ``paddleinfer.ray.deployment``.

        Raises
        ------
        ConfigError
            An option is unknown or out of range, or the devices do not fit `num_gpus`.
        """
        from ray.data import ActorPoolStrategy

        size = replica_size(one_config(config, engine_options), num_cpus, num_gpus)
        fewest, most = (actors, actors) if isinstance(actors, int) else actors
        if batch_size is None:
            batch_size = _BATCHES_PER_CALL * size.instances * size.config.batching.most_rows
        return {
            "fn_constructor_args": (os.fspath(path),),
            "fn_constructor_kwargs": {
                "columns": columns,
                "outputs": outputs,
                "keep": keep,
                "config": size.config,
            },
            "compute": ActorPoolStrategy(
                min_size=fewest,
                max_size=most,
                max_concurrent_calls_per_actor=_CALLS_PER_ACTOR,
                enable_true_multi_threading=True,
            ),
            "batch_size": batch_size,
            "batch_format": "numpy",
            "num_cpus": size.num_cpus,
            **({"num_gpus": size.num_gpus} if size.num_gpus else {}),
        }

    @classmethod
    def in_pandas(
        cls,
        path: str | os.PathLike[str],
        *,
        columns: Columns | None = None,
        outputs: Mapping[str, str] | Sequence[str] | None = None,
        keep: Sequence[str] | None = None,
        config: EngineConfig | None = None,
        **engine_options: Unpack[EngineOptions],
    ) -> Callable[[Iterable[Any]], Iterator[Any]]:
        """Returns the function of Spark's ``DataFrame.mapInPandas``: frames in, frames out.

        Each Python worker has one engine for all its tasks, with one instance unless ``instances`` says
        otherwise, for Spark starts a worker for each core.

        Parameters
        ----------
        path, columns, outputs, keep, config, **engine_options
            As of the class.

        Raises
        ------
        ConfigError
            An option is unknown or out of range.
        """
        model, size = os.fspath(path), replica_size(one_config(config, engine_options), None, None)
        given = {"columns": columns, "outputs": outputs, "keep": keep, "config": size.config}

        def score(frames: Iterable[Any]) -> Iterator[Any]:
            from pandas import DataFrame

            scorer = _of_process(cls, model, given)
            for frame in frames:
                scored = scorer({name: frame[name].to_numpy() for name in frame})
                yield DataFrame({name: _as_cells(values) for name, values in scored.items()})

        return score

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Runs the model on a batch of rows; any number of threads may call it.

        Parameters
        ----------
        batch
            Column -> array with the rows first.

        Returns
        -------
        dict
            The kept columns and those of the outputs, each with as many rows.

        Raises
        ------
        InvalidInput
            A column is missing, ragged, or does not fit its input.
        ModelError
            The model failed.
        """
        count = len(next(iter(batch.values()), ()))
        feeds = {name: self._feed(self._inputs[name], batch) for name in self._columns}
        parts = list(self._engine.infer_many(self._pieces(feeds, count), outputs=list(self._outputs)))
        kept = batch if self._keep is None else {name: _column(batch, name) for name in self._keep}
        scored = dict(kept)
        for tensor in self._engine.outputs:
            column = self._outputs.get(tensor.name)
            if column is None:
                continue
            if column in kept:
                raise InvalidInput(
                    f"output {tensor.name!r} would overwrite the column {shown(column)}: give it another name"
                )
            scored[column] = _joined(tensor, [part[tensor.name] for part in parts], count)
        return scored

    def _pieces(self, feeds: Mapping[str, NDArray[Any]], count: int) -> Iterator[dict[str, NDArray[Any]]]:
        for begin in range(0, count, self._rows):
            yield {name: values[begin : begin + self._rows] for name, values in feeds.items()}

    def _feed(self, tensor: TensorSpec, batch: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        given = self._columns[tensor.name]
        if not isinstance(given, str):
            return np.stack([_column(batch, name) for name in given], axis=-1)
        values = _column(batch, given)
        if values.dtype == object:
            try:
                values = np.stack([np.asarray(value) for value in values]) if len(values) else values
            except ValueError:
                raise InvalidInput(
                    f"the rows of column {shown(given)} have different shapes; "
                    f"input {tensor.name!r} takes one"
                ) from None
        if values.ndim == 1 and tensor.shape is not None and len(tensor.shape) == 2:
            return values[:, None]  # one number a row
        return values


_scorers: dict[bytes, Scorer] = {}
_scorers_lock = threading.Lock()


def _of_process(kind: type[Scorer], path: str, given: Mapping[str, Any]) -> Scorer:
    """Returns the one scorer of this process with these arguments."""
    key = pickle.dumps((path, given))
    with _scorers_lock:
        if key not in _scorers:
            _scorers[key] = kind(path, **given)
        return _scorers[key]


def _as_cells(values: NDArray[Any]) -> Any:
    """Returns a column of a frame: numbers as they are, and rows as Spark takes them, in lists."""
    if values.ndim < 3:
        return values if values.ndim == 1 else list(values)
    return values.tolist()


def _column(batch: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in batch:
        raise InvalidInput(f"there is no column {shown(name)}; the data has {listed(batch)}")
    return batch[name]


def _joined(tensor: TensorSpec, parts: Sequence[NDArray[Any]], count: int) -> NDArray[Any]:
    if not parts:
        return np.empty((0, *(max(size, 0) for size in (tensor.shape or ())[1:])), tensor.dtype)
    rows = sum(len(part) if part.ndim else 0 for part in parts)
    if rows != count or len({part.shape[1:] for part in parts}) > 1:
        raise InvalidInput(
            f"output {tensor.name!r} has the shapes {listed(str(part.shape) for part in parts)} "
            f"for {count} rows; a column takes one value of one shape a row"
        )
    return np.concatenate(parts)


def _check_names(
    option: str, what: str, given: Mapping[str, object], known: Sequence[str], *, all_needed: bool
) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{option} names {shown(name)}; the model has the {what}s {listed(known)}")
    missing = [name for name in known if name not in given]
    if all_needed and missing:
        raise ConfigError(f"{option} has no column for the {what} {shown(missing[0])}")
