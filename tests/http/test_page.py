"""The server's page in a real browser: what it shows and does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, browsing, served
from engine_helpers import PATIENCE_S, echo_engine, engine_of, eventually, gated, rows
from page_stand_ins import DIAGNOSIS, cycles, recording, standing_in

import paddleinfer
from paddleinfer.shim import ModelSource, ServiceOptions, create_app
from paddleinfer.shim.http.app import Application
from paddleinfer.shim.service.models import Models
from paddleinfer.shim.service.served_models import ServedModel
from paddleinfer.shim.service.service import Service

HOSTILE = "<img src=x onerror=document.title='broken'>"


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
        assert browser.shows("Requests\n1"), browser.text


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
        assert browser.shows("Try it", "Requests\n0")
        browser.write("textarea", "[[7, 7, 7]]")
        engine.infer({"x": np.zeros((1, 3), "float32")})
        assert browser.shows("Requests\n1")
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


def shown_by(browser: Browser, css: str) -> str:
    return str(browser.script(f"return document.querySelector({css!r})?.innerText ?? ''"))


@pytest.mark.system
def test_it_shows_live_what_the_model_does(browser: Browser) -> None:
    with engine_of() as engine, served(create_app({"m": engine})) as url:
        browser.open(url)
        assert browser.shows("Throughput", "Latency", "Waiting now", "no HTTP request yet", "no run yet")
        for count in (1, 1, 4):
            tensor = {"name": "x", "shape": [count, 3], "datatype": "FP32", "data": [1] * (3 * count)}
            body = {"inputs": [tensor]}
            options = f"{{method: 'POST', body: JSON.stringify({json.dumps(body)})}}"
            # One after the other: together they would share a run.
            browser.script(f"return fetch('v2/models/m/infer', {options}).then(answer => answer.text())")
        assert browser.shows("Requests\n3", "3 HTTP requests, last 10 s")
        assert re.search(r"p50\s+[\d.]+ [µm]s\s+p90\s+[\d.]+ [µm]s\s+p99\s+[\d.]+ [µm]s", browser.text)
        label = browser.script("return document.querySelector('svg.bars').getAttribute('aria-label')")
        assert re.fullmatch(r"Runs by their rows, last \d+ s: .*1 of 4 rows", label)
        labels = browser.script(
            "return [...document.querySelectorAll('svg.spark')].map(one => one.getAttribute('aria-label'))"
        )
        assert [text.split(":")[0] for text in labels] == [
            "Requests per second in the last minute",
            "Requests that wait in the last minute",
        ]


@pytest.mark.system
def test_it_shows_live_what_waits(browser: Browser) -> None:
    with gated() as (engine, gate), served(create_app({"m": engine})) as url:
        browser.open(url)
        futures = [engine.submit({"x": rows(2)}) for _ in range(3)]
        assert browser.shows("3 requests, 6 rows", "Instances at work\n1 of 1")
        gate.open()
        for future in futures:
            future.result()
        assert browser.shows("0 requests, 0 rows")


@pytest.mark.system
def test_it_shows_where_the_time_goes_and_what_would_help(browser: Browser) -> None:
    with engine_of() as engine:
        further = {**DIAGNOSIS["advice"][0], "sentence": HOSTILE}
        hostile = {**DIAGNOSIS, "evidence": HOSTILE, "advice": [*DIAGNOSIS["advice"], further]}
        with served(standing_in(create_app({"m": engine}), {}, hostile)) as url:
            browser.open(url)
            assert browser.shows("communication-bound", HOSTILE, "send binary tensors instead of JSON")
            assert browser.shows("communication 50 %", "waiting 22 %", "From 5,120 requests.")
            browser.click("section section summary")
            table = shown_by(browser, "section section table")
            assert re.search(r"run\s+28 %\s+280 µs\s+252 µs\s+700 µs\s+5,120", table), table
            assert browser.script("return document.querySelectorAll('img').length") == 0


@pytest.mark.system
def test_it_draws_a_recording_that_zooms_and_tells_of_each_slice(browser: Browser) -> None:
    trace = recording()
    with engine_of() as engine, served(standing_in(create_app({"m": engine}), trace, DIAGNOSIS)) as url:
        browser.open(url)
        assert browser.shows("Record one second")
        browser.script(
            "const made = URL.createObjectURL;"
            "URL.createObjectURL = file => (file.text().then(text => window.kept = text), made(file))"
        )
        browser.click("#record")
        assert browser.shows("Point at a slice", "Download", "decode", "scatter")
        canvas = "return document.querySelector('canvas')"
        slices = sum(event["ph"] == "X" for event in trace["traceEvents"])
        label = f"{canvas}.getAttribute('aria-label')"
        assert browser.script(label).startswith(f"{slices} slices on 10 tracks, shown from 0.0 µs to ")
        whole = browser.script(label)
        browser.script(f"{canvas}.scrollIntoView({{block: 'center'}})")
        browser.turn_wheel("canvas", -900)
        assert eventually(lambda: browser.script(label) != whole, PATIENCE_S)
        near = browser.script(label)
        browser.drag("canvas", 200)
        assert eventually(lambda: browser.script(label) != near, PATIENCE_S)
        browser.click("button[aria-label='Show the whole recording']")
        assert browser.script(label) == whole
        colours = browser.script(
            "const canvas = document.querySelector('canvas');"
            "const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
            "return new Set(new Uint32Array(data.buffer)).size"
        )
        assert colours > 8
        # The first run of the first instance is there, wherever the browser has put it.
        run = next(event for event in trace["traceEvents"] if event["name"] == "run")
        browser.script(
            "const canvas = document.querySelector('canvas'), box = canvas.getBoundingClientRect();"
            "const at = [...Array(4000).keys()].map(n => [130 + n / 4, 20 + 41 + 17 * 1.5]);"
            "for (const [x, y] of at) canvas.dispatchEvent(new PointerEvent('pointermove',"
            "  {clientX: box.left + x, clientY: box.top + y, pointerId: 99, bubbles: true}));"
        )
        said = shown_by(browser, ".said")
        assert re.fullmatch(r"(gather|run|scatter) [\d.]+ [µm]s instance 0, at [\d.]+ m?s", said), said
        assert run["dur"] > 1000
        link = "return document.querySelector('a[download]')"
        assert browser.script(f"{link}.download") == "paddleinfer-trace.json"
        assert json.loads(browser.script("return window.kept")) == trace
        browser.click("#recorded summary")
        assert re.search(r"run\s+600\s", shown_by(browser, "#recorded table"))


@pytest.mark.system
def test_zoomed_out_a_pixel_shows_what_most_of_its_time_is_in(browser: Browser) -> None:
    with engine_of() as engine, served(standing_in(create_app({"m": engine}), cycles(2000), {})) as url:
        browser.open(url)
        assert browser.shows("Record one second")
        browser.click("#record")
        assert browser.shows("Point at a slice")
        painted = (
            "const canvas = document.querySelector('canvas'), {width, height} = canvas, seen = {};"
            "const {data} = canvas.getContext('2d').getImageData(0, 0, width, height);"
            "const names = new Map(Object.entries(STAGES).map(([name, colour]) =>"
            "  [parseInt(colour.slice(1), 16), name]));"
            "for (let at = 0; at < data.length; at += 4) {"
            "  const name = names.get((data[at] << 16) + (data[at + 1] << 8) + data[at + 2]);"
            "  if (name) seen[name] = (seen[name] || 0) + 1;"
            "} return seen"
        )
        assert eventually(lambda: "run" in browser.script(painted), PATIENCE_S)
        assert set(browser.script(painted)) == {"batch", "run"}
        lane = "[{name: 'run', from: 25, to: 25.1}, {name: 'hold', from: 40, to: 60}]"
        columns = browser.script(f"return columnsOf({lane}, 0, 100, 10)")
        assert [column["name"] for column in columns] == [
            *(None, None, "run", None, "hold", "hold", None, None, None, None)
        ]
        assert [columns[place]["share"] for place in (2, 4, 5)] == [0, 1, 1]


@pytest.mark.system
def test_fingers_zoom_and_move_a_recording_and_a_tap_tells_of_a_slice(browser: Browser) -> None:
    with engine_of() as engine, served(standing_in(create_app({"m": engine}), recording(), {})) as url:
        browser.phone(390, 844)
        browser.open(url)
        assert browser.shows("Record one second")
        browser.click("#record")
        assert browser.shows("Point at a slice")
        browser.script("document.querySelector('canvas').scrollIntoView()")
        label = "return document.querySelector('canvas').getAttribute('aria-label')"
        shown = [browser.script(label)]
        top = browser.script("return document.querySelector('canvas').getBoundingClientRect().top")
        y = top + 20 + 41 + 8  # the first instance
        browser.touch([(200, y), (240, y)], [(180, y), (260, y)], [(160, y), (280, y)])
        assert eventually(lambda: browser.script(label) not in shown, PATIENCE_S)
        shown.append(browser.script(label))
        browser.touch([(220, y)], [(200, y)], [(170, y)])
        assert eventually(lambda: browser.script(label) not in shown, PATIENCE_S)
        assert shown_by(browser, ".said") == "Point at a slice, or tap it."
        for x in range(200, 230, 5):
            browser.touch([(x, y)])
        said = shown_by(browser, ".said")
        assert re.fullmatch(r"batch [\d.]+ ms instance 0, at [\d.]+ ms · rows 4", said), said
        keys = "document.querySelector('canvas').dispatchEvent(new KeyboardEvent('keydown', {key: '0'}));"
        assert browser.script(keys + label) == shown[0]


@pytest.mark.system
def test_it_shows_why_there_is_no_recording_and_no_diagnosis(browser: Browser) -> None:
    answers = {"error": f"there is none of {HOSTILE}"}
    with engine_of() as engine, served(standing_in(create_app({"m": engine}), answers, answers, 404)) as url:
        browser.open(url)
        assert browser.shows("Diagnosis", answers["error"], "Try it", "Throughput")
        browser.click("#record")
        assert eventually(lambda: shown_by(browser, "#recorded") == answers["error"], PATIENCE_S)
        assert shown_by(browser, "#record") == "Record one second"
        assert shown_by(browser, "#trouble") == ""
        browser.click("main button")
        assert browser.shows("[[0, 0, 0]]")


@pytest.mark.system
def test_a_second_in_which_nothing_ran_is_no_picture(browser: Browser) -> None:
    empty = {"traceEvents": []}
    with engine_of() as engine, served(standing_in(create_app({"m": engine}), empty, DIAGNOSIS)) as url:
        browser.open(url)
        assert browser.shows("Record one second")
        browser.click("#record")
        assert browser.shows("No request was under way in that second.")


@pytest.mark.system
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_recording_and_diagnosis_fit_too(browser: Browser, width: int, scheme: str) -> None:
    with (
        engine_of() as engine,
        served(standing_in(create_app({"m" * 60: engine}), recording(), DIAGNOSIS)) as url,
    ):
        browser.phone(width, 844)
        browser.scheme(scheme)
        browser.open(url)
        assert browser.shows("Every stage", "Record one second")
        browser.click("section section summary")
        browser.click("#record")
        assert browser.shows("Point at a slice")
        assert browser.script("return document.documentElement.scrollWidth") == width
        assert browser.script("return document.querySelector('canvas').clientWidth") <= width


@pytest.mark.system
def test_names_and_reasons_from_outside_are_shown_as_text(browser: Browser) -> None:
    missing = ServedModel("gone", ModelSource(Path("gone")), reason=f"it holds {HOSTILE}")
    inputs = {HOSTILE: ("float32", (-1, 3))}
    with paddleinfer.Engine.from_callable(lambda given: {"y": given[HOSTILE]}, inputs, ["y"]) as engine:
        models = Models([missing, ServedModel("m", None, engine, state="READY", reason="")])
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
