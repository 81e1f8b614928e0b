"""A model's configuration for Paddle Serving, as text; and where one does not fit its model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from paddleinfer.models.serving_conf import ELEM_TYPES, ServingConf, ServingVar
from paddleinfer.models.spec import ModelSpec, TensorSpec

__all__ = ["conf_of", "conf_text", "mismatches"]

_MUST_BE_ESCAPED = {letter: f"\\{letter:03o}" for letter in (*range(32), ord('"'), ord("\\"))}


def conf_of(spec: ModelSpec, feed_aliases: Sequence[str], fetch_aliases: Sequence[str]) -> ServingConf:
    """The configuration of a model; aliases are in the order of its tensors, as many as there are or none."""
    return ServingConf(
        tuple(_vars(spec.inputs, feed_aliases)),
        tuple(_vars(spec.outputs, fetch_aliases)),
    )


def conf_text(conf: ServingConf) -> str:
    """As Paddle Serving writes it, for the server and for clients alike."""
    parts = [_text(one, "feed") for one in conf.feeds] + [_text(one, "fetch") for one in conf.fetches]
    return "".join(parts)


def mismatches(conf: ServingConf, spec: ModelSpec) -> list[str]:
    """A clause for each place where the configuration does not say what the model's program says."""
    found: list[str] = []
    for side, tensors, given in (("input", spec.inputs, conf.feeds), ("output", spec.outputs, conf.fetches)):
        by_name = {one.name: one for one in given}
        found += [f"it lacks the {side} {tensor.name!r}" for tensor in tensors if tensor.name not in by_name]
        known = {tensor.name: tensor for tensor in tensors}
        for one in given:
            tensor = known.get(one.name)
            if tensor is None:
                found.append(f"it names the {side} {one.name!r}, which the model has not")
                continue
            if one.elem_type != ELEM_TYPES[tensor.dtype]:
                found.append(
                    f"it says that the {side} {one.name!r} has type {one.elem_type}, and it has "
                    f"{ELEM_TYPES[tensor.dtype]}, {tensor.dtype}"
                )
            if not _may_be(one.shape, tensor.shape):
                found.append(
                    f"it says that the {side} {one.name!r} has shape {list(one.shape)} beyond its rows, "
                    f"and with them it has {list(tensor.shape or ())}"
                )
    return found


def _vars(tensors: Sequence[TensorSpec], aliases: Sequence[str]) -> Iterator[ServingVar]:
    for place, tensor in enumerate(tensors):
        alias = aliases[place] if aliases else tensor.alias or tensor.name
        yield ServingVar(tensor.name, alias, ELEM_TYPES[tensor.dtype], _conf_shape(tensor.shape))


def _conf_shape(shape: Sequence[int] | None) -> tuple[int, ...]:
    return tuple(size for size in shape or () if size >= 0)


def _may_be(given: Sequence[int], shape: Sequence[int] | None) -> bool:
    """Whether it is the shape with dynamic axes left out, or written as -1 or 1."""
    if shape is None or tuple(given) == _conf_shape(shape) or tuple(given) == (-1,):
        return True
    return len(given) in (len(shape), len(shape) - 1) and all(
        fixed < 0 or size == fixed
        for size, fixed in zip(given, shape[len(shape) - len(given) :], strict=True)
    )


def _text(one: ServingVar, side: str) -> str:
    lines = [
        f"name: {_quoted(one.name)}",
        f"alias_name: {_quoted(one.alias)}",
        "is_lod_tensor: false",
        f"{side}_type: {one.elem_type}",
        *(f"shape: {size}" for size in one.shape),
    ]
    return "".join([f"{side}_var {{\n", *(f"  {line}\n" for line in lines), "}\n"])


def _quoted(text: str) -> str:
    return f'"{text.translate(_MUST_BE_ESCAPED)}"'
