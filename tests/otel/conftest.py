"""What the tests of spans share."""

from __future__ import annotations

import pytest
from otel_helpers import Recorded, global_recorded


@pytest.fixture
def recorded() -> Recorded:
    """What the global provider is told during the test."""
    return global_recorded()
