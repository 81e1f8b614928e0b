"""What mem_optim changes, measured: it was on in Paddle Serving, whatever was said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paddleinfer.testing.models import ExportedModels

# Sixteen tensors of 16 MiB, one after the other.
TENSOR_BYTES = 16 << 20
STEPS = 16

MEASURE = """
import sys
import numpy as np
from paddleinfer.serving import LocalPredictor

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(field))

with LocalPredictor() as predictor:
    predictor.load_model_config(sys.argv[1], mem_optim=sys.argv[2] == "True")
    row = np.ones((1, int(sys.argv[3])), "float32")
    predictor.predict({predictor.engine.inputs[0].name: row}, batch=True)
    print(resident("VmHWM"))
"""


def steps(x: Any) -> Any:
    import paddle

    for step in range(STEPS):
        x = paddle.concat([x[:, 1:], x[:, :1]], axis=1) * (1.0 + step / 64)
    return x


def peak_bytes(model: Path, mem_optim: bool) -> int:
    command = [sys.executable, "-c", MEASURE, str(model), str(mem_optim), str(TENSOR_BYTES // 4)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


@pytest.mark.paddle3
def test_without_mem_optim_a_run_takes_more_memory(tmp_path: Path) -> None:
    exported = ExportedModels(tmp_path)
    model = exported(steps, {"x": ("float32", (-1, TENSOR_BYTES // 4))}, format="legacy")
    assert peak_bytes(model, False) > peak_bytes(model, True) + 4 * TENSOR_BYTES
