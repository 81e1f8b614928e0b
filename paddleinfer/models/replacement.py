"""Checks whether one model can replace another under its callers."""

from __future__ import annotations

from paddleinfer.errors import ModelLoadError
from paddleinfer.models.spec import ModelSpec, TensorSpec

__all__ = ["check_replacement"]


def check_replacement(old: ModelSpec, new: ModelSpec) -> None:
    """Checks that callers of `old` can go on with `new`.

    Names, aliases, their order and dtypes must be the same. An input must take every shape that it took
    before; the known sizes of an output must not change.

    Raises
    ------
    ModelLoadError
        The sentence names the first difference.
    """
    sides = (("input", old.inputs, new.inputs), ("output", old.outputs, new.outputs))
    for side, before, after in sides:
        names = [", ".join(tensor.name for tensor in tensors) or "none" for tensors in (before, after)]
        if names[0] != names[1]:
            raise ModelLoadError(
                f"{new.path} has the {side}s {names[1]}, and it must have the same as the model in service: "
                f"{names[0]}"
            )
        for was, now in zip(before, after, strict=True):
            difference = _difference(was, now, narrows=side == "input")
            if difference:
                raise ModelLoadError(f"{side} {now.name!r} of {new.path} has {difference} in service")


def _difference(was: TensorSpec, now: TensorSpec, narrows: bool) -> str:
    """Returns the difference as words before "in service"; `narrows`: a free size must stay free."""
    if was.alias != now.alias:
        return f"the alias {now.alias!r}, and {was.alias!r}"
    if was.dtype != now.dtype:
        return f"the dtype {now.dtype}, and {was.dtype}"
    if was.shape is None or now.shape is None:
        return ""
    fits = len(was.shape) == len(now.shape) and all(
        after in (-1, before) or (before == -1 and not narrows)
        for before, after in zip(was.shape, now.shape, strict=True)
    )
    return "" if fits else f"the shape {now.shape}, and {was.shape}"
