"""PaddleX's server on engines answers its documented client, from many connections at once."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from engine_helpers import PATIENCE_S, run_threads
from ocr_pages import encoded
from paddleocr_pipelines import drawn, make, read, stock
from PIL import Image

pytestmark = pytest.mark.paddlex

CLIENTS = 8
PAGES = drawn(4)


@pytest.fixture
def url(tmp_path: Path, free_port: int) -> Iterator[str]:
    make("paddle_static").export_paddlex_config_to_yaml(tmp_path / "OCR.yaml")
    options = f"--serve --pipeline {tmp_path}/OCR.yaml --host 127.0.0.1 --port {free_port}".split()
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen([sys.executable, "-m", "paddleinfer.paddlex", *options], stderr=log)
        url = f"http://127.0.0.1:{free_port}"
        try:
            _wait_for(url, server, tmp_path / "log")
            yield url
        finally:
            server.terminate()
            server.wait(PATIENCE_S)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 2 * PATIENCE_S
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            httpx.get(f"{url}/health").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def ask(url: str, page: Any) -> list[str]:
    """As the client in PaddleOCR's documentation."""
    file = base64.b64encode(encoded(Image.fromarray(page[:, :, ::-1]))).decode("ascii")
    response = httpx.post(f"{url}/ocr", json={"file": file, "fileType": 1}, timeout=PATIENCE_S)
    assert response.status_code == 200, response.text
    (result,) = response.json()["result"]["ocrResults"]
    texts: list[str] = result["prunedResult"]["rec_texts"]
    return texts


def test_many_clients_get_the_texts_of_their_own_pages(url: str) -> None:
    plain = stock()
    expected = [read(plain, page)[0] for page in PAGES]

    def client(number: int) -> None:
        for turn in range(3):
            at = (number + turn) % len(PAGES)
            assert ask(url, PAGES[at]) == expected[at]

    run_threads(CLIENTS, client)
