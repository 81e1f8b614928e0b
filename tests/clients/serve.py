"""A server whose model waits; run in Paddle's environment, and needs no model files.

``held`` gives its input back once ``release`` was asked with the same value. It runs one request at a time.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from paddleinfer import Engine
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.server import serve

# Longer than anything here takes: reaching it is a failure.
PATIENCE_S = 300.0

Arrays = dict[str, Any]


class Holder:
    """The model and its key."""

    def __init__(self) -> None:
        self._released: set[float] = set()
        self._changed = threading.Condition()

    def hold(self, inputs: Arrays) -> Arrays:
        value = float(inputs["x"][0, 0])
        with self._changed:
            if not self._changed.wait_for(lambda: value in self._released, PATIENCE_S):
                raise RuntimeError(f"nobody released {value}")
        return {"y": inputs["x"]}

    def release(self, inputs: Arrays) -> Arrays:
        with self._changed:
            self._released.add(float(inputs["x"][0, 0]))
            self._changed.notify_all()
        return {"y": inputs["x"]}


def main() -> int:
    holder = Holder()
    x = {"x": ("float32", (1, 1))}
    # Eager: it does not learn from held runs that a deadline cannot be met.
    with (
        Engine.from_callable(holder.hold, x, {"y": ("float32", (1, 1))}, policy="eager") as held,
        Engine.from_callable(holder.release, x, {"y": ("float32", (1, 1))}, policy="eager") as release,
    ):
        options = ServerOptions(host="127.0.0.1", port=0, grpc_port=0)
        return serve({"held": held, "release": release}, options, options.service_options())


if __name__ == "__main__":
    sys.exit(main())
