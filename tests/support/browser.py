"""A headless Chromium, and a server for it. chromedriver speaks https://www.w3.org/TR/webdriver2/."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import uvicorn
from engine_helpers import PATIENCE_S, eventually
from system_tools import need

from paddleinfer.shim.http.app import Application

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver's key of a reference to an element
# Without /dev/shm and without the rights for its sandbox, as containers are.
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
)


class Browser:
    """One window."""

    def __init__(self, driver_url: str, chromium: str) -> None:
        options = {"binary": chromium, "args": [*_ARGUMENTS, "--window-size=1280,900"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        answer = _call("POST", f"{driver_url}/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"{driver_url}/session/{answer['sessionId']}"

    def _do(self, command: str, **arguments: Any) -> Any:
        return _call("POST", f"{self._session}/{command}", arguments)

    def open(self, url: str) -> None:
        self._do("url", url=url)

    def script(self, code: str) -> Any:
        """What it returns."""
        return self._do("execute/sync", script=code, args=[])

    @property
    def text(self) -> str:
        """What a reader sees."""
        return str(self.script("return document.body.innerText"))

    def shows(self, *texts: str) -> bool:
        """Whether all of them are there, at the latest in a while."""
        return eventually(lambda: all(text in self.text for text in texts), PATIENCE_S)

    def _element(self, css: str) -> str:
        return f"element/{self._do('element', using='css selector', value=css)[_ELEMENT]}"

    def click(self, css: str) -> None:
        self._do(f"{self._element(css)}/click")

    def write(self, css: str, text: str) -> None:
        """Instead of what is in the field."""
        element = self._element(css)
        self._do(f"{element}/clear")
        self._do(f"{element}/value", text=text)

    def turn_wheel(self, css: str, amount: int) -> None:
        """Over the middle of the element; down where it is positive."""
        origin = {_ELEMENT: self._element(css).split("/")[1]}
        turn = {"type": "scroll", "x": 0, "y": 0, "deltaX": 0, "deltaY": amount, "origin": origin}
        self._do("actions", actions=[{"type": "wheel", "id": "wheel", "actions": [turn]}])

    def drag(self, css: str, right: int) -> None:
        """From the middle of the element; 0 is a click."""
        origin = {_ELEMENT: self._element(css).split("/")[1]}
        steps = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerMove", "x": right, "y": 0, "origin": origin, "duration": 50},
            {"type": "pointerUp", "button": 0},
        ]
        self._do("actions", actions=[{"type": "pointer", "id": "mouse", "actions": steps}])

    def touch(self, *moments: list[tuple[float, float]]) -> None:
        """Where the fingers are, moment by moment, until they leave."""
        for number, places in enumerate(moments):
            points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
            kind = "touchMove" if number else "touchStart"
            self.devtools("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.devtools("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def devtools(self, method: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._do("goog/cdp/execute", cmd=method, params=parameters)

    def phone(self, width: int, height: int) -> None:
        """A window of this size, as a phone would show it."""
        size = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": True}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)

    def desktop(self) -> None:
        """The window's own size again."""
        self.devtools("Emulation.clearDeviceMetricsOverride")

    def scheme(self, name: str) -> None:
        """ "light" or "dark"."""
        self.devtools(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}]
        )

    def screenshot(self) -> bytes:
        """A PNG of what the window shows."""
        return base64.b64decode(self.devtools("Page.captureScreenshot", format="png")["data"])

    def complaints(self) -> list[str]:
        """What stood in the console since it was last asked."""
        return [line["message"] for line in self._do("se/log", type="browser")]

    def close(self) -> None:
        _call("DELETE", self._session)


def _call(method: str, url: str, arguments: dict[str, Any] | None = None) -> Any:
    body = None if arguments is None else json.dumps(arguments).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=2 * PATIENCE_S) as response:
            return json.load(response)["value"]
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(json.load(error)["value"]["message"]) from None


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """A browser, where there is one."""
    chromium, driver = need("chromium", "chromium"), need("chromedriver", "chromium-driver")
    process = subprocess.Popen(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "successfully on port" in line)
        browser = Browser(f"http://127.0.0.1:{line.rsplit(maxsplit=1)[-1].rstrip('.')}", chromium)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        process.terminate()
        process.communicate()


@contextlib.contextmanager
def served(app: Application) -> Iterator[str]:
    """The address of a server of this application, on a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="critical", ws="none"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert eventually(lambda: server.started or not thread.is_alive(), PATIENCE_S)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
