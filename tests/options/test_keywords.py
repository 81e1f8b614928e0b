"""The keywords of Engine(path, **options), which type checkers know, are the fields of the dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
import os
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import paddleinfer
from paddleinfer.backends.onnx.runtime import _IN_FORCE
from paddleinfer.config import (
    OF_PADDLE_ALONE,
    BatchingOptions,
    EngineConfig,
    EngineOptions,
    PadAxis,
    RuntimeOptions,
)
from paddleinfer.config.batching import BatchingKeywords
from paddleinfer.config.runtime import RuntimeKeywords

# Groups of options, and what is no option.
GROUPS = {"runtime", "batching", "origins"}
# Callers may give more than what is kept: any sequence for a tuple, one for several, a path for its text.
WIDER: Mapping[str, Any] = {
    "device": str | Sequence[str],
    "delete_passes": str | Sequence[str],
    "params": str | os.PathLike[str] | None,
    "onnx_cache": str | os.PathLike[str] | None,
    "preferred_batch_sizes": Sequence[int],
    "allowed_batch_sizes": Sequence[int],
    "pad": PadAxis | Sequence[PadAxis],
    "tuning_file": str | os.PathLike[str] | None,
    "verify_inputs": str | os.PathLike[str] | None,
    "example_shapes": Mapping[str, Sequence[int]],
}


@pytest.mark.parametrize(
    ("keywords", "dataclasses_of"),
    [
        (RuntimeKeywords, (RuntimeOptions,)),
        (BatchingKeywords, (BatchingOptions,)),
        (EngineOptions, (RuntimeOptions, BatchingOptions, EngineConfig)),
    ],
)
def test_the_keywords_are_the_fields_in_their_order(keywords: Any, dataclasses_of: tuple[Any, ...]) -> None:
    fields = [field.name for group in dataclasses_of for field in dataclasses.fields(group)]
    wanted = [name for name in fields if name not in GROUPS]
    assert list(keywords.__annotations__) == wanted, f"{keywords.__name__} has the fields, in their order"


def test_a_keyword_takes_what_its_field_takes_or_more() -> None:
    hints = typing.get_type_hints(EngineOptions)
    for group in (RuntimeOptions, BatchingOptions, EngineConfig):
        for name, hint in typing.get_type_hints(group).items():
            if name not in WIDER and name not in GROUPS:
                assert hints[name] == hint, name
    for name, hint in WIDER.items():
        assert hints[name] == hint, name


@pytest.mark.parametrize("opens", [paddleinfer.Engine.__init__, paddleinfer.Engine.from_callable])
def test_every_way_to_open_an_engine_is_typed_by_the_keywords(opens: Any) -> None:
    assert inspect.signature(opens).parameters["options"].annotation == "Unpack[EngineOptions]"


def test_an_option_of_a_runtime_acts_on_paddle_alone_or_on_the_others_too() -> None:
    fields = {field.name for field in dataclasses.fields(RuntimeOptions)}
    assert set(OF_PADDLE_ALONE) | _IN_FORCE == fields and not _IN_FORCE.intersection(OF_PADDLE_ALONE)
