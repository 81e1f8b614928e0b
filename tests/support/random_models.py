"""Small random Paddle models, and whether their rows depend on each other.

Every value inside is a matrix of (rows, 6); operators take one or two and give one. A model is drawn from the
operators that keep the rows apart and, in about half of the seeds, a few that do not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddleinfer.backends.paddle.export import export
from paddleinfer.backends.paddle.installed import import_paddle

paddle: Any = import_paddle()
F = paddle.nn.functional
nn = paddle.nn

WIDTH = 6
Make = Callable[[], Callable[..., Any]]


@dataclass(frozen=True)
class Kind:
    """An operator, or a few."""

    make: Make
    """Makes it, with its weights."""
    mixes: bool = False
    values: int = 1
    legacy: bool = True
    """Whether Paddle 3 still exports it in the legacy format."""


def _simple(function: Callable[..., Any], **more: Any) -> Kind:
    return Kind(lambda: function, **more)


# Paddle frees what a loop begins with, also where it is used again: so that is a copy, used only there.
def _until_large(x: Any) -> Any:
    return paddle.static.nn.while_loop(lambda x: paddle.max(x) < 9, lambda x: [x * 2 + 1], [x * 1])[0]


# This one begins with x itself. Where that is used again, Paddle 3.3 cannot run the model without oneDNN.
def _in_two_turns(x: Any) -> Any:
    count = paddle.zeros([1], "int32")
    return paddle.static.nn.while_loop(
        lambda count, x: count < 2, lambda count, x: [count + 1, F.relu(x * 2)], [count, x]
    )[1]


def _by_its_mean(x: Any) -> Any:
    return paddle.static.nn.cond(paddle.mean(x) > 0, lambda: x * 2, lambda: x - 3)


def _twice_as_much(x: Any) -> Any:
    return x * 2


def _attention(x: Any) -> Any:
    heads = paddle.reshape(x, [-1, 2, 3])
    weights = F.softmax(heads @ paddle.transpose(heads, [0, 2, 1]), -1)
    return paddle.reshape(weights @ heads, [-1, WIDTH])


def _over_rows(x: Any) -> Any:
    return paddle.mm(F.softmax(paddle.mm(x, paddle.transpose(x, [1, 0])), -1), x)


class _Convolution(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2D(1, 1, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return paddle.flatten(self.convolution(paddle.reshape(x, [-1, 1, 2, 3])), 1)


class _Recurrent(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, WIDTH)

    def forward(self, x: Any) -> Any:
        return self.lstm(paddle.reshape(x, [-1, 3, 2]))[0][:, -1]


APART = [
    Kind(lambda: nn.Linear(WIDTH, WIDTH)),
    Kind(lambda: nn.Sequential(nn.Linear(WIDTH, 9), nn.ReLU(), nn.Linear(9, WIDTH))),
    Kind(lambda: nn.LayerNorm(WIDTH)),
    Kind(lambda: nn.BatchNorm1D(WIDTH)),
    Kind(_Convolution),
    Kind(_Recurrent, legacy=False),
    _simple(F.tanh, legacy=False),
    _simple(F.relu),
    _simple(lambda x: F.softmax(x, 1)),
    _simple(lambda x: paddle.cumsum(x, 1)),
    _simple(lambda x: paddle.sort(x, 1)),
    _simple(lambda x: paddle.flip(x, [1])),
    _simple(lambda x: paddle.concat([x[:, 2:], x[:, :2]], 1)),
    _simple(lambda x: x - paddle.mean(x, 1, keepdim=True)),
    _simple(lambda x: x - paddle.max(x, 1, keepdim=True)),
    _simple(lambda x: paddle.reshape(paddle.scale(paddle.reshape(x, [-1, 3]), 0.5), [-1, WIDTH])),
    _simple(lambda x: paddle.transpose(F.relu(paddle.transpose(x, [1, 0])), [1, 0])),
    _simple(lambda x: paddle.gather(x, paddle.assign(np.array([0, 0, 3, 5, 1, 2])), axis=1)),
    _simple(lambda x: F.softmax(paddle.stack([x, x * 2], 0), 0)[1]),
    _simple(lambda x: paddle.tile(paddle.split(x, 2, 1)[0], [1, 2])),
    _simple(lambda x: paddle.chunk(paddle.concat([x, x * 3], 0), 2, 0)[1]),
    _simple(lambda x: paddle.squeeze(paddle.expand(paddle.unsqueeze(x, 1), [-1, 2, -1])[:, :1], 1)),
    _simple(lambda x: paddle.where(x > 0, x, x * 0.1)),
    _simple(lambda x: x + paddle.ones_like(x)),
    _simple(_attention),
    *(_simple(one, values=2) for one in (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - 2 * b)),
    _simple(lambda a, b: paddle.concat([a[:, :3], b[:, 3:]], 1), values=2),
]

MIXING = [
    _simple(one, mixes=True)
    for one in (
        lambda x: F.softmax(x, 0),
        lambda x: x - paddle.mean(x, 0, keepdim=True),
        lambda x: x - paddle.max(x, 0, keepdim=True),
        lambda x: x / (1 + paddle.max(F.relu(x))),
        lambda x: paddle.cumsum(x, 0),
        lambda x: paddle.sort(x, 0),
        lambda x: paddle.flip(x, [0]),
        lambda x: x - x[:1],
        lambda x: x - paddle.gather(x, paddle.zeros([1], "int64")),
        lambda x: paddle.reshape(F.softmax(paddle.reshape(x, [-1, 3]), 0), [-1, WIDTH]),
        lambda x: paddle.transpose(F.softmax(paddle.transpose(x, [1, 0]), 1), [1, 0]),
        _over_rows,
        _until_large,
    )
] + [_simple(_by_its_mean, mixes=True, legacy=False)]

# What gives something else than (rows, 6), and so is an output at once.
ENDS = [
    *map(_simple, (lambda x: paddle.reshape(x, [-1, 2, 3]), lambda x: paddle.mean(x, 1), lambda x: x * 2)),
    *map(_simple, (lambda x: x[:, 1], lambda x: paddle.unsqueeze(x, 2), lambda x: paddle.topk(x, 2, 1)[0])),
]
MIXING_ENDS = [
    _simple(one, mixes=True)
    for one in (
        paddle.mean,
        lambda x: paddle.masked_select(x, x > 0),
        lambda x: paddle.gather_nd(x, paddle.nonzero(x > 0)),
        lambda x: paddle.concat([x, x], 0),
        lambda x: paddle.transpose(x, [1, 0]),
        lambda x: paddle.reshape(x, [-1, 3]),
        lambda x: paddle.unsqueeze(x, 0),
    )
]


class _Model(nn.Layer):  # type: ignore[misc]
    def __init__(self, rng: random.Random, mixes: bool, with_ids: bool, format: str) -> None:
        super().__init__()
        here = [kind for kind in (*APART, *MIXING) if kind.legacy or format == "json"]
        apart, mixing = ([kind for kind in here if kind.mixes is mixing] for mixing in (False, True))
        self.table = nn.Embedding(11, WIDTH) if with_ids else None
        self.mixes = False
        self.plan: list[tuple[Any, tuple[int, ...]]] = []
        mixed = [False] * (2 if with_ids else 1)
        used = [{place} for place in range(len(mixed))]
        steps = rng.randint(2, 6)
        at = rng.randrange(steps + 1) if mixes else -1
        for place in range(steps):
            kind = rng.choice(mixing if place == at else apart)
            # The last values are likelier, so that the model is deep.
            first = len(mixed) - 1 if rng.random() < 0.7 else rng.randrange(len(mixed))
            values = (first, *(rng.randrange(len(mixed)) for _ in range(kind.values - 1)))
            self._add(kind, values)
            mixed.append(kind.mixes or any(mixed[value] for value in values))
            used.append(set().union(*(used[value] for value in values)))
        self.ends: list[tuple[Any, int]] = []
        drawn: list[tuple[Kind, int]] = []
        needed = set(range(len(mixed) - steps))
        for place in range(rng.randint(1, 3)):
            kind = rng.choice(MIXING_ENDS if at == steps and place == 0 else ENDS)
            value = len(mixed) - 1 if place == 0 else rng.randrange(len(mixed))
            if (kind, value) in drawn:  # Paddle makes one of two equal outputs, and then misses the other
                continue
            drawn.append((kind, value))
            self.ends.append((self._held(kind), value))
            self.mixes = self.mixes or kind.mixes or mixed[value]
            needed -= used[value]
        # Paddle exports no input that nothing is made of.
        self.ends.extend((_twice_as_much, value) for value in needed)
        # Drawn last and besides, so that it changes nothing else that a seed gives.
        if format == "json" and rng.random() < 0.1:
            place = rng.randrange(steps)
            step, places = self.plan[place]
            self.plan[place] = (lambda *values: _in_two_turns(step(*values)), places)

    def _held(self, kind: Kind) -> Any:
        made = kind.make()
        if isinstance(made, nn.Layer):
            self.add_sublayer(f"step_{len(self._sub_layers)}", made)
        return made

    def _add(self, kind: Kind, values: tuple[int, ...]) -> None:
        self.plan.append((self._held(kind), values))

    @paddle.jit.not_to_static  # type: ignore[untyped-decorator]
    def results(self, values: list[Any]) -> list[Any]:
        for step, places in self.plan:
            values.append(step(*[values[place] for place in places]))
        return [end(values[place]) for end, place in self.ends]


class _One(_Model):
    def forward(self, x: Any) -> Any:
        return self.results([x])


class _Two(_Model):
    def forward(self, x: Any, ids: Any) -> Any:
        return self.results([x, self.table(ids)])


@dataclass(frozen=True)
class RandomModel:
    """One that has been exported."""

    directory: Path
    mixes: bool
    """Whether an output depends on an operator that mixes rows."""
    with_ids: bool

    def feeds(self, rng: np.random.Generator, rows: int) -> dict[str, np.ndarray]:
        """One request's arrays."""
        feeds = {"x": rng.standard_normal((rows, WIDTH)).astype("float32")}
        if self.with_ids:
            feeds["ids"] = rng.integers(0, 11, rows)
        return feeds


def export_random(seed: int, directory: Path, format: Any) -> RandomModel:
    """Draws the model of a seed, and exports it."""
    rng = random.Random(f"{seed} {format}")
    paddle.seed(seed)
    with_ids = rng.random() < 0.4
    layer = (_Two if with_ids else _One)(rng, rng.random() < 0.45, with_ids, format)
    layer.eval()
    inputs: dict[str, Any] = {"x": ("float32", (-1, WIDTH))}
    if with_ids:
        inputs["ids"] = ("int64", (-1,))
    with paddle.utils.unique_name.guard():
        export(layer, directory, inputs=inputs, format=format)
    return RandomModel(directory, layer.mixes, with_ids)
