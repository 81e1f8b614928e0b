"""The graph of a pipeline's Ops: who gives whom, and in which order."""

from __future__ import annotations

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import listed, shown
from paddleinfer.serving.pipeline.op import Op, RequestOp, ResponseOp, VirtualOp

__all__ = ["Graph"]


class Graph:
    """All Ops between a request and its response.

    Raises
    ------
    ConfigError
        They make no graph from one RequestOp to the ResponseOp; the sentence says why.
    """

    def __init__(self, response_op: ResponseOp) -> None:
        if not isinstance(response_op, ResponseOp):
            raise ConfigError(f"a pipeline ends with a ResponseOp, and not with {shown(response_op)}")
        self.response_op = response_op
        self.ops: list[Op] = []
        """In an order in which each comes after its inputs."""
        self.inputs: dict[str, tuple[str, ...]] = {}
        """Op -> those before it."""
        self.consumers: dict[str, list[Op]] = {}
        """Op, or the request -> those after it."""
        requests: list[RequestOp] = []
        last = _resolved(response_op)
        if len(last) != 1:
            raise ConfigError(f"the ResponseOp must have one Op before it, and has {len(last)}")
        self.last = last[0].name
        """The Op that gives the response."""
        self._add(last[0], requests, [])
        if len(requests) != 1:
            raise ConfigError(f"a pipeline begins with one RequestOp, and this one has {len(requests)}")
        (self.request_op,) = requests
        for op in self.ops:
            for name in self.inputs[op.name]:
                self.consumers.setdefault(name, []).append(op)
        self._check_jumps()
        self.has_jumps = any(op.is_jump_op() for op in self.ops)
        """Whether an Op may run again for the same request."""

    def _add(self, op: Op, requests: list[RequestOp], above: list[Op]) -> None:
        """It, after all before it."""
        if op in above:
            names = listed(one.name for one in [*above[above.index(op) :], op])
            raise ConfigError(f"the Ops go round in a circle ({names}); set_jump_to_ops makes loops")
        if isinstance(op, RequestOp):
            if op not in requests:
                requests.append(op)
            return
        if op in self.ops:
            return
        before = _resolved(op)
        if not before:
            raise ConfigError(f"Op {op.name!r} has no input_ops; the first Op has the RequestOp")
        for one in before:
            self._add(one, requests, [*above, op])
        if op.name in self.inputs:
            raise ConfigError(f"two Ops are named {op.name!r}; each needs a name of its own")
        self.inputs[op.name] = tuple(one.name for one in before)
        self.ops.append(op)

    def _check_jumps(self) -> None:
        for op in self.ops:
            for other in op.get_jump_to_ops():
                if other is not self.request_op and other not in self.ops:
                    raise ConfigError(f"Op {op.name!r} jumps to {other.name!r}, which the pipeline has not")


def _resolved(op: Op) -> list[Op]:
    """The Ops before it, and in the place of virtual ones those before these."""
    found: dict[Op, None] = {}
    waiting, virtual = list(reversed(op.get_input_ops())), set()
    while waiting:
        one = waiting.pop()
        if "given" not in vars(one):
            raise ConfigError(f"{type(one).__name__}.__init__ must call super().__init__(), with its name")
        if not isinstance(one, VirtualOp):
            found[one] = None
        elif one not in virtual:
            virtual.add(one)
            waiting += reversed(one.get_input_ops())
    return list(found)
