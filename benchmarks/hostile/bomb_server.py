"""Runs the server that bench_bombs attacks, with its defaults and one model that returns its input.

``python -m benchmarks.hostile.bomb_server`` serves until a signal, over HTTP and gRPC.
"""

from __future__ import annotations

import sys
from typing import Any

from paddleinfer import Engine
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.server import serve


def echo(inputs: dict[str, Any]) -> dict[str, Any]:
    """The model."""
    return {"y": inputs["x"]}


def main() -> int:
    """Serves, and returns the exit code of the process."""
    options = ServerOptions(host="127.0.0.1", port=0, grpc_port=0, repository_control=True)
    with Engine.from_callable(echo, {"x": ("float32", (-1, -1))}, ["y"], batchable=False) as engine:
        code: int = serve({"m": engine}, options, options.service_options())
    return code


if __name__ == "__main__":
    sys.exit(main())
