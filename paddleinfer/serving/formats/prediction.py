"""What Paddle Serving's web services take and give: ``/{name}/prediction``, in its two forms.

The pipeline's has lists of keys and values, or tensors; the older one a list of feeds and a list of fetches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paddleinfer.errors import InvalidInput
from paddleinfer.models.reader import TensorSpec
from paddleinfer.sentences import listed, shown
from paddleinfer.serving.formats.feeds import engine_inputs
from paddleinfer.serving.formats.tensors import array_of, field_text, sequence_of, web_fields_of

__all__ = [
    "ERROR_NUMBERS",
    "MOST_KEYS",
    "PROFILE_KEY",
    "answer",
    "asks_for_profile",
    "check_pairs",
    "failure",
    "is_feed_form",
    "read_feeds",
    "read_keys_and_values",
]

Array = npt.NDArray[Any]

ERROR_NUMBERS: Final = {400: 5000, 404: 3002, 429: 3002, 500: 9000, 503: 3001, 504: 6000}
"""HTTP status -> ``err_no``, by Paddle Serving's table of errors. All else is 10000, unknown."""
_UNKNOWN: Final = 10000
PROFILE_KEY: Final = "pipeline.profile"
"""With the value "1" it asks for the request's stages, which the answer has under the same key."""
MOST_KEYS: Final = 1024
"""Of a request, and as many tensors."""
_MOST_DIMENSIONS: Final = 32


def is_feed_form(document: Mapping[str, Any]) -> bool:
    """Whether it is of the older form."""
    return "feed" in document or "fetch" in document


def asks_for_profile(document: Mapping[str, Any]) -> bool:
    """Whether the request's stages are wanted in its answer. Raises as `read_keys_and_values`."""
    pairs = zip(sequence_of(document, "key"), sequence_of(document, "value"), strict=False)
    return (PROFILE_KEY, "1") in pairs


def check_pairs(keys: Sequence[Any], values: Sequence[Any]) -> None:
    """Raises InvalidInput where there are not as many values as keys."""
    if len(keys) != len(values):
        raise InvalidInput(
            f"the request has {len(keys)} keys and {len(values)} values; each key has its value"
        )


def read_keys_and_values(
    document: Mapping[str, Any], inputs: Sequence[TensorSpec], parse: Callable[[str], Any]
) -> tuple[dict[str, Array], bool]:
    """The inputs, and whether tensors brought them, so that tensors are what its client reads.

    Parameters
    ----------
    document
        ``key`` and ``value``, texts that are JSON or numbers with commas between; or ``tensors``.
    inputs
        What the model takes.
    parse
        Text -> its value in JSON; raises ValueError.

    Raises
    ------
    InvalidInput
        It is no such request.
    """
    keys, values = sequence_of(document, "key"), sequence_of(document, "value")
    tensors = sequence_of(document, "tensors")
    check_pairs(keys, values)
    if len(keys) > MOST_KEYS or len(tensors) > MOST_KEYS:
        raise InvalidInput(
            f"the request has {max(len(keys), len(tensors))} keys or tensors, and {MOST_KEYS} is the most"
        )
    if PROFILE_KEY in keys:  # which is for its caller
        pairs = [pair for pair in zip(keys, values, strict=True) if pair[0] != PROFILE_KEY]
        keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    if keys and tensors:
        raise InvalidInput('give "key" and "value", or "tensors", and not both')
    if not keys and not tensors:
        raise InvalidInput('the request needs "key" and "value", or "tensors"; it has neither')
    by_name = {name: spec for spec in inputs for name in (spec.name, spec.alias) if name is not None}
    arrays: dict[str, Array] = {}
    for name, array in itertools.chain(_of_texts(keys, values, by_name, parse), _of_tensors(tensors)):
        if name in arrays:
            raise InvalidInput(f"{name!r} is given twice")
        arrays[name] = array
    return arrays, bool(tensors)


def read_feeds(
    document: Mapping[str, Any], inputs: Sequence[TensorSpec]
) -> tuple[dict[str, Array], list[str]]:
    """The inputs, and the outputs that are wanted.

    Raises
    ------
    InvalidInput
        It is no such request.
    """
    fetch = document.get("fetch")
    if not isinstance(fetch, list) or not fetch or not all(isinstance(name, str) for name in fetch):
        raise InvalidInput(f'"fetch" must be a list of the outputs\' names, not {shown(fetch)}')
    feeds = document.get("feed")
    if not isinstance(feeds, list) or not all(isinstance(feed, dict) for feed in feeds):
        raise InvalidInput(f'"feed" must be a list of objects, one for each row, not {shown(feeds)}')
    for feed in feeds:
        for name, value in feed.items():
            _check_numbers(value, name)
    return engine_inputs(feeds, inputs, batch=False), fetch


def answer(results: Mapping[str, Array], *, as_tensors: bool, profile: str | None = None) -> dict[str, Any]:
    """A model's answer: tensors, which hold arrays, or the text of each array by its name.

    `profile` is the line of its stages, where that is asked for.
    """
    from paddleinfer.serving.formats.texts import array_text  # brings orjson

    texts = {} if as_tensors else {name: array_text(array).decode() for name, array in results.items()}
    if profile is not None:
        texts[PROFILE_KEY] = profile
    tensors = [web_fields_of(name, array) for name, array in results.items()] if as_tensors else []
    return {"err_no": 0, "err_msg": "", "key": [*texts], "value": [*texts.values()], "tensors": tensors}


def failure(status: int, sentence: str) -> dict[str, Any]:
    """An answer to a request that gets no result."""
    number = ERROR_NUMBERS.get(status, _UNKNOWN)
    return {"err_no": number, "err_msg": sentence, "key": [], "value": [], "tensors": []}


def _of_texts(
    keys: Sequence[Any], values: Sequence[Any], inputs: Mapping[str, TensorSpec], parse: Callable[[str], Any]
) -> Iterator[tuple[str, Array]]:
    for name, text in zip(keys, values, strict=True):
        if not isinstance(name, str) or not isinstance(text, str):
            raise InvalidInput(
                f'"key" and "value" must be lists of texts, not of {shown(name)} and {shown(text)}'
            )
        spec = inputs.get(name)
        if spec is None:
            raise InvalidInput(f"there is no input {shown(name)}; the model takes {listed(inputs)}")
        stripped = text.strip()
        try:
            value = parse(stripped if stripped.startswith("[") else f"[{stripped}]")
        except ValueError:
            raise InvalidInput(
                f"the value of {name!r} must be a list in JSON, or numbers with commas between, "
                f"not {shown(text)}"
            ) from None
        _check_numbers(value, name)
        yield name, _rows_of(value, spec)


def _of_tensors(tensors: Sequence[Any]) -> Iterator[tuple[str, Array]]:
    for tensor in tensors:
        if not isinstance(tensor, Mapping):
            raise InvalidInput('each of "tensors" must be an object')
        field_text(tensor, "name")
        yield array_of(tensor)


def _check_numbers(value: Any, name: object) -> None:
    """Refuses what is no number or nested list of numbers, before NumPy makes room for it."""
    level, depth = [value], 0
    while any(type(part) is list for part in level):
        depth += 1
        if depth > _MOST_DIMENSIONS or not all(type(part) is list for part in level):
            raise InvalidInput(f"the value of {shown(name)} is not a rectangular list of numbers")
        level = list(itertools.chain.from_iterable(level))
    others = set(map(type, level)) - {int, float, bool}
    if others:
        found = ", ".join(sorted("null" if kind is type(None) else kind.__name__ for kind in others))
        raise InvalidInput(f"the value of {shown(name)} holds {found}, where the model takes numbers")


def _rows_of(value: Any, spec: TensorSpec) -> Array:
    """With the batch axis that it has, or one for one row; a flat list is cut into rows."""
    row = None if spec.shape is None else spec.shape[1:]
    try:
        if row is not None and -1 not in row:
            size = math.prod(row)
            flat = np.asarray(value)
            if flat.size == size or (flat.ndim == 1 and size and flat.size % size == 0):
                return engine_inputs({spec.name: flat.reshape(-1, *row)}, [spec], batch=True)[spec.name]
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidInput(f"the value of {spec.name!r} is not a rectangular list of numbers") from error
    has_rows = row is None or array.ndim > len(row)
    return engine_inputs({spec.name: array}, [spec], batch=has_rows)[spec.name]
