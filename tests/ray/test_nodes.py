"""Replicas on several nodes, one of which dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from engine_helpers import PATIENCE_S
from zoo import Zoo

SUPPORT = Path(__file__).resolve().parents[1] / "support"


@pytest.mark.ray
def test_a_node_that_dies_takes_no_answer_with_it(zoo: Zoo) -> None:
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "ray_cluster_process.py"), str(zoo.directory("weight-2"))],
        # Else a thread of Serve's router that looks for the dead replica connects again as the cluster ends.
        env={**os.environ, "PYTHONPATH": str(SUPPORT), "RAY_ENABLE_AUTO_CONNECT": "0"},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["nodes"] == 2 and outcome["went_on"]
    assert (outcome["wrong"], outcome["lost"], outcome["answered"]) == (0, 0, outcome["asked"])
