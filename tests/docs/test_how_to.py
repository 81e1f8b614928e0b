"""The pages for readers in a hurry: every example on them is run as it stands."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.paddle3  # the pages name the outputs as Paddle 3 does


def asked(port: int, value: Any) -> tuple[int, Any]:
    """Status and answer of POST /digit."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/digit", json.dumps(value).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def check_application(reader: Any, port: int) -> None:
    held_out = np.load(reader.folder / "held_out.npz")
    answers = [asked(port, {"pixels": image.tolist()}) for image in held_out["image"][:8]]
    assert [status for status, _ in answers] == [200] * 8
    right = [answer["digit"] == label for (_, answer), label in zip(answers, held_out["label"], strict=False)]
    assert sum(right) >= 6


# -- the tutorial


@pytest.mark.reads("docs/tutorial.md")
def test_the_tutorial_leads_from_training_to_a_served_model(reader: Any, free_port: int) -> None:
    assert "image  float32  -1x64" in reader.run("paddleinfer inspect digits --no-load")
    assert "of 297 images are right" in reader.run("python predict.py")
    ask = reader.folder / "ask.py"
    ask.write_text(ask.read_text().replace("9393", str(free_port)))
    with reader.running("paddleinfer-http digits --port 9393", "serves on", free_port):
        assert reader.run("python ask.py").startswith("this is a ")


@pytest.mark.reads("docs/tutorial.md")
def test_the_tutorials_commands_are_all_tested(reader: Any) -> None:
    tested = ("python train.py", "paddleinfer inspect digits --no-load", "python predict.py")
    server = ("paddleinfer-http digits --port 9393", "python ask.py")
    assert reader.page.commands == ["pip install '.[cpu,http,demo]'", *tested, *server]


@pytest.mark.reads("docs/services.md")
def test_a_picture_in_and_a_digit_out(reader: Any, free_port: int) -> None:
    pytest.importorskip("PIL")
    ask = reader.folder / "ask_picture.py"
    ask.write_text(ask.read_text().replace("9393", str(free_port)))
    command = "paddleinfer-http --model digits=digits --service pipeline:Digits --port 9393"
    with reader.running(command, "serves on", free_port):
        label = np.load(reader.folder / "held_out.npz")["label"][0]
        assert reader.run("python ask_picture.py") == f"this is a {label}\n"


# -- web applications and workers


@pytest.mark.reads("docs/how-to/fastapi.md")
def test_an_engine_in_fastapi(reader: Any, free_port: int) -> None:
    pytest.importorskip("fastapi")
    with reader.running("uvicorn app:app --port 8000", "Uvicorn running on", free_port):
        check_application(reader, free_port)
        status, answer = asked(free_port, {"pixels": [1.0]})
        assert status == 422 and "image" in answer["detail"]


@pytest.mark.reads("docs/how-to/flask-gunicorn.md")
@pytest.mark.parametrize("application", ["app:app --workers 1 --threads 32", "preloaded:app"])
def test_an_engine_in_flask(reader: Any, free_port: int, application: str) -> None:
    pytest.importorskip("flask")
    pytest.importorskip("gunicorn")
    if "preloaded" not in application:
        (reader.folder / "gunicorn.conf.py").unlink()
    command = f"gunicorn {application} --bind 127.0.0.1:8000"
    with reader.running(command, "Booting worker", free_port):
        check_application(reader, free_port)
        if "preloaded" not in application:
            status, answer = asked(free_port, {"pixels": [1.0]})
            assert status == 422 and "image" in answer["detail"]


ASKS_THE_WORKER = """
import numpy as np
from tasks import classify
held_out = np.load("held_out.npz")
asked = [classify.delay(image.tolist()) for image in held_out["image"][:16]]
digits = [one.get(timeout=100) for one in asked]
print(np.sum(np.array(digits) == held_out["label"][:16]))
"""


@pytest.mark.reads("docs/how-to/celery.md")
def test_an_engine_in_a_celery_worker(reader: Any) -> None:
    pytest.importorskip("celery")
    for folder in ("queue", "results"):
        (reader.folder / folder).mkdir()
    (reader.folder / "celeryconfig.py").write_text(  # in the place of the page's broker
        'broker_url = "filesystem://"\n'
        'broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue"}\n'
        f'result_backend = "file://{reader.folder}/results"\n'
    )
    with reader.running("celery -A tasks worker --pool threads --concurrency 32 --loglevel INFO", " ready."):
        done = subprocess.run(
            [sys.executable, "-c", ASKS_THE_WORKER],
            cwd=reader.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 12


# -- scripts and notebooks


@pytest.mark.reads("docs/how-to/multiprocessing.md")
def test_an_engine_in_each_process(reader: Any) -> None:
    assert "of 297 images are right" in reader.run("python classify.py")


@pytest.mark.reads("docs/how-to/pandas.md")
def test_a_models_results_in_a_data_frame(reader: Any) -> None:
    pandas = pytest.importorskip("pandas")
    assert "of 297 rows are right" in reader.run("python score.py")
    reader.run("python score_chunks.py")
    scored = pandas.read_csv(reader.folder / "scored.csv")
    assert len(scored) == 297 and (scored["scored"] == scored["digit"]).all()


NOTEBOOK = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.load(sys.stdin):
    shell.run_cell(cell).raise_error()
"""


@pytest.mark.reads("docs/how-to/jupyter.md")
def test_an_engine_in_a_notebook(reader: Any) -> None:
    pytest.importorskip("IPython")
    cells = reader.page.code
    again = [*cells, cells[1], cells[2]]  # a cell may be run again
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], input=json.dumps(again), cwd=reader.folder,
        env={"IPYTHONDIR": str(reader.folder), "HOME": str(reader.folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "<Engine" in done.stdout and "-bound" in done.stdout


@pytest.mark.reads("docs/how-to/stream-from-disk.md")
def test_a_stream_from_disk(reader: Any) -> None:
    assert reader.run("python stream.py") == "297 digits are in digits.npy\n"
    right = np.load(reader.folder / "digits.npy") == np.load(reader.folder / "held_out.npz")["label"]
    assert right.mean() > 0.8
