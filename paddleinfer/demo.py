"""The main job on real input: train, export, then classify from many threads at once.

``python -m paddleinfer.demo`` trains a small convolutional classifier on scikit-learn's handwritten
digits, exports it, and classifies the held-out images through an Engine, one image per request, from
64 threads. The same load through one Paddle predictor behind a lock stands beside it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer.engine import Engine
from paddleinfer.errors import PaddleInferError
from paddleinfer.exporting import export
from paddleinfer.installed_paddle import import_paddle

__all__ = ["main"]

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

ACCURACY_WANTED = 0.97
SEED = 20
EPOCHS = 12
BATCH = 64
INSTALL = 'pip install "paddleinfer[cpu,demo]"'


@dataclass(frozen=True)
class Digits:
    """Images as rows of 1 x 8 x 8 in 0..1, and what they show."""

    train_images: Images
    train_labels: Labels
    held_out_images: Images
    held_out_labels: Labels


@dataclass(frozen=True)
class Outcome:
    """What one way of serving did with the load."""

    name: str
    predicted: Labels
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    slowest_ms: float


def load_digits() -> Digits:
    """scikit-learn's 1,797 digits, a quarter of each class held out."""
    images, labels = importlib.import_module("sklearn.datasets").load_digits(return_X_y=True)
    rows = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    split = importlib.import_module("sklearn.model_selection").train_test_split
    train, held_out, train_labels, held_out_labels = split(
        rows, labels.astype(np.int64), test_size=0.25, random_state=SEED, stratify=labels
    )
    return Digits(train, train_labels, held_out, held_out_labels)


def train(paddle: Any, digits: Digits, progress: Any) -> Any:
    """A convolutional classifier after a few seconds of Adam."""
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


class LockedPredictor:
    """What Paddle offers as it comes: one predictor, and a lock because threads may not share it."""

    def __init__(self, directory: Path) -> None:
        inference: Any = importlib.import_module("paddle.inference")
        program = next(path for path in directory.iterdir() if path.suffix in (".json", ".pdmodel"))
        config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
        config.disable_glog_info()
        self._predictor = inference.create_predictor(config)
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])
        self._lock = threading.Lock()

    def scores(self, rows: Images) -> npt.NDArray[Any]:
        """The first output for these rows."""
        with self._lock:
            self._input.reshape(list(rows.shape))
            self._input.copy_from_cpu(rows)
            self._predictor.run()
            result: npt.NDArray[Any] = self._output.copy_to_cpu()
            return result


def drive(
    name: str,
    scores: Callable[[Images], npt.NDArray[Any]],
    images: Images,
    threads: int,
    seconds: float,
    progress: Any,
) -> Outcome:
    """Ask for one image after another from all threads, over and over, at least once each."""
    predicted = np.full(len(images), -1, np.int64)
    latencies: list[list[float]] = [[] for _ in range(threads)]
    failures: list[BaseException] = []
    tickets = itertools.count()
    # Every thread has had an answer before the clock starts: first runs on a thread are slow.
    ready = threading.Barrier(threads + 1)
    ends_at = [0.0]

    def work(mine: list[float]) -> None:
        try:
            scores(images[:1])
            ready.wait()
            ready.wait()
            while not failures:
                ticket = next(tickets)
                begin = time.perf_counter()
                if ticket >= len(images) and begin >= ends_at[0]:
                    return
                index = ticket % len(images)
                answer = scores(images[index : index + 1])
                mine.append(time.perf_counter() - begin)
                predicted[index] = int(np.argmax(answer))
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            failures.append(error)
            ready.abort()

    workers = [threading.Thread(target=work, args=(mine,), daemon=True) for mine in latencies]
    task = progress.add_task(name, total=seconds, note="")
    for worker in workers:
        worker.start()
    try:
        ready.wait()
        begin = time.perf_counter()
        ends_at[0] = begin + seconds
        ready.wait()
    except threading.BrokenBarrierError:
        raise failures[0] from None
    while any(worker.is_alive() for worker in workers):
        time.sleep(0.05)
        done = sum(len(mine) for mine in latencies)
        progress.update(task, completed=min(time.perf_counter() - begin, seconds), note=f"{done:,} answers")
    elapsed = time.perf_counter() - begin
    if failures:
        raise failures[0]
    progress.update(task, completed=seconds)
    taken = np.concatenate([np.asarray(mine) for mine in latencies]) * 1e3
    p50, p99, slowest = (float(value) for value in np.percentile(taken, [50, 99, 100]))
    return Outcome(name, predicted, len(taken) / elapsed, p50, p99, slowest)


def draw(path: Path, images: Images, labels: Labels, predicted: Labels) -> None:
    """Mistakes first, in red with what was right, then the first of the rest."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    wrong = predicted != labels
    shown = np.argsort(~wrong, kind="stable")[:40]
    figure, axes = pyplot.subplots(5, 8, figsize=(8, 6))
    for axis, index in zip(axes.flat, shown, strict=True):
        axis.imshow(images[index, 0], cmap="gray_r", interpolation="nearest")
        right = f" (is {labels[index]})" if wrong[index] else ""
        axis.set_title(f"{predicted[index]}{right}", fontsize=10, color="red" if wrong[index] else "black")
        axis.axis("off")
    figure.suptitle(f"Held-out digits and their predicted labels: {wrong.sum()} of {len(labels)} wrong")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def table(outcomes: Sequence[Outcome], threads: int) -> Any:
    """The ways side by side."""
    result = importlib.import_module("rich.table").Table(title=f"{threads} threads, one image per request")
    result.add_column("way")
    for column in ("requests/s", "p50 ms", "p99 ms", "slowest ms"):
        result.add_column(column, justify="right")
    for outcome in outcomes:
        times = (outcome.p50_ms, outcome.p99_ms, outcome.slowest_ms)
        figures = [f"{outcome.requests_per_second:,.0f}", *(f"{time_ms:.2f}" for time_ms in times)]
        result.add_row(outcome.name, *figures)
    return result


def _missing_packages() -> list[str]:
    needed = {"paddle": "paddlepaddle", "sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich"}
    return [package for module, package in needed.items() if importlib.util.find_spec(module) is None]


def run(out: Path, threads: int, seconds: float) -> float:
    """The whole job; returns the accuracy."""
    paddle: Any = import_paddle()
    rich_progress: Any = importlib.import_module("rich.progress")
    console = importlib.import_module("rich.console").Console()

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
        # Before the engine, which changes process-wide settings: this one is Paddle as it comes.
        locked = LockedPredictor(directory)
        with Engine(directory) as engine:
            output = engine.outputs[0].name

            def through_engine(rows: Images) -> npt.NDArray[Any]:
                return engine.infer(rows)[output]

            ours = drive("paddleinfer Engine", through_engine, images, threads, seconds, progress)
        theirs = drive("Paddle predictor + lock", locked.scores, images, threads, seconds, progress)

    picture = out / "digits.png"
    draw(picture, images, digits.held_out_labels, ours.predicted)
    accuracy = float(np.mean(ours.predicted == digits.held_out_labels))
    console.print(table([ours, theirs], threads))
    ratio = ours.requests_per_second / theirs.requests_per_second
    console.print(f"throughput: {ratio:.1f} times the locked predictor's")
    console.print(f"accuracy: {accuracy:.2%} of {len(images)} held-out images")
    console.print(f"model: {directory}   picture: {picture}", soft_wrap=True)
    return accuracy


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code is 0 when the accuracy is as good as promised."""
    parser = argparse.ArgumentParser(prog="python -m paddleinfer.demo", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), help="where the model and the picture go"
    )
    parser.add_argument("--threads", type=int, default=64, help="callers at the same time")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each way is driven")
    options = parser.parse_args(arguments)
    if options.threads < 1 or not options.seconds > 0:
        parser.error("--threads and --seconds must be positive")
    missing = _missing_packages()
    if missing:
        print(f"the demo needs {', '.join(missing)}: {INSTALL}", file=sys.stderr)
        return 2
    # What Paddle and matplotlib say while they start and train is not what the demo is about.
    os.environ.setdefault("GLOG_minloglevel", "2")
    warnings.simplefilter("ignore")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        accuracy = run(options.out, options.threads, options.seconds)
    except PaddleInferError as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    if accuracy < ACCURACY_WANTED:
        print(f"the accuracy is below {ACCURACY_WANTED:.0%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
