"""The server's page: what its headers forbid, and, in a real browser, what it shows and does."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, browsing, served
from engine_helpers import echo_engine, engine_of
from starlette.testclient import TestClient

import paddleinfer
from paddleinfer.shim import ModelSource, ServiceOptions, create_app
from paddleinfer.shim.app import Application
from paddleinfer.shim.models import Models, ServedModel
from paddleinfer.shim.service import Service

HOSTILE = "<img src=x onerror=document.title='broken'>"


def test_the_page_runs_its_own_script_and_style_and_fetches_nothing_from_elsewhere() -> None:
    with engine_of() as engine, TestClient(create_app({"m": engine})) as client:
        response = client.get("/")
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    for element in ("script", "style"):
        (text,) = re.findall(f"<{element}>(.*?)</{element}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[f"{element}-src"] == f"'sha256-{digest}'"
    assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")
    assert "'none'" == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"]
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.findall(r'(?:src|href)="(?!data:|openapi\.json|metrics)', response.text)
    assert "innerHTML" not in response.text and " style=" not in response.text


def test_the_page_needs_no_key_and_holds_nothing_of_the_server() -> None:
    with engine_of() as engine:
        pages = []
        for key in (None, "s3cret"):
            with TestClient(create_app({"m": engine}, ServiceOptions(api_key=key))) as client:
                response = client.get("/")
                assert response.status_code == 200
                pages.append(response.text)
    assert pages[0] == pages[1]


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    """In whose console nothing bad stands at the end."""
    window.complaints()
    yield window
    window.open("about:blank")
    window.desktop()
    for line in window.complaints():
        assert "Security Policy" not in line and "Uncaught" not in line, line


@pytest.mark.system
def test_it_shows_the_server_and_each_model_with_its_tensors(browser: Browser) -> None:
    with (
        engine_of() as one,
        echo_engine("int64", (-1, 2, -1)) as two,
        served(create_app({"one": one, "two": two})) as url,
    ):
        browser.open(url)
        assert browser.shows("one", "FP32", "[-1, 3]", "two", "INT64", "[-1, 2, -1]", "READY")
        assert paddleinfer.__version__ in browser.text
        states = "return [...document.querySelectorAll('h2 + .pill')].map(pill => pill.textContent)"
        assert browser.script(states) == ["READY", "READY"]


@pytest.mark.system
def test_its_form_sends_its_example_and_shows_the_result_and_the_time(browser: Browser) -> None:
    with engine_of() as engine, served(create_app({"m": engine})) as url:
        browser.open(url)
        assert browser.shows("Try it")
        assert browser.script("return document.querySelector('textarea').value") == "[[0, 0, 0]]"
        browser.write("textarea", "[[1, 2, 3.5]]")
        browser.click("main button")
        assert browser.shows("y (FP32 [1, 3])", "[[2, 4, 7]]")
        assert re.search(r"200, \d+\.\d ms", browser.text)
        assert browser.shows("Requests\n1 "), browser.text


@pytest.mark.system
def test_one_number_fills_the_shape_and_whole_numbers_stay_as_they_are(browser: Browser) -> None:
    with echo_engine("int64", (-1, 2)) as engine, served(create_app({"m": engine})) as url:
        browser.open(url)
        assert browser.shows("Try it")
        browser.write("main input", "2, 2")
        browser.write("textarea", str(np.iinfo(np.int64).max))
        browser.click("main button")
        line = f"[{np.iinfo(np.int64).max}, {np.iinfo(np.int64).max}]"
        assert browser.shows(f"[{line},\n {line}]")


@pytest.mark.system
@pytest.mark.parametrize(
    "shape, data, says",
    [
        ("1, 4", "0", "400"),
        ("1, 3", "[[1, 2", "The data of x is not JSON"),
        ("1, x", "0", "The shape of x must be numbers"),
    ],
)
def test_it_shows_why_a_request_got_no_result(browser: Browser, shape: str, data: str, says: str) -> None:
    with engine_of() as engine, served(create_app({"m": engine})) as url:
        browser.open(url)
        assert browser.shows("Try it")
        browser.write("main input", shape)
        browser.write("textarea", data)
        browser.click("main button")
        assert browser.shows(says)
        assert browser.script("return document.querySelectorAll('.result .bad').length") == 1


@pytest.mark.system
def test_what_is_typed_stays_while_the_numbers_are_refreshed(browser: Browser) -> None:
    with engine_of() as engine, served(create_app({"m": engine})) as url:
        browser.open(url)
        assert browser.shows("Try it", "Requests\n0 ")
        browser.write("textarea", "[[7, 7, 7]]")
        engine.infer({"x": np.zeros((1, 3), "float32")})
        assert browser.shows("Requests\n1 ")
        assert browser.script("return document.querySelector('textarea').value") == "[[7, 7, 7]]"


@pytest.mark.system
def test_it_asks_for_the_key_where_the_server_wants_one(browser: Browser) -> None:
    options = ServiceOptions(api_key="s3cret")
    with engine_of() as engine, served(create_app({"m": engine}, options)) as url:
        browser.open(url)
        assert browser.shows("This server asks for its key")
        browser.write("#key", "other")
        browser.click("#key-form button")
        assert browser.shows("does not take this key")
        browser.write("#key", "s3cret")
        browser.click("#key-form button")
        assert browser.shows("READY", "Try it")
        assert "asks for its key" not in browser.text
        browser.click("main button")
        assert browser.shows("[[0, 0, 0]]", "200, ")


@pytest.mark.system
def test_names_and_reasons_from_outside_are_shown_as_text(browser: Browser) -> None:
    missing = ServedModel("gone", ModelSource(Path("gone")), reason=f"it holds {HOSTILE}")
    inputs = {HOSTILE: ("float32", (-1, 3))}
    with paddleinfer.Engine.from_callable(lambda given: {"y": given[HOSTILE]}, inputs, ["y"]) as engine:
        models = Models([missing, ServedModel("m", None, engine, "READY", "")])
        with served(Application(Service(models), load=False)) as url:
            browser.open(url)
            assert browser.shows("UNAVAILABLE", f"it holds {HOSTILE}", f"{HOSTILE} (FP32)", "not every model")
            browser.click("main section:last-child button")
            assert browser.shows("[[0, 0, 0]]")
            assert browser.script("return document.querySelectorAll('img').length") == 0
            assert browser.script("return document.title") == "paddleinfer"


@pytest.mark.system
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_light_and_dark(browser: Browser, scheme: str) -> None:
    with echo_engine("float32", (-1, 3, 64, 64)) as engine, served(create_app({"a" * 100: engine})) as url:
        browser.phone(360, 740)
        browser.scheme(scheme)
        browser.open(url)
        assert browser.shows("Try it")
        assert browser.script("return document.documentElement.scrollWidth") == 360
        back, text = (
            browser.script(f"return getComputedStyle(document.body).{name}")
            for name in ("backgroundColor", "color")
        )
        brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (back, text)]
        assert (brightness[0] > brightness[1]) == (scheme == "light")


@pytest.mark.system
def test_it_says_so_when_the_server_is_gone(browser: Browser) -> None:
    with engine_of() as engine, served(create_app({"m": engine})) as url:
        browser.open(url)
        assert browser.shows("READY")
    assert browser.shows("The server does not answer")
