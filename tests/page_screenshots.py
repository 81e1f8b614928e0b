"""Takes the pictures of the server's page in docs/: python tests/page_screenshots.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from browser import Browser, browsing, served
from engine_helpers import run_threads
from zoo import Zoo

import paddleinfer
from paddleinfer.shim import create_app

DOCS = Path(__file__).resolve().parent.parent / "docs"
CALLERS = 8
CALLS = 2000


def some_traffic(engine: paddleinfer.Engine, inputs: dict[str, np.ndarray]) -> None:
    def call(_: int) -> None:
        for _ in range(CALLS):
            engine.infer(inputs)

    run_threads(CALLERS, call)


def pictures(browser: Browser, url: str) -> None:
    browser.open(url)
    assert browser.shows("Try it")
    browser.write("textarea", "0.5")
    browser.click("main button")
    assert browser.shows("200, ")
    browser.script("document.activeElement.blur(); scrollTo(0, 0)")
    (DOCS / "server-page.png").write_bytes(browser.screenshot())
    browser.phone(390, 844)
    browser.scheme("dark")
    (DOCS / "server-page-phone.png").write_bytes(browser.screenshot())


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        zoo = Zoo(Path(directory))
        with (
            paddleinfer.Engine(zoo.directory("mlp")) as classifier,
            paddleinfer.Engine(zoo.directory("embedding")) as embedding,
            browsing() as browser,
            served(create_app({"classifier": classifier, "embedding": embedding})) as url,
        ):
            some_traffic(classifier, {"x": np.ones((1, 16), "float32")})
            some_traffic(embedding, {"ids": np.ones((2, 6), "int64")})
            pictures(browser, url)


if __name__ == "__main__":
    main()
