"""Takes the pictures of the server's page in docs/: python tests/support/page_screenshots.py."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from browser import Browser, browsing, served
from engine_helpers import eventually
from page_stand_ins import DIAGNOSIS, recording, standing_in
from starlette.routing import Route
from zoo import Zoo

import paddleinfer
from paddleinfer.shim import create_app
from paddleinfer.shim.http.app import Application

DOCS = Path(__file__).resolve().parents[2] / "docs"
CALLERS = 6
# So that the lines of the last minute have something to show.
TRAFFIC_S = 45.0
# A pause of the whole process makes a poor picture.
ATTEMPTS = 60
RUNNING = 0.3
# The share of the time shown in which a batch is to be seen.
SHARE_RUNNING = """
const canvas = document.querySelector("canvas"), {width, height} = canvas, columns = new Set();
const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
const batch = parseInt(STAGES.batch.slice(1), 16);
for (let at = 0; at < pixels.length; at += 4) {
  if ((pixels[at] << 16) + (pixels[at + 1] << 8) + pixels[at + 2] === batch) columns.add(at / 4 % width);
}
return columns.size / width;
"""


@contextlib.contextmanager
def traffic(url: str, model: str, inputs: list[dict[str, object]]) -> Iterator[None]:
    """Callers that ask again as soon as they are answered, with a pause now and then."""
    ending = threading.Event()
    body = json.dumps({"inputs": inputs}).encode()

    def call(number: int) -> None:
        pause_s = 0.0
        while not ending.wait(pause_s):
            urllib.request.urlopen(f"{url}v2/models/{model}/infer", body).close()
            pause_s = 0.02 if int(time.monotonic() / 5) % 3 < number % 3 else 0.0

    threads = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def with_everything(app: Application) -> Application:
    """With stand-ins for what this server has not itself."""
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    if {"/v2/trace", "/v2/models/{model}/diagnosis"} <= paths:
        return app
    return standing_in(app, recording(), DIAGNOSIS)


def pictures(browser: Browser, url: str) -> None:
    browser.open(url)
    assert browser.shows("Try it", "Diagnosis")
    time.sleep(TRAFFIC_S)
    browser.script("document.activeElement.blur(); scrollTo(0, 0)")
    (DOCS / "server-page.png").write_bytes(browser.screenshot())
    assert any(lively(browser) for _ in range(ATTEMPTS)), "the machine has too much else to do"
    timeline(browser, "server-page-timeline.png")
    browser.phone(390, 844)
    browser.scheme("dark")
    timeline(browser, "server-page-timeline-phone.png")
    browser.script("scrollTo(0, 0)")
    (DOCS / "server-page-phone.png").write_bytes(browser.screenshot())


def lively(browser: Browser) -> bool:
    """Records a second and looks into its middle; whether enough runs there."""
    browser.click("#record")
    assert eventually(lambda: not browser.script("return document.querySelector('#record').disabled"), 10)
    assert browser.shows("Point at a slice")
    browser.script("document.querySelector('canvas').scrollIntoView({block: 'center'})")
    for _ in range(3):
        browser.turn_wheel("canvas", -400)
    time.sleep(0.2)  # a frame
    return float(browser.script(SHARE_RUNNING)) >= RUNNING


def timeline(browser: Browser, name: str) -> None:
    browser.script("document.querySelector('#trace').scrollIntoView()")
    width = "return document.querySelector('canvas').width / devicePixelRatio"
    shown = "return document.querySelector('canvas').clientWidth"
    assert eventually(lambda: browser.script(width) == browser.script(shown), 10)
    time.sleep(1.5)  # a frame more, and one look
    (DOCS / name).write_bytes(browser.screenshot())


def main() -> None:
    tensor: dict[str, object] = {"name": "x", "shape": [1, 16], "datatype": "FP32", "data": [0.5] * 16}
    with tempfile.TemporaryDirectory() as directory:
        zoo = Zoo(Path(directory))
        with (
            paddleinfer.Engine(zoo.directory("mlp")) as classifier,
            browsing() as browser,
            served(with_everything(create_app({"classifier": classifier}))) as url,
            traffic(url, "classifier", [tensor]),
        ):
            pictures(browser, url)


if __name__ == "__main__":
    main()
