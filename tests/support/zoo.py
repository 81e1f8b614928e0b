"""Small seeded Paddle models for the tests, each exported once a session."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

from paddleinfer.backends.paddle.export import export
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.options.tuning_file import TUNING_FILE_NAME

FORMATS = ("json", "legacy")


class Zoo:
    """Model name and format -> the directory it was exported to.

    With another backend than Paddle each model has a tuning file that names it, which engines follow unless a
    test gives an option of Paddle's own.
    """

    def __init__(self, root: Path, backend: str = "paddle") -> None:
        self._root = root
        self._backend = backend
        self.directory = functools.lru_cache(maxsize=None)(self._export)

    @property
    def formats(self) -> tuple[str, ...]:
        """What the installed Paddle can write and read."""
        return FORMATS if import_paddle().__version__.startswith("3") else ("legacy",)

    def _export(self, name: str, format: str = "json") -> Path:
        """A model of _MODELS, "same-DTYPE", "constant-VALUE", or "weight-VALUE"."""
        paddle = import_paddle()
        paddle.seed(7)
        kind, _, detail = name.partition("-")
        made = {"same": _same, "constant": _constant, "weight": _weight}.get(kind)
        layer, inputs = _MODELS[name](paddle) if made is None else made(paddle, detail)
        target = self._root / f"{name}-{format}"
        with paddle.utils.unique_name.guard():  # names that do not tell what was exported before
            export(layer, target, inputs=inputs, format=format)
        if self._backend != "paddle":
            (target / TUNING_FILE_NAME).write_text(f'[options]\nbackend = "{self._backend}"\n\n[measured]\n')
        return target


def _mlp(paddle: Any) -> tuple[Any, Any]:
    nn = paddle.nn
    layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    return layers, {"x": ("float32", (-1, 16))}


def _wide(paddle: Any) -> tuple[Any, Any]:
    """88 MB of weights."""
    nn = paddle.nn
    sizes = [512, *[2048] * 6]
    layers: list[Any] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(2048, 100)), {"x": ("float32", (-1, 512))}


def _conv(paddle: Any) -> tuple[Any, Any]:
    """Images of any size; the second output has the image's axes."""
    nn = paddle.nn

    class Conv(nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2D(3, 8, 3, padding=1)
            self.norm = nn.BatchNorm2D(8)
            self.second = nn.Conv2D(8, 16, 3, stride=2, padding=1)
            self.head = nn.Linear(16, 5)
            self.relu = nn.ReLU()  # Paddle 2.6 cannot trace a name from around the class

        def forward(self, image: Any) -> Any:
            features = self.relu(self.second(self.relu(self.norm(self.first(image)))))
            return self.head(features.mean([2, 3])), features

    return Conv(), {"image": ("float32", (-1, 3, -1, -1))}


def _embedding(paddle: Any) -> tuple[Any, Any]:
    """Ids below 50; larger ones fail inside Paddle."""
    nn = paddle.nn

    class Embedding(nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(50, 8)

        def forward(self, ids: Any) -> Any:
            return self.table(ids)

    return Embedding(), {"ids": ("int64", (-1, 6))}


def _scalar(paddle: Any) -> tuple[Any, Any]:
    """A batched output, and the mean over the whole batch."""

    class Scalar(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x * 2, x.mean()

    return Scalar(), {"x": ("float32", (-1, 3))}


def _unconvertible(paddle: Any) -> tuple[Any, Any]:
    """An operator that paddle2onnx does not know."""

    class InverseError(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return paddle.erfinv(paddle.tanh(x))

    return InverseError(), {"x": ("float32", (-1, 3))}


def _centred(paddle: Any) -> tuple[Any, Any]:
    """Its input less the mean over the batch."""

    class Centred(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x - x.mean(0, keepdim=True)

    return Centred(), {"x": ("float32", (-1, 3))}


def _joined(paddle: Any) -> tuple[Any, Any]:
    """Twice what is past and what is new, one after the other; of each there may be none."""

    class Joined(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any, past: Any) -> Any:
            return paddle.concat([past, x], axis=1) * 2

    free = ("float32", (-1, -1, 4))
    return Joined(), {"x": free, "past": free}


def _pooled(paddle: Any) -> tuple[Any, Any]:
    """Images of any height, half as high and wide."""
    return paddle.nn.MaxPool2D(2), {"x": ("float32", (-1, 1, -1, 4))}


def _same(paddle: Any, dtype: str) -> tuple[Any, Any]:
    """Its input with one axis more, in any dtype."""

    class Same(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return paddle.reshape(x, [-1, 3, 1])

    return Same(), {"x": (dtype, (-1, 3))}


def _constant(paddle: Any, value: str) -> tuple[Any, Any]:
    """The value in place of each of its inputs."""
    number = float(value)

    class Constant(paddle.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.value = number  # Paddle 2.6 cannot trace a name from around the class

        def forward(self, x: Any) -> Any:
            return x * 0 + self.value

    return Constant(), {"x": ("float32", (-1, 3))}


def _weight(paddle: Any, value: str) -> tuple[Any, Any]:
    """The same as a constant, with the value in 12 bytes of weights."""
    number = float(value)

    class Weight(paddle.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            set_all = paddle.nn.initializer.Constant(number)
            self.weight = self.create_parameter([3], default_initializer=set_all)

        def forward(self, x: Any) -> Any:
            return x * 0 + self.weight

    return Weight(), {"x": ("float32", (-1, 3))}


_MODELS = {
    "mlp": _mlp,
    "wide": _wide,
    "conv": _conv,
    "embedding": _embedding,
    "scalar": _scalar,
    "unconvertible": _unconvertible,
    "centred": _centred,
    "joined": _joined,
    "pooled": _pooled,
}
