"""Provides the models of the benchmarks: seeded ones, exported once into ``.cache/``, and PaddleOCR's.

``python -m benchmarks.models`` builds missing ones; the benchmarks also do so themselves.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks import harness
from tests.support.real_pictures import CLS_WIDTH, line, page

_CACHE = Path(__file__).resolve().parent / ".cache"
SEED = 3
_REAL = harness.REPOSITORY / "build" / "real-models"


@dataclass(frozen=True)
class BenchModel:
    """One model: its inputs, and how it is made."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """The shape of one row; -1 is exported as such and fed as `fed`."""
    fed: tuple[int, ...]
    batches: tuple[int, ...]
    """The batch sizes of the comparison table."""
    build: Callable[[Any], Any] | None
    """Makes the network; None for a model that is fetched."""

    def feed(self, batch: int, seed: int = SEED) -> dict[str, np.ndarray[Any, Any]]:
        """Makes seeded input of `batch` rows."""
        random = np.random.default_rng(seed)
        shape = (batch, *self.fed)
        if self.dtype == "int64":
            return {"x": random.integers(0, _VOCABULARY, shape, dtype=np.int64)}
        return {"x": random.standard_normal(shape, dtype=np.float32)}

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The inputs, as export() takes them."""
        return {"x": (self.dtype, (-1, *self.shape))}


@dataclass(frozen=True)
class RealModel(BenchModel):
    """A model of PaddleOCR, as people download it; PP-OCRv4 has the legacy format, PP-OCRv5 the other."""

    draw: Callable[[int], np.ndarray[Any, Any]]
    """Makes one row from a seed."""
    real: dict[str, str]
    """Format -> the model's directory."""

    def feed(self, batch: int, seed: int = SEED) -> dict[str, np.ndarray[Any, Any]]:
        """Makes pictures of text."""
        return {"x": np.concatenate([self.draw(seed + row) for row in range(batch)])}


@dataclass(frozen=True)
class FurtherModel:
    """A model that one benchmark feeds in its own way, exported as .json only."""

    name: str
    inputs: dict[str, tuple[str, tuple[int, ...]]]
    build: Callable[[Any], Any]


def _mlp(*widths: int) -> Callable[[Any], Any]:
    def build(paddle: Any) -> Any:
        layers = []
        for before, after in itertools.pairwise(widths):
            layers += [paddle.nn.Linear(before, after), paddle.nn.ReLU()]
        return paddle.nn.Sequential(*layers[:-1])

    return build


def _mobilenet(paddle: Any) -> Any:
    model = paddle.vision.models.mobilenet_v2()
    # With batch norm's initial statistics the activations would fall to 1e-14.
    random = np.random.default_rng(SEED)
    model.train()
    for _ in range(20):
        model(paddle.to_tensor(random.standard_normal((4, 3, 128, 128), dtype=np.float32)))
    return model


_VOCABULARY, _WIDTH, _HEADS, _LAYERS = 1000, 128, 4, 2
# The number of the embedding's ids; larger ones fail inside Paddle.
EMBEDDED = 50


def _block(paddle: Any) -> Any:
    nn = paddle.nn

    class Block(nn.Layer):  # type: ignore[misc, name-defined]
        # paddle.nn's own attention calls paddle.matmul, which Paddle 3.3.1 cannot export as legacy.
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value, self.out = (nn.Linear(_WIDTH, _WIDTH) for _ in range(4))
            self.before, self.after = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
            self.wide, self.narrow = nn.Linear(_WIDTH, 4 * _WIDTH), nn.Linear(4 * _WIDTH, _WIDTH)

        def heads(self, x: Any) -> Any:
            return x.reshape([0, 0, _HEADS, _WIDTH // _HEADS]).transpose([0, 2, 1, 3])

        def forward(self, x: Any, bias: Any = None) -> Any:
            normed = self.before(x)
            query, key, value = (self.heads(part(normed)) for part in (self.query, self.key, self.value))
            scores = query @ key.transpose([0, 1, 3, 2]) * (_WIDTH // _HEADS) ** -0.5
            weights = nn.functional.softmax(scores if bias is None else scores + bias)
            x = x + self.out((weights @ value).transpose([0, 2, 1, 3]).reshape([0, 0, _WIDTH]))
            return x + self.narrow(nn.functional.relu(self.wide(self.after(x))))

    return Block


def _transformer(paddle: Any) -> Any:
    nn, block = paddle.nn, _block(paddle)

    class Encoder(nn.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(_VOCABULARY, _WIDTH)
            self.blocks = nn.Sequential(*(block() for _ in range(_LAYERS)))
            self.head = nn.Linear(_WIDTH, 16)

        def forward(self, x: Any) -> Any:
            return self.head(self.blocks(self.embedding(x)).mean(axis=1))

    return Encoder()


def _masked_transformer(paddle: Any) -> Any:
    """The same over sequences of any length, where masked tokens are not keys; per token, and pooled."""
    nn, block = paddle.nn, _block(paddle)

    class Encoder(nn.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(_VOCABULARY, _WIDTH)
            self.blocks = nn.LayerList([block() for _ in range(_LAYERS)])
            self.of_token, self.of_all = nn.Linear(_WIDTH, 16), nn.Linear(_WIDTH, 16)

        def forward(self, ids: Any, mask: Any) -> Any:
            x, bias = self.embedding(ids), ((mask - 1) * 1e9).reshape([0, 1, 1, -1])
            for one in self.blocks:
                x = one(x, bias)
            kept = mask.unsqueeze(-1)
            return self.of_token(x), self.of_all((x * kept).sum(axis=1) / kept.sum(axis=1))

    return Encoder()


def _doubled(paddle: Any) -> Any:
    class Doubled(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x * 2

    return Doubled()


def _largest(paddle: Any) -> Any:
    class Largest(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x.max(axis=1, keepdim=True)

    return Largest()


def _embedding(paddle: Any) -> Any:
    return paddle.nn.Sequential(paddle.nn.Embedding(EMBEDDED, 8))


MODELS = {
    model.name: model
    for model in (
        BenchModel("mlp", "float32", (128,), (128,), (1, 32), _mlp(128, 256, 10)),
        BenchModel("wide_mlp", "float32", (512,), (512,), (1, 32), _mlp(512, *[2048] * 6, 100)),
        BenchModel("mobilenet_v2", "float32", (3, -1, -1), (3, 224, 224), (1, 4), _mobilenet),
        BenchModel("transformer", "int64", (-1,), (32,), (1, 8), _transformer),
        RealModel(
            "ppocr_det",
            "float32",
            (3, -1, -1),
            (3, 640, 640),
            (1, 2),
            None,
            lambda seed: page(640, 640, seed),
            {"json": "PP-OCRv5_mobile_det", "legacy": "ch_PP-OCRv4_det_infer"},
        ),
        RealModel(
            "ppocr_rec",
            "float32",
            (3, 48, -1),
            (3, 48, 320),
            (1, 6),
            None,
            lambda seed: line(320, seed),
            {"json": "PP-OCRv5_mobile_rec", "legacy": "ch_PP-OCRv4_rec_infer"},
        ),
    )
}

FURTHER: dict[str, BenchModel | FurtherModel] = {
    model.name: model
    for model in (
        RealModel(
            "ppocr_cls",
            "float32",
            (3, 48, 192),
            (3, 48, 192),
            (1, 6),
            None,
            lambda seed: line(CLS_WIDTH, seed),
            {"legacy": "ch_ppocr_mobile_v2_cls_infer"},
        ),
        FurtherModel(
            "masked_transformer",
            {"ids": ("int64", (-1, -1)), "mask": ("float32", (-1, -1))},
            _masked_transformer,
        ),
        FurtherModel("embedding", {"ids": ("int64", (-1, 6))}, _embedding),
        FurtherModel("doubled", {"x": ("float32", (-1, -1))}, _doubled),
        FurtherModel("largest", {"x": ("float32", (-1, -1))}, _largest),
    )
}
_ALL: dict[str, BenchModel | FurtherModel] = {**MODELS, **FURTHER}


def directory(name: str, format: str = "json") -> Path:
    """Returns the model's directory; a missing model is fetched, or built in a process of its own."""
    place = _place(name, format)
    if not place.exists():
        if isinstance(_ALL[name], RealModel):
            script = harness.REPOSITORY / "tests/support/fetch_real_models.py"
            subprocess.run([sys.executable, str(script), str(_REAL)], check=True)
        else:
            harness.child("models", "--only", name)
    return place


def program_of(directory: Path) -> Path:
    """Returns the program in a model's directory, which may hold other files, too."""
    files = [directory / f"inference{suffix}" for suffix in (".json", ".pdmodel")]
    return next(file for file in files if file.exists())


def _formats(name: str) -> tuple[Literal["json", "legacy"], ...]:
    # Paddle 3.3.1 cannot export every operator as legacy.
    return ("json", "legacy") if name in MODELS else ("json",)


def _place(name: str, format: str) -> Path:
    model = _ALL[name]
    if isinstance(model, RealModel) and format in model.real:
        return _REAL / model.real[format]
    return _CACHE / f"paddle-{importlib.metadata.version('paddlepaddle')}" / name / format


def onnx_file(name: str) -> Path | None:
    """Returns the same model for onnxruntime, converted if missing; None without paddle2onnx."""
    if importlib.util.find_spec("paddle2onnx") is None:
        return None
    place = _place(name, "onnx") / "model.onnx"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        source = ["--model_dir", str(directory(name)), "--model_filename", "inference.json"]
        target = ["--params_filename", "inference.pdiparams", "--save_file", str(place)]
        subprocess.run(
            [sys.executable, "-m", "paddle2onnx.command", *source, *target], check=True, capture_output=True
        )
    return place


def build(name: str) -> None:
    """Exports the model in its formats, with the same weights."""
    import paddle

    from paddleinfer.backends.paddle.export import export

    model = _ALL[name]
    assert model.build is not None
    paddle.seed(SEED)
    layer = model.build(paddle)
    for format in _formats(name):
        export(layer, _place(name, format), model.inputs, format=format)


def main() -> None:
    """Builds missing models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    built = [name for name, model in _ALL.items() if model.build is not None]
    parser.add_argument("--only", choices=built, help="build this one, even if it is there")
    only = parser.parse_args().only
    stream = harness.answers()
    for name in [only] if only else built:
        if only or not _place(name, _formats(name)[-1]).exists():
            build(name)
    json.dump("built", stream)
    stream.close()


if __name__ == "__main__":
    main()
