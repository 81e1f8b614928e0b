"""What mem_optim and ir_optim change, measured: in Paddle Serving they were on, whatever was said."""

from __future__ import annotations

import os
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


RUN = """
import sys
import numpy as np
from paddleinfer.serving import LocalPredictor

with LocalPredictor() as predictor:
    predictor.load_model_config(sys.argv[1], ir_optim=sys.argv[2] == "True", use_mkldnn=True)
    predictor.predict({predictor.engine.inputs[0].name: np.ones((1, 3, 16, 16), "float32")}, batch=True)
"""


def convolution(x: Any) -> Any:
    import paddle

    return paddle.nn.functional.relu(paddle.nn.functional.conv2d(x, paddle.ones((4, 3, 3, 3))))


def kernels_run(model: Path, ir_optim: bool) -> list[str]:
    """The kernels of oneDNN that ran, each in a line of oneDNN's own."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(model), str(ir_optim)],
        env={**os.environ, "ONEDNN_VERBOSE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        line for line in done.stdout.splitlines() if line.startswith("onednn_verbose") and ",exec," in line
    ]


@pytest.mark.paddle3
def test_with_ir_optim_a_legacy_model_runs_fused_kernels_of_onednn(tmp_path: Path) -> None:
    exported = ExportedModels(tmp_path)
    model = exported(convolution, {"x": ("float32", (-1, 3, 16, 16))}, format="legacy")
    assert kernels_run(model, False) == []
    kernels = [line for line in kernels_run(model, True) if "convolution" in line]
    assert kernels and all("eltwise_relu" in line for line in kernels)
