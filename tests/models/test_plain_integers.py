"""Which inputs of integers a program only computes with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddleinfer.backends.paddle.export import export
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.models.graph import Block, Graph, Operation, Output, TensorType
from paddleinfer.models.plain_integers import plain_integers
from paddleinfer.models.reader import load_spec

paddle: Any = import_paddle()

NUMBERS = {"n": ("int64", (-1, 4))}
# Paddle 3 has lost the legacy export of some operators.
JSON, BOTH = ("json",), ("json", "legacy")
TWO = {"n": ("int64", (-1, 4)), "m": ("int32", (-1, 4))}


def _moved(n: Any) -> Any:
    return paddle.concat([n.reshape([-1, 2, 2]).transpose([0, 2, 1]), n.unsqueeze(1).reshape([-1, 2, 2])], 1)


def _table(n: Any) -> Any:
    return paddle.gather(paddle.arange(8), (n + 1).reshape([-1]))


def _of_the_rows(n: Any) -> Any:
    return paddle.expand(n[:, :1], [-1, 4]) + paddle.shape(n)[0].astype("int64")


@pytest.mark.paddle3
@pytest.mark.parametrize(
    ("function", "inputs", "plain", "formats"),
    [
        (lambda n: n * 2 + 1, NUMBERS, ("n",), BOTH),
        (lambda n: n.sum(axis=1) % 7, NUMBERS, ("n",), JSON),
        (lambda n, m: (n + paddle.cast(m, "int64")) // 3, TWO, ("n", "m"), BOTH),
        (lambda n: paddle.cast(n, "float32") * 2.0, NUMBERS, (), BOTH),  # gives only floats
        (_moved, NUMBERS, ("n",), BOTH),
        (_table, NUMBERS, (), JSON),
        (lambda n, m: paddle.take_along_axis(n, paddle.cast(m, "int64"), axis=1), TWO, (), BOTH),
        (_of_the_rows, NUMBERS, ("n",), BOTH),
        (lambda n: paddle.nn.functional.one_hot(n, 5).argmax(-1), NUMBERS, (), JSON),
        (lambda n: n << 2, NUMBERS, (), BOTH),
    ],
)
def test_an_input_is_plain_unless_it_picks_an_element_or_is_a_size(
    tmp_path: Path, function: Callable[..., Any], inputs: Any, plain: Any, formats: Any
) -> None:
    for format in formats:
        spec = load_spec(export(function, tmp_path / format, inputs, format=format))
        assert set(spec.plain_integers) == set(plain)


def test_an_unknown_operator_and_a_loop_make_an_input_other_than_plain() -> None:
    kind = TensorType((-1, 4), False)
    n, m = Output("n", (kind,)), Output("m", (kind,))

    def graph(operation: Operation) -> Graph:
        return Graph(Block((operation,)), {}, (n, m), (("y", "y"),))

    def operation(kind_of: str, *blocks: Block) -> Operation:
        return Operation(kind_of, kind_of, {"x": ("n",)}, {}, (Output("y", (kind,)),), blocks)

    assert plain_integers(lambda: graph(operation("add"))) == {0, 1}
    assert plain_integers(lambda: graph(operation("an_own_operator"))) == {1}
    assert plain_integers(lambda: graph(operation("add", Block(())))) == {1}


def test_a_program_that_cannot_be_followed_has_none() -> None:
    def unreadable() -> Graph:
        raise ValueError("an attribute of a kind that does not exist")

    assert plain_integers(unreadable) == frozenset()


def test_what_a_block_takes_from_outside_is_not_plain() -> None:
    kind = TensorType((-1, 4), False)
    n, y = Output("n", (kind,)), Output("y", (kind,))
    inside = Operation("gather", "gather", {"x": ("table",), "index": ("twice",)}, {}, (y,))
    twice = Operation("add", "add", {"x": ("n",), "y": ("n",)}, {}, (Output("twice", (kind,)),))
    branch = Operation("if", "if", {"cond": ("yes",)}, {}, (y,), (Block((inside,)),))
    assert plain_integers(lambda: Graph(Block((twice,)), {}, (n,), (("twice", "twice"),))) == {0}
    assert plain_integers(lambda: Graph(Block((twice, branch)), {}, (n,), (("y", "y"),))) == set()


def test_a_program_of_many_inputs_and_operators_is_read_once() -> None:
    kind = TensorType((-1, 4), False)
    inputs = [Output(number, (kind,)) for number in range(30_000)]
    read: list[int] = []

    class Counted(Operation):
        def __getattribute__(self, name: str) -> Any:
            if name == "arguments":
                read.append(1)
            return super().__getattribute__(name)

    operations = [Counted("add", "add", {"x": (one.key,)}, {}, (Output(-1, (kind,)),)) for one in inputs]
    graph = Graph(Block(tuple(operations)), {}, tuple(inputs), (("y", -1),))
    assert len(plain_integers(lambda: graph)) == len(inputs)
    assert len(read) <= 2 * len(inputs)
