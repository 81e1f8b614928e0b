"""Checks the values of options; each failure is one sentence that names what would be right."""

from __future__ import annotations

import itertools
import numbers
import os
import re
from collections.abc import Container, Mapping, Sequence
from typing import TypeVar, cast

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

Given = TypeVar("Given", bound=str)

_NAME = re.compile(r"[A-Za-z0-9_]{1,128}")
_DEVICE = re.compile(r"cpu|gpu(:\d+)?")


def is_int(value: object) -> bool:
    """Tells whether a value is an integer; Python's truth values do not count as such here."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False, not {shown(value)}")


def check_switch(name: str, value: object) -> None:
    if value != "auto" and not isinstance(value, bool):
        raise ConfigError(f'{name} must be "auto", True or False, not {shown(value)}')


def check_int(name: str, value: object, low: int, high: int) -> None:
    if not is_int(value) or not low <= cast("int", value) <= high:
        raise ConfigError(f"{name} must be an integer from {low} to {high}, not {shown(value)}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        listed = ", ".join(f'"{choice}"' for choice in choices)
        raise ConfigError(f"{name} must be one of {listed}, not {shown(value)}")


def checked_sizes(name: str, value: object, most: int) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, (list, tuple)) else None
    if sizes is None or not all(is_int(size) and 1 <= size <= most for size in sizes):
        raise ConfigError(f"{name} must be a list of integers from 1 to {most}, not {shown(value)}")
    if any(later <= earlier for earlier, later in itertools.pairwise(sizes)):
        raise ConfigError(f"{name} must rise, and {shown(value)} does not")
    return sizes


def checked_shapes(value: object) -> dict[str, tuple[int, ...]]:
    fits = isinstance(value, Mapping) and all(
        isinstance(name, str)
        and isinstance(sizes, (list, tuple))
        and all(is_int(size) and 1 <= size < 1 << 31 for size in sizes)
        for name, sizes in value.items()
    )
    if not fits:
        raise ConfigError(
            "example_shapes must map inputs to their sizes beyond the rows, integers from 1 to "
            f'{(1 << 31) - 1}, as in {{"x": (3, 640, 640)}}, not {shown(value)}'
        )
    return {name: tuple(sizes) for name, sizes in cast("Mapping[str, tuple[int, ...]]", value).items()}


def checked_origins(value: object, names: Container[str], origins: Sequence[Given]) -> dict[str, Given]:
    if not isinstance(value, Mapping) or not all(
        name in names and origin in origins for name, origin in value.items()
    ):
        listed = " or ".join(f'"{origin}"' for origin in origins)
        raise ConfigError(f"origins must map options to {listed}, not {shown(value)}")
    return dict(value)


def check_timeout(name: str, value: object) -> None:
    """Raises unless a timeout is None or a finite number of seconds that is not negative."""
    if value is None:
        return
    if not is_real(value):
        raise ConfigError(f"{name} must be None or a number of seconds, not {shown(value)}")
    if (
        not 0 <= cast("float", value) < 2**1000
    ):  # compares integers beyond a float's range, too, and is false for NaN and infinity
        raise ConfigError(f"{name} must be a finite number of seconds >= 0, not {shown(value)}")


def checked_file(name: str, value: object, what: str = "file") -> str | None:
    text = os.fsdecode(value) if isinstance(value, (str, bytes, os.PathLike)) else ""
    if value is not None and (not text or "\0" in text):
        raise ConfigError(f"{name} must be the name or the path of a {what}, not {shown(value)}")
    return text or None


def checked_names(name: str, value: object) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(
        isinstance(one, str) and _NAME.fullmatch(one) for one in names
    ):
        raise ConfigError(
            f"{name} must be a name or a list of names (letters, digits, underscores), not {shown(value)}"
        )
    return tuple(names)


def checked_device(value: object) -> str | tuple[str, ...]:
    several = isinstance(value, (list, tuple))
    devices: list[object] = list(value) if isinstance(value, (list, tuple)) else [value]
    named = [device for device in devices if isinstance(device, str) and _DEVICE.fullmatch(device)]
    if not devices or len(named) != len(devices):
        raise ConfigError(f'device must be "cpu", "gpu:0", or a list of such names, not {shown(value)}')
    full = tuple("gpu:0" if device == "gpu" else device for device in named)
    if len(set(full)) != len(full):
        raise ConfigError(f"device names a device twice: {shown(value)}")
    if several and "cpu" in full and len(full) > 1:
        raise ConfigError(f"device cannot mix the CPU with GPUs in one engine: {shown(value)}")
    return full if several else full[0]
