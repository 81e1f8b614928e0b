"""Declares what a load of a model offers to the check at load and to warm-ups."""

from __future__ import annotations

from typing import Protocol

from paddleinfer import _ext
from paddleinfer.config import EngineConfig
from paddleinfer.engine.conversion import Converter
from paddleinfer.engine.example_rows import ExampleShapes
from paddleinfer.models.reader import ModelSpec
from paddleinfer.resolved_options import ResolvedOptions

__all__ = ["Loaded"]


class Loaded(Protocol):
    """A model whose instances have started."""

    label: str
    """Its name in messages."""
    spec: ModelSpec
    config: EngineConfig
    resolved: ResolvedOptions
    core: _ext.Core
    converter: Converter
    examples: ExampleShapes
