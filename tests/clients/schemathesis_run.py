"""Holds a real server to its OpenAPI document: requests made up from it, good and bad, by Schemathesis.

    python schemathesis_run.py PATH-OF-SCHEMATHESIS

It runs with the environment that has Paddle; the exit code is 0 when every answer is as documented.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

from zoo import Zoo  # noqa: E402 - found by the line before

START_S = 120.0
KEY = "s3cret"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
    "unsupported_method",
)
# A deadline of a microsecond passes and an unloaded model is not ready: the requests' own doing, no failures.
SETTINGS = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503, 504]
"""


@contextlib.contextmanager
def served(directories: list[Path], *flags: str) -> Iterator[str]:
    """The address of a server of these models."""
    models = [f"--model={directory.name}={directory}" for directory in directories]
    command = [sys.executable, "-m", "paddleinfer.shim", "--host=127.0.0.1", "--port=0", *flags, *models]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    killer = threading.Timer(START_S, process.kill)
    killer.daemon = True  # a test that has ended waits for it no longer
    killer.start()
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if "serves on" in line), None)
        if line is None:
            sys.exit("the server did not start; what it wrote to standard error says why")
        killer.cancel()
        yield line.rsplit(maxsplit=1)[-1]
    finally:
        killer.cancel()
        process.terminate()
        process.wait(START_S)


def schemathesis(program: str, url: str, settings: Path, seconds: int, *flags: str) -> int:
    """Its exit code."""
    command = [
        program,
        f"--config-file={settings}",
        "run",
        f"{url}/openapi.json",
        f"--checks={','.join(CHECKS)}",
        "--phases=examples,coverage,fuzzing",
        f"--max-time={seconds}",
        "--generation-deterministic",
        "--warnings=off",
        f"--header=Authorization: Bearer {KEY}",
        *flags,
    ]
    # It ends by itself; the limit is for one that does not. What it notes stays in the settings' folder.
    return subprocess.run(command, cwd=settings.parent, timeout=4 * seconds, check=False).returncode


def main(program: str) -> int:
    """Both runs take a minute together."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        zoo = Zoo(root)
        models = [zoo.directory(name) for name in ("mlp", "scalar")]
        settings = root / "schemathesis.toml"
        settings.write_text(SETTINGS)
        with served(models, f"--api-key={KEY}") as url:
            # A trace takes as long as it is asked to record.
            codes = [schemathesis(program, url, settings, 35, "--exclude-path=/v2/trace")]
        # Apart, for a model that was unloaded answers nothing but 503.
        with served(models, f"--api-key={KEY}", "--repository-control") as url:
            codes.append(schemathesis(program, url, settings, 10, "--include-path-regex=/v2/repository/"))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(str(Path(sys.argv[1]).absolute())))
