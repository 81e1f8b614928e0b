"""Services with BYTES both ways, as Triton's example models have them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from paddleinfer.serve import Request, Service
from paddleinfer.serve.tensors import Declared

ROW = ("bytes", (-1, 16))


class SimpleString(Service):
    """Triton's ``simple_string``: sums and differences of numbers that are written as texts."""

    inputs: ClassVar[Declared] = {"INPUT0": ROW, "INPUT1": ROW}
    outputs: ClassVar[Declared] = {"OUTPUT0": ROW, "OUTPUT1": ROW}

    def handle(self, request: Request) -> Any:
        first, second = (np.vectorize(int)(request.value[name]) for name in self.inputs)
        return {"OUTPUT0": (first + second).astype(str), "OUTPUT1": (first - second).astype(str)}


class SimpleIdentity(Service):
    """Triton's ``simple_identity``: its input as it is."""

    inputs: ClassVar[Declared] = {"INPUT0": ("bytes", (-1, -1))}
    outputs: ClassVar[Declared] = {"OUTPUT0": ("bytes", (-1, -1))}

    def handle(self, request: Request) -> Any:
        return {"OUTPUT0": request.value["INPUT0"]}


class Backwards(Service):
    """Bytes backwards, and how many there are."""

    inputs: ClassVar[Declared] = {"data": ("bytes", (-1,))}
    outputs: ClassVar[Declared] = {"data": ("bytes", (-1,)), "sizes": ("int64", (-1,))}

    async def handle(self, request: Request) -> Any:
        given = list(request.value["data"])
        return {"data": [one[::-1] for one in given], "sizes": [len(one) for one in given]}


def packed(*elements: bytes) -> bytes:
    """A BYTES tensor in binary, as the protocol's document has it."""
    return b"".join(len(one).to_bytes(4, "little") + one for one in elements)
