"""What the pytest plugin's fixtures give, by name: for annotations, and for tests without pytest."""

from __future__ import annotations

from paddleinfer.batch_assertions import assert_batches, assert_same_alone_and_batched
from paddleinfer.engine_opener import EngineOpener
from paddleinfer.exported_models import ExportedModels
from paddleinfer.fake_predictor import FakePredictor, PredictorRun
from paddleinfer.virtual_engine import VirtualEngine
from paddleinfer.virtual_requests import VirtualBatch, VirtualRequest

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
