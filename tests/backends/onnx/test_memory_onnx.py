"""What the weights of a model cost in other runtimes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from zoo import Zoo

from paddleinfer import Engine

pytestmark = [pytest.mark.paddle3, pytest.mark.onnx]

WEIGHT_BYTES = 88 << 20
# OpenVINO keeps them as they were read, and in the order that its kernels want.
COPIES = {"onnxruntime": 1, "openvino": 2}


def test_weights_do_not_count_for_each_instance_and_go_at_the_close(
    zoo: Zoo, opened: Callable[..., Engine], backend: str, folder: Path
) -> None:
    code = (
        "import sys, numpy as np; from paddleinfer import Engine\n"
        "from paddleinfer.backends.processors import resident_memory_bytes as resident\n"
        "options = {'backend': sys.argv[3], 'onnx_cache': sys.argv[2], 'inline': False}\n"
        "before = resident()\n"
        "with Engine(sys.argv[1], instances=4, **options) as engine:\n"
        "    engine.warmup(batch_sizes=[1])\n"
        "    opened = resident() - before\n"
        "print(opened, resident() - before)"
    )
    model = zoo.directory("wide", "json")
    opened(model, check=False).close()
    done = subprocess.run(
        [sys.executable, "-c", code, model, folder, backend], capture_output=True, text=True, check=True
    )
    loaded, closed = map(int, done.stdout.split())
    copies = COPIES[backend]
    assert WEIGHT_BYTES * 0.9 * copies < loaded < WEIGHT_BYTES * (copies + 0.7)
    assert closed < WEIGHT_BYTES * 0.7
