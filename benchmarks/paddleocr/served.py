"""PaddleX's server as it comes and on engines, under clients that each ask for one page after the other."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2 as httpx
import numpy as np
from PIL import Image

from benchmarks.harness import Section, interleave, quiet_environment, ratios, spread
from benchmarks.models import directory
from paddleinfer.demo.ocr_pipeline import ocr_pipeline, stock_pipeline
from paddleinfer.demo.text_pages import drawn_pages
from tests.support.free_ports import free_ports

__all__ = ["SERVERS", "section"]

_PATIENCE_S: Final = 120.0
_PAGES: Final = 24
CLIENTS: Final = 8


@dataclass(frozen=True)
class Served:
    """How PaddleX's server is started."""

    module: str
    """Whose command it is."""
    backend: str | None = None
    """What our engines run in; None for Paddle's own predictors."""


STOCK: Final = "paddlex --serve"
SERVERS: Final = {
    STOCK: Served("paddlex"),
    "on engines": Served("paddleinfer.paddlex", "paddle"),
    "on engines, openvino": Served("paddleinfer.paddlex", "openvino"),
}


@contextlib.contextmanager
def _started(served: Served) -> Iterator[str]:
    """Yields the address of a server."""
    with tempfile.TemporaryDirectory() as folder:
        file, (port,) = Path(folder) / "OCR.yaml", free_ports(1)
        models = directory("ppocr_det").parent
        if served.backend is None:
            stock_pipeline(models).export_paddlex_config_to_yaml(file)
        else:
            import paddleinfer.paddlex

            pipeline = ocr_pipeline("paddleinfer", models)
            pipeline.export_paddlex_config_to_yaml(file)
            paddleinfer.paddlex.close(pipeline)
            with file.open("a") as text:  # PaddleOCR does not write it
                text.write(f"engine_config: {{backend: {served.backend}}}\n")
        words = f"--serve --pipeline {file} --host 127.0.0.1 --port {port}".split()
        with open(Path(folder) / "log", "w+") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", served.module, *words],
                env={**quiet_environment(), "PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK": "True"},
                stdout=log,
                stderr=log,
            )
            try:
                _wait_for(f"http://127.0.0.1:{port}/health", server, Path(log.name))
                yield f"http://127.0.0.1:{port}/ocr"
            finally:
                server.terminate()
                server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and server.poll() is None:
        try:
            httpx.get(url).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit(f"the server did not start:\n{log.read_text()[-4000:]}")


def _body(page: np.ndarray[Any, Any]) -> dict[str, Any]:
    """As the client in PaddleOCR's documentation."""
    encoded = io.BytesIO()
    Image.fromarray(page[:, :, ::-1]).save(encoded, "png")
    return {"file": base64.b64encode(encoded.getvalue()).decode("ascii"), "fileType": 1, "visualize": False}


def _ask(client: httpx.Client, url: str, body: dict[str, Any]) -> list[str]:
    response = client.post(url, json=body, timeout=_PATIENCE_S)
    response.raise_for_status()
    (result,) = response.json()["result"]["ocrResults"]
    texts: list[str] = result["prunedResult"]["rec_texts"]
    return texts


@dataclass(frozen=True)
class _Load:
    """What one round of a server gave."""

    rate: float
    seconds: list[float]
    texts: dict[int, list[str]]


def _load(served: Served, bodies: list[dict[str, Any]], seconds: float) -> _Load:
    """Starts the server, asks for two pages, and then from all clients until the time is over."""
    taken: list[float] = []
    texts: dict[int, list[str]] = {}
    with _started(served) as url, httpx.Client() as first:
        for body in bodies[:2]:
            _ask(first, url, body)
        begin = time.perf_counter()

        def client(number: int) -> None:
            with httpx.Client() as own:
                at = number
                while (start := time.perf_counter()) < begin + seconds:
                    texts[at % len(bodies)] = _ask(own, url, bodies[at % len(bodies)])
                    taken.append(time.perf_counter() - start)
                    at += CLIENTS

        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(client, range(CLIENTS)))
        rate = len(taken) / (time.perf_counter() - begin)
    return _Load(rate, taken, texts)


def section(rounds: int, seconds: float) -> Section:
    """Measures the servers in turn; texts are compared with those of the first."""
    bodies = [_body(page) for page in drawn_pages(_PAGES)]
    measured = interleave(
        {name: functools.partial(_load, served, bodies, seconds) for name, served in SERVERS.items()}, rounds
    )
    expected = {at: texts for load in measured[STOCK] for at, texts in load.texts.items()}
    stock = [load.rate for load in measured[STOCK]]
    table = Section(
        f"PaddleX's server, {CLIENTS} clients: requests per second",
        ["server", "requests/s", f"of {STOCK}", "p50 s", "p99 s", "pages with equal texts"],
    )
    for name, loads in measured.items():
        rates = [load.rate for load in loads]
        taken = [one for load in loads for one in load.seconds]
        common = [(load.texts[at], expected[at]) for load in loads for at in load.texts.keys() & expected]
        equal = f"{sum(a == b for a, b in common)} of {len(common)}"
        table.raw |= {f"{name}, requests/s": rates, f"{name}, s": taken}
        table.rows.append(
            [
                *(name, spread(rates), spread(ratios(rates, stock))),
                *(f"{statistics.median(taken):.1f}", f"{np.percentile(taken, 99):.1f}", equal),
            ]
        )
    return table
