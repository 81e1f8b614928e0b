"""The models that the loader's tests read, exported once a session, and how a refusal is read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paddleinfer.errors import ModelLoadError
from paddleinfer.models.reader import load_spec

EXPORTER = Path(__file__).with_name("model_files.py")
SUFFIXES = {"json": ".json", "legacy": ".pdmodel"}


class Exports:
    """The exported models of both formats, and Paddle's own account of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.facts = {kind: json.loads((root / kind / "facts.json").read_text()) for kind in SUFFIXES}

    def copy(self, kind: str, model: str, target: Path) -> Path:
        """A copy of a model, for a test to damage."""
        return Path(shutil.copytree(self.root / kind / model, target / model))


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    root = tmp_path_factory.mktemp("exports")
    running = {}
    for kind in SUFFIXES:
        (root / kind).mkdir()
        command = [sys.executable, str(EXPORTER), kind, str(root / kind)]
        running[kind] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=root
        )
    for kind, process in running.items():
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, f"{kind} export failed:\n{output[-4000:]}"
    return Exports(root)


def refusal(path: Any) -> str:
    """The one sentence with which a path is refused."""
    with pytest.raises(ModelLoadError) as caught:
        load_spec(path)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert (
        len(message.replace(os.fspath(path), "") if isinstance(path, (str, os.PathLike)) else message) < 500
    )
    return message
