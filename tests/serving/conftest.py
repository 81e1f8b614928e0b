"""The models of Paddle Serving's examples, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving_models import make_fit_a_line


@pytest.fixture(scope="session")
def fit_a_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house -> its price."""
    return make_fit_a_line(tmp_path_factory.mktemp("fit-a-line") / "uci_housing_model")
