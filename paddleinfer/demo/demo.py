"""Does the main job on real input: trains, exports, then classifies from many threads at once.

``python -m paddleinfer.demo`` trains a small convolutional classifier on scikit-learn's handwritten
digits, exports it, and classifies the held-out images through an Engine, one image per request, from
64 threads and from 64 asyncio tasks. For comparison it runs the same load through one Paddle predictor behind
a lock, and through one per thread.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddleinfer.backends.paddle.export import export
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.demo.load import (
    Images,
    Labels,
    Load,
    LockedPredictor,
    Outcome,
    PredictorPerThread,
    Scores,
    Variant,
    drive_tasks,
    drive_threads,
)
from paddleinfer.demo.pictures import callers_text, draw_digits, draw_throughput
from paddleinfer.engine.engine import Engine
from paddleinfer.engine.lifecycle import defer_sigint
from paddleinfer.errors import ConfigError, PaddleInferError

__all__ = ["add_options", "check_options", "main", "missing_packages", "run", "silence"]

ACCURACY_WANTED = 0.97
SEED = 20
EPOCHS = 12
BATCH = 64
INSTALL = 'pip install "paddleinfer[cpu,demo]"'


@dataclass(frozen=True)
class Digits:
    """Images as rows of 1 x 8 x 8 in 0..1, and their labels."""

    train_images: Images
    train_labels: Labels
    held_out_images: Images
    held_out_labels: Labels


def load_digits() -> Digits:
    """Loads scikit-learn's 1,797 digits, and holds out a quarter of each class."""
    images, labels = importlib.import_module("sklearn.datasets").load_digits(return_X_y=True)
    rows = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    split = importlib.import_module("sklearn.model_selection").train_test_split
    train, held_out, train_labels, held_out_labels = split(
        rows, labels.astype(np.int64), test_size=0.25, random_state=SEED, stratify=labels
    )
    return Digits(train, train_labels, held_out, held_out_labels)


def train(paddle: Any, digits: Digits, progress: Any) -> Any:
    """Trains a convolutional classifier for a few seconds with Adam."""
    nn = paddle.nn
    paddle.seed(SEED)
    model = nn.Sequential(
        nn.Conv2D(1, 16, 3, padding=1),
        nn.BatchNorm2D(16),
        nn.ReLU(),
        nn.Conv2D(16, 32, 3, padding=1),
        nn.BatchNorm2D(32),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )
    optimizer = paddle.optimizer.Adam(learning_rate=2e-3, parameters=model.parameters())
    order = np.random.default_rng(SEED)
    task = progress.add_task("training", total=EPOCHS, note="")
    for _ in range(EPOCHS):
        shuffled = order.permutation(len(digits.train_images))
        losses = []
        for start in range(0, len(shuffled), BATCH):
            picked = shuffled[start : start + BATCH]
            scores = model(paddle.to_tensor(digits.train_images[picked]))
            loss = nn.functional.cross_entropy(scores, paddle.to_tensor(digits.train_labels[picked]))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            losses.append(float(loss))
        progress.update(task, advance=1, note=f"loss {np.mean(losses):.3f}")
    return model


def table(outcomes: Sequence[Outcome], callers: int) -> Any:
    """Makes the table of the variants."""
    result = importlib.import_module("rich.table").Table(
        title=f"{callers_text(callers)}, one image per request",
        caption="oneDNN off: with it, predictors that run at once can crash",
    )
    result.add_column("variant")
    for column in ("requests\n/s", "p50\nms", "p99\nms", "slowest\nms", "rows\nper run"):
        result.add_column(column, justify="right")
    for outcome in outcomes:
        variant = outcome.variant.name + (
            f"\n[dim]({outcome.variant.note})[/dim]" if outcome.variant.note else ""
        )
        times = (outcome.p50_ms, outcome.p99_ms, outcome.slowest_ms)
        figures = [f"{outcome.requests_per_second:,.0f}", *(f"{time_ms:.2f}" for time_ms in times)]
        result.add_row(variant, *figures, f"{outcome.rows_per_run:.1f}")
    return result


def summary(outcomes: Sequence[Outcome], accuracy: float) -> list[str]:
    """Sums up the table."""
    ours = [outcome for outcome in outcomes if outcome.variant.engine is not None]
    baselines = [outcome for outcome in outcomes if outcome.variant.engine is None]
    lines = []
    for mine in ours:
        ratios = (
            f"{mine.requests_per_second / baseline.requests_per_second:.1f} times {baseline.variant.name}"
            for baseline in baselines
        )
        lines.append(f"{mine.variant.name}: {', '.join(ratios)}")
    merged = ", ".join(f"{mine.rows_per_run:.1f} ({mine.variant.name})" for mine in ours)
    lines.append(f"mean rows per run: {merged}")
    lines.append(f"accuracy: {accuracy:.2%} of {len(outcomes[0].labels)} held-out images")
    return lines


def differences(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns a sentence for each variant that did not always give the first one's labels."""
    first = outcomes[0]
    found = []
    for outcome in outcomes:
        others = int(np.sum(outcome.labels != first.labels))
        if others:
            found.append(f"{outcome.variant.name} and {first.variant.name} differ on {others} images")
        if outcome.changed:
            found.append(f"{outcome.variant.name} changed its mind about an image {outcome.changed} times")
    return found


def missing_packages() -> str:
    """Returns a sentence about what must be installed first; empty if nothing is missing."""
    needed = {"paddle": "paddlepaddle", "sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich"}
    missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    return f"the demo needs {', '.join(missing)}: {INSTALL}" if missing else ""


def serve(directory: Path, load: Load, progress: Any) -> list[Outcome]:
    """Drives the load through each variant; the engine's come first in the list."""
    # These run before the engine opens and changes process-wide settings, so they show Paddle as it comes.
    locked = LockedPredictor(directory)
    baselines = [drive_threads(locked.VARIANT, locked.scores, load, progress)]
    own = PredictorPerThread(directory, load.callers)
    baselines.append(drive_threads(own.VARIANT, own.scores, load, progress))
    with Engine(directory) as engine:
        output = engine.outputs[0].name

        def scores(rows: Images) -> Scores:
            return engine.infer({"image": rows})[output]

        async def awaited_scores(rows: Images) -> Scores:
            return (await engine.ainfer({"image": rows}))[output]

        return [
            drive_threads(Variant("paddleinfer, threads", engine=engine), scores, load, progress),
            drive_tasks(Variant("paddleinfer, asyncio", engine=engine), awaited_scores, load, progress),
            *baselines,
        ]


@dataclass(frozen=True)
class Report:
    """The results of the demo."""

    callers: int
    accuracy: float
    outcomes: list[Outcome]
    files: tuple[Path, ...]
    broken: list[str]
    """A sentence for each expectation that was not met."""

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data, for JSON."""
        figures = ("requests_per_second", "p50_ms", "p99_ms", "slowest_ms", "rows_per_run")
        return {
            "callers": self.callers,
            "accuracy": self.accuracy,
            "variants": [
                {"variant": outcome.variant.name, **{name: float(getattr(outcome, name)) for name in figures}}
                for outcome in self.outcomes
            ],
            "files": [str(file) for file in self.files],
            "broken_promises": self.broken,
        }


def run(out: Path, callers: int, seconds: float, quiet: bool = False) -> Report:
    """Runs the whole demo. It prints what it finds, or with `quiet` only a bar, on stderr."""
    # Packages that are interrupted while they load break, and claim to be broken themselves.
    with defer_sigint():
        paddle: Any = import_paddle()
        rich_progress: Any = importlib.import_module("rich.progress")
        for module in ("sklearn.datasets", "sklearn.model_selection", "matplotlib.pyplot"):
            importlib.import_module(module)
    console = importlib.import_module("rich.console").Console(stderr=quiet)

    digits = load_digits()
    images = digits.held_out_images
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.percentage:>3.0f}%  {task.fields[note]}"),
    )
    with rich_progress.Progress(*columns, console=console) as progress:
        model = train(paddle, digits, progress)
        format = "json" if int(paddle.__version__.split(".")[0] or 0) >= 3 else "legacy"
        directory = export(model, out / "model", {"image": ("float32", (-1, 1, 8, 8))}, format=format)  # type: ignore[arg-type]
        outcomes = serve(directory, Load(images, callers, seconds), progress)

    labels = outcomes[0].labels
    draw_digits(out / "digits.png", images, digits.held_out_labels, labels)
    draw_throughput(out / "throughput.png", outcomes, callers)
    accuracy = float(np.mean(labels == digits.held_out_labels))
    broken = differences(outcomes)
    files = (directory, out / "digits.png", out / "throughput.png")
    if not quiet:
        console.print(table(outcomes, callers))
        for line in summary(outcomes, accuracy):
            console.print(line, soft_wrap=True, highlight=False)
        if not broken:
            console.print("labels: the same from every variant, for every request")
        console.print(f"files: {'  '.join(str(file) for file in files)}", soft_wrap=True, highlight=False)
    if accuracy < ACCURACY_WANTED:
        broken.append(f"the accuracy is below {ACCURACY_WANTED:.0%}")
    return Report(callers, accuracy, outcomes, files, broken)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the demo's options."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), help="directory for the model and the pictures"
    )
    parser.add_argument("--threads", type=int, default=64, help="number of callers at once, threads or tasks")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of the load for each variant")


def check_options(options: argparse.Namespace) -> None:
    """Raises ConfigError for a load that is not positive, and for a place that is not a directory."""
    if options.threads < 1 or not 0 < options.seconds < float("inf"):
        raise ConfigError("--threads and --seconds must be positive, and finite")
    if options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out must be a directory, which {options.out} is not")


def make_place(out: Path) -> None:
    """Makes the directory before the training, so that this is not in vain; raises ConfigError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be made ({error.strerror})") from None


def silence() -> None:
    """Silences what Paddle and matplotlib print while they start and train."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    warnings.simplefilter("ignore")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo; the exit code is 0 if accuracy and labels are as expected, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m paddleinfer.demo", description=__doc__.split("\n")[0])
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        check_options(options)
    except ConfigError as error:
        parser.error(str(error))
    missing = missing_packages()
    if missing:
        print(missing, file=sys.stderr)
        return 2
    try:
        make_place(options.out)
    except ConfigError as error:
        parser.error(str(error))
    silence()
    try:
        broken = run(options.out, options.threads, options.seconds).broken
    except (PaddleInferError, OSError) as error:
        broken = [f"the demo failed: {error}"]
    except KeyboardInterrupt:
        print("the demo was interrupted", file=sys.stderr)
        return 130
    for sentence in broken:
        print(sentence, file=sys.stderr)
    return 1 if broken else 0
