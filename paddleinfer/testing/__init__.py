"""Defines what the pytest plugin's fixtures return, for annotations and for tests without pytest.

May import: the engine and everything before it.
"""

from __future__ import annotations

from paddleinfer.testing.assertions import assert_batches, assert_same_alone_and_batched
from paddleinfer.testing.engines import EngineOpener
from paddleinfer.testing.fake_predictor import FakePredictor, PredictorRun
from paddleinfer.testing.models import ExportedModels
from paddleinfer.testing.virtual_engine import VirtualEngine
from paddleinfer.testing.virtual_requests import VirtualBatch, VirtualRequest

__all__ = [
    "EngineOpener",
    "ExportedModels",
    "FakePredictor",
    "PredictorRun",
    "VirtualBatch",
    "VirtualEngine",
    "VirtualRequest",
    "assert_batches",
    "assert_same_alone_and_batched",
]
