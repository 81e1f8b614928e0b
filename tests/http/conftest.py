"""Models for the tests of loads on demand."""

from __future__ import annotations

from pathlib import Path

import pytest
from on_demand_helpers import copied, size_of
from zoo import Zoo


@pytest.fixture(scope="module")
def equal_models(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of models 1 to 4, of one size, for a module to change."""
    return copied(zoo, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def size(equal_models: Path) -> int:
    """What each of them takes, in bytes."""
    return size_of(equal_models)
