"""A server whose model waits, for tests of how it ends: run as a process, with a directory as its argument.

The model says that it runs by a file `running-N`, and waits until there is a file `go`.
"""

from __future__ import annotations

import ast
import itertools
import sys
import time
from pathlib import Path

from paddleinfer import Engine
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.server import serve


def main(directory: Path, **options: float) -> int:
    numbers = itertools.count()

    def wait(inputs: dict[str, object]) -> dict[str, object]:
        (directory / f"running-{next(numbers)}").touch()
        while not (directory / "go").exists():
            time.sleep(0.005)
        return {"y": inputs["x"]}

    server = ServerOptions(host="127.0.0.1", port=0, **options)  # type: ignore[arg-type]
    with Engine.from_callable(
        wait, {"x": ("float32", (-1, 3))}, ["y"], batchable=False, max_queue_rows=1 << 20
    ) as engine:
        code = serve({"m": engine}, server, server.service_options())
        (directory / "go").touch()  # the engine waits for its runs
        return code


if __name__ == "__main__":
    given = {name: ast.literal_eval(value) for name, value in (text.split("=") for text in sys.argv[2:])}
    sys.exit(main(Path(sys.argv[1]), **given))
