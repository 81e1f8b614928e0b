"""Pages of the documentation as their readers follow them: files to write, commands to type."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120
"""For an event that comes on a machine however busy; nothing is measured by it."""


class Page:
    """A page: `files` by the titles of its blocks, `commands` by its prompts, `code` without titles."""

    def __init__(self, path: str) -> None:
        self.text = (ROOT / path).read_text()
        self.files = dict(re.findall(r'```python title="(.*?)"\n(.*?)```', self.text, re.DOTALL))
        self.code = re.findall(r"```python\n(.*?)```", self.text, re.DOTALL)
        consoles = re.findall(r"```console\n(.*?)```", self.text, re.DOTALL)
        self.commands = [line[2:] for block in consoles for line in block.splitlines() if line[:2] == "$ "]


class Reader:
    """Follows a page in a folder of their own, with the commands of this environment."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.folder = folder
        self.page = page
        for name, text in page.files.items():
            (folder / name).write_text(text)

    def run(self, command: str) -> str:
        """What the command prints, which has to succeed."""
        assert command in self.page.commands, f"the page does not say {command!r}"
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=environment(), timeout=PATIENCE_S,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def running(self, command: str, ready: str, port: int | None = None) -> Iterator[str]:
        """The command while it runs, from the line that has `ready` in it; that line.

        `port` stands in the place of the page's own, on which something else may listen.
        """
        assert command in self.page.commands, f"the page does not say {command!r}"
        if port is not None:
            command = re.sub(r"(--port |:)\d{4}\b", rf"\g<1>{port}", command)
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=self.folder, env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        guard = threading.Timer(PATIENCE_S, process.kill)
        guard.start()
        said = []
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said.append(line)
                if ready in line:
                    break
            else:
                pytest.fail("".join(said))
            rest = threading.Thread(target=process.stdout.read)  # or a full pipe would stop it
            rest.start()
            yield line
            process.terminate()
            process.wait(PATIENCE_S)
            rest.join()
        finally:
            guard.cancel()
            process.kill()
            process.wait()
            process.stdout.close()


def environment() -> dict[str, str]:
    """Ours, with this interpreter's commands first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader of the tutorial who has trained."""
    reader = Reader(Page("docs/tutorial.md"), tmp_path_factory.mktemp("tutorial"))
    reader.run("python train.py")
    return reader.folder


@pytest.fixture
def reader(request: pytest.FixtureRequest, trained: Path, tmp_path: Path) -> Reader:
    """Of the page that the test's mark ``reads`` names, with the tutorial's model and data."""
    page = Page(request.node.get_closest_marker("reads").args[0])
    shutil.copytree(trained / "digits", tmp_path / "digits")
    shutil.copy(trained / "held_out.npz", tmp_path)
    return Reader(page, tmp_path)
