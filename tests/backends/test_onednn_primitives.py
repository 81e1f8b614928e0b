"""How many primitives oneDNN keeps for the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onednn
import pytest
from onednn import capacity, kept
from zoo import Zoo

import paddleinfer

pytest.importorskip("paddle")


def in_a_process(directory: Path, environment: dict[str, str]) -> int:
    """Where an engine was loaded in a process with these variables."""
    program = (
        f"import sys; sys.path.insert(0, {str(Path(onednn.__file__).parent)!r})\n"
        "import paddleinfer, onednn\n"
        f"paddleinfer.Engine({str(directory)!r}, instances=1).close()\n"
        "print(onednn.capacity())\n"
    )
    command = [sys.executable, "-c", program]
    return int(subprocess.check_output(command, env={**os.environ, **environment}).split()[-1])


def test_an_engine_has_onednn_keep_more_primitives_than_its_own_default(zoo: Zoo) -> None:
    with paddleinfer.Engine(zoo.directory("mlp", zoo.formats[0]), instances=1):
        assert capacity() == 4096 + 1024


def test_past_a_limit_primitives_are_dropped_many_at_once(zoo: Zoo) -> None:
    drops, last = 0, 0
    with paddleinfer.Engine(
        zoo.directory("conv", zoo.formats[0]), ir_optim=True, onednn=True, instances=1
    ) as engine:
        for height in range(4, 4 + 60):
            for width in range(4, 4 + 40):
                engine.infer([np.zeros((1, 3, height, width), np.float32)])
                drops += kept() < last - 1000
                last = kept()
                assert last < 4096 + 1024
            if drops:
                break
    assert drops


def test_a_number_of_primitives_that_the_user_has_set_holds(zoo: Zoo) -> None:
    assert in_a_process(zoo.directory("mlp", zoo.formats[0]), {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}) == 7
