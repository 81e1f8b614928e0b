"""``OpMaker``, ``OpSeqMaker`` and ``OpGraphMaker``: the graphs of Paddle Serving's C++ server."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import listed, shown

__all__ = ["Node", "OpGraphMaker", "OpMaker", "OpSeqMaker", "Workflow", "check_workflow"]

_READER, _INFER, _RESPONSE = "GeneralReaderOp", "GeneralInferOp", "GeneralResponseOp"
_PIPELINE: Final = "a pipeline of Ops does what it did (paddleinfer.serving.WebService)"
_NOT_OFFERED: Final = {
    "GeneralDetectionOp": _PIPELINE,
    "GeneralRemoteOp": _PIPELINE,
    "GeneralCopyOp": _PIPELINE,
    **dict.fromkeys(("GeneralTextReaderOp", "GeneralTextResponseOp"), "texts are of a service or a pipeline"),
    **dict.fromkeys(
        ("GeneralSingleKVOp", "GeneralDistKVInferOp", "GeneralDistKVOp"), "there is no store of parameters"
    ),
}
_OFFERED: Final = (_READER, _INFER, _RESPONSE)


@dataclass(frozen=True)
class Node:
    """One operator of a graph."""

    name: str
    type: str
    before: tuple[str, ...] = ()
    """The names of those before it, where they were given."""


@dataclass
class Workflow:
    """A graph that is a sequence."""

    nodes: list[Node] = field(default_factory=list)

    def check_models(self, models: int) -> None:
        """Raises ConfigError where it runs another number of models."""
        runs = sum(node.type == _INFER for node in self.nodes)
        if runs != models:
            raise ConfigError(
                f"the sequence has {runs} of {_INFER}, and load_model_config names {models} models"
            )


class OpMaker:
    """Makes operators."""

    def __init__(self) -> None:
        self._numbers: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)

    def create(
        self,
        node_type: str,
        engine_name: str | None = None,
        inputs: Sequence[Node] = (),
        outputs: Sequence[str] = (),
        addresses: Sequence[str] = (),
    ) -> Node:
        """An operator.

        Parameters
        ----------
        node_type
            "GeneralReaderOp", "GeneralInferOp" or "GeneralResponseOp".
        engine_name
            Its name; None makes one.
        inputs
            The operators before it.
        outputs
            Is not used.
        addresses
            Is refused: a pipeline asks other servers.

        Raises
        ------
        ConfigError
            There is no such operator, or it is not offered.
        """
        if node_type in _NOT_OFFERED:
            raise ConfigError(f"the operator {node_type} is not offered: {_NOT_OFFERED[node_type]}")
        if node_type not in _OFFERED:
            raise ConfigError(f"there is no operator {shown(node_type)}; there are {listed(_OFFERED)}")
        if addresses:
            raise ConfigError(f"addresses of {node_type} are not offered: {_PIPELINE}")
        for node in inputs:
            if not isinstance(node, Node):
                raise ConfigError(f"inputs must be operators that create gave, not {shown(node)}")
        name = engine_name or f"{node_type}_{next(self._numbers[node_type])}"
        return Node(name, node_type, tuple(node.name for node in inputs))


class OpSeqMaker:
    """Puts operators one after the other."""

    def __init__(self) -> None:
        self._workflow = Workflow()

    def add_op(self, node: Node) -> None:
        """The next one.

        Raises
        ------
        ConfigError
            Its inputs are others than the one before it.
        """
        nodes = self._workflow.nodes
        last = (nodes[-1].name,) if nodes else ()
        if not isinstance(node, Node):
            raise ConfigError(f"add_op takes an operator that OpMaker.create gave, not {shown(node)}")
        if node.before and node.before != last:
            raise ConfigError(
                f"the operator {node.name} comes after {listed(node.before)}, and {listed(last)} is before it"
            )
        nodes.append(node)

    def get_op_sequence(self) -> Workflow:
        """What ``Server.set_op_sequence`` takes."""
        return self._workflow


class OpGraphMaker(OpSeqMaker):
    """The same: Paddle Serving knew graphs that are sequences alone."""

    def get_op_graph(self) -> Workflow:
        """What ``Server.set_op_graph`` takes."""
        return self._workflow


def check_workflow(given: object) -> Workflow:
    """A sequence of a reader, inferences and a response.

    Raises
    ------
    ConfigError
        It is none.
    """
    if not isinstance(given, Workflow):
        raise ConfigError(f"set_op_sequence takes what OpSeqMaker.get_op_sequence gives, not {shown(given)}")
    kinds = [node.type for node in given.nodes]
    if len(kinds) < len(_OFFERED) or kinds != [_READER, *[_INFER] * (len(kinds) - 2), _RESPONSE]:
        raise ConfigError(f"the sequence must be {_READER}, {_INFER} and {_RESPONSE}, and is {listed(kinds)}")
    if len(kinds) > len(_OFFERED):
        raise ConfigError(f"several models in a sequence are not offered: {_PIPELINE}")
    return given
