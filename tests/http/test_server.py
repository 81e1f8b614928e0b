"""The server as a process, on the real clock: first lines, signals, what becomes of requests at its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
from engine_helpers import PATIENCE_S, eventually, rows
from http_helpers import INFER, binary_body, binary_tensor, json_tensor, outputs_of
from http_processes import ELSEWHERE, START_S, Server, asking, started, under_way, waiting_server
from system_tools import need
from zoo import Zoo

from paddleinfer.tracing.files import read_text
from paddleinfer.tracing.validate import check


def test_the_command_says_what_runs_with_what_and_answers(zoo: Zoo) -> None:
    model = zoo.directory("mlp", zoo.formats[0])
    with started(
        "-m", "paddleinfer.shim", model, "--port", "0", "--host", "127.0.0.1", "--ir_optim"
    ) as server:
        *introductions, serves = server.lines
        (introduction,) = [line for line in introductions if line.startswith(f"{model.name}: ")]
        assert str(model) in introduction
        assert "ir_optim on" in introduction
        assert serves.startswith("paddleinfer-http serves on http://127.0.0.1:")
        metadata = httpx.get(f"{server.url}/v2/models/{model.name}", timeout=PATIENCE_S).json()
        tensor = metadata["inputs"][0]
        x = rows(2)[:, :1].repeat(tensor["shape"][1], 1)
        request = {"inputs": [json_tensor(tensor["name"], x)]}
        url = f"{server.url}/v2/models/{model.name}/infer"
        outputs_of(httpx.post(url, json=request, timeout=PATIENCE_S))
        server.process.send_signal(signal.SIGINT)
        assert server.end()[0] == 0


def test_a_unix_socket_is_served_too_a_left_over_one_replaced_and_it_is_gone_at_the_end(
    zoo: Zoo, tmp_path: Path
) -> None:
    model, path = zoo.directory("mlp", zoo.formats[0]), tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with started("-m", "paddleinfer.shim", model, "--uds", path) as server:
        assert server.url == f"unix:{path}"
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=PATIENCE_S) as client:
            assert client.get("http://t/v2/health/ready").status_code == 200
        second = subprocess.run(
            [sys.executable, "-m", "paddleinfer.shim", model, "--uds", path],
            capture_output=True,
            text=True,
            check=False,
            cwd=ELSEWHERE,
        )
        assert second.returncode == 1
        assert "cannot listen" in second.stderr
        assert path.stat().st_mode & 0o777 == 0o660
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0
    assert not path.exists()


def test_https_is_served_with_a_certificate(zoo: Zoo, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [need("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    model = zoo.directory("mlp", zoo.formats[0])
    arguments = ["--host", "127.0.0.1", "--port", "0", "--tls-cert", certificate, "--tls-key", key]
    with started("-m", "paddleinfer.shim", model, *arguments) as server:
        assert server.url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(verify=context, timeout=PATIENCE_S) as client:
            assert client.get(server.url + "/v2/health/ready").status_code == 200
            request = {"inputs": [json_tensor("x", rows())]}
            response = client.post(f"{server.url}/v2/models/{model.name}/infer", json=request)
            assert response.status_code == 400  # the model wants wider rows; the fast path has answered


def test_a_taken_port_is_said_in_a_sentence(zoo: Zoo) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "paddleinfer.shim", zoo.directory("mlp", zoo.formats[0])]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=START_S, check=False, cwd=ELSEWHERE
        )
    assert done.returncode == 1
    assert (
        done.stderr.strip() == f"paddleinfer-http: cannot listen on 127.0.0.1:{port}: Address already in use"
    )


def test_an_option_that_turns_out_wrong_in_the_load_ends_the_server_with_a_sentence(
    zoo: Zoo,
) -> None:
    command = [sys.executable, "-m", "paddleinfer.shim", zoo.directory("mlp", zoo.formats[0])]
    command += ["--host", "127.0.0.1", "--port", "0", "--device", "gpu:0"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=START_S, check=False, cwd=ELSEWHERE
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("paddleinfer-http: ")


def test_a_paddle_that_cannot_be_imported_ends_the_server(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "paddle.py").write_text("raise OSError('libpaddle.so is broken')")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "paddleinfer.shim", zoo.directory("mlp", zoo.formats[0]), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
        cwd=ELSEWHERE,
    )
    assert done.returncode == 1
    assert "libpaddle.so is broken" in done.stderr


def test_accepted_requests_are_answered_after_sigterm_and_the_exit_code_is_0(tmp_path: Path) -> None:
    with waiting_server(tmp_path) as server, asking(server, 4) as ends:
        assert eventually(lambda: (tmp_path / "running-0").exists() and server.status("/v2") == 200)
        assert eventually(lambda: "4.0" in under_way(server))
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: not _listens(server))
        (tmp_path / "go").touch()
        assert server.end()[0] == 0
    assert [end.status_code for end in ends] == [200] * 4


def _listens(server: Server) -> bool:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_new_work_is_served_for_the_drain_delay_while_readiness_is_false(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with waiting_server(tmp_path, drain_delay=10 * PATIENCE_S) as server:
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: server.status("/v2/health/ready") == 503)
        assert server.status("/v2/health/live") == 200
        assert server.post().status_code == 200


def test_after_the_drain_delay_the_server_ends(tmp_path: Path) -> None:
    with waiting_server(tmp_path, drain_delay=0.2) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0


def test_past_the_drain_timeout_the_cut_requests_are_counted(tmp_path: Path) -> None:
    with waiting_server(tmp_path, drain_timeout=1.0) as server, asking(server, 2) as ends:
        assert eventually((tmp_path / "running-0").exists)
        assert eventually(lambda: "2.0" in under_way(server))
        server.process.send_signal(signal.SIGTERM)
        code, errors = server.end()
    assert code == 3
    assert "2 requests did not finish within --drain-timeout" in errors
    assert "Traceback" not in errors
    assert [end.status_code for end in ends] == [503, 503]


def test_an_answer_that_its_client_does_not_read_counts_as_cut(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with waiting_server(tmp_path, drain_timeout=1.0) as server, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = server.url.removeprefix("http://").partition(":")
        slow.connect((host, int(port)))
        x = np.zeros((700_000, 3), "float32")
        body, headers = binary_body(
            {"inputs": [binary_tensor("x", x)], "parameters": {"binary_data_output": True}}, x
        )
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        slow.sendall(
            f"POST {INFER} HTTP/1.1\r\nHost: t\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )
        assert slow.recv(12) == b"HTTP/1.1 200"
        server.process.send_signal(signal.SIGTERM)
        code, errors = server.end()
    assert code == 3
    assert "1 request did not finish within --drain-timeout" in errors


@pytest.mark.parametrize("after_s", [0.2, 0.5, 0.8, 1.1])
def test_a_signal_while_models_load_ends_the_server_quietly(zoo: Zoo, after_s: float) -> None:
    model = zoo.directory("mlp", zoo.formats[0])
    command = [sys.executable, "-m", "paddleinfer.shim", model, "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ELSEWHERE
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(after_s)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=START_S)
    assert "FatalError" not in output + errors
    # Before the server has taken the signal over the interpreter's own way is in force.
    assert process.returncode in (0, -signal.SIGTERM)


def test_a_second_signal_ends_the_server_at_once(tmp_path: Path) -> None:
    with waiting_server(tmp_path) as server, asking(server, 1):
        assert eventually((tmp_path / "running-0").exists)
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: not _listens(server))
        server.process.send_signal(signal.SIGTERM)
        code, errors = server.end()
    assert code == 128 + signal.SIGTERM
    assert "at once" in errors


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_the_last_requests_are_kept_as_a_trace_when_the_server_ends(tmp_path: Path, name: str) -> None:
    (tmp_path / "go").touch()
    with waiting_server(tmp_path, trace=str(tmp_path / name)) as server:
        for _ in range(3):
            assert server.post().status_code == 200
        assert not (tmp_path / name).exists()
        server.process.send_signal(signal.SIGTERM)
        code, errors = server.end()
    assert code == 0 and f"{tmp_path / name} has all 3 requests" in errors
    document = json.loads(read_text(tmp_path / name))
    assert check(document) == [] and document["otherData"]["requests"] == 3
    counts = Counter(event["name"] for event in document["traceEvents"] if event["ph"] == "X")
    assert (counts["http request"], counts["infer"], counts["request"], counts["batch"]) == (3, 3, 3, 3)


def test_a_trace_that_cannot_be_written_at_the_end_is_said(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    with waiting_server(tmp_path, trace=str(place / "trace.json")) as server:
        place.rmdir()
        server.process.send_signal(signal.SIGTERM)
        code, errors = server.end()
    assert code == 1
    assert f"the trace cannot be written to {place / 'trace.json'}: No such file or directory" in errors


def test_changed_files_are_loaded_again(zoo: Zoo, tmp_path: Path) -> None:
    import shutil

    model = Path(shutil.copytree(zoo.directory("mlp", zoo.formats[0]), tmp_path / "m"))
    with started("-m", "paddleinfer.shim", model, "--port", "0", "--reload-interval", "0.1") as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")

        def generation() -> str:
            text = httpx.get(server.url + "/metrics", timeout=PATIENCE_S).text
            return next(
                line for line in text.splitlines() if line.startswith("paddleinfer_model_generation{")
            )

        assert generation().endswith(" 1.0")
        os.utime(next(model.glob("*.pdiparams")), (1, 1))
        assert eventually(lambda: generation().endswith(" 2.0"), PATIENCE_S)
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0


@pytest.mark.parametrize("key", ["", "wrong"])
def test_a_key_from_the_environment_is_asked_for(zoo: Zoo, key: str) -> None:
    model = zoo.directory("mlp", zoo.formats[0])
    with (
        started(
            "-m",
            "paddleinfer.shim",
            model,
            "--port",
            "0",
            "--host",
            "127.0.0.1",
            environment={"PADDLEINFER_API_KEY": "k"},
        ) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client,
    ):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        assert client.get("/v2", headers=headers).status_code == 401
        assert client.get("/v2", headers={"Authorization": "Bearer k"}).status_code == 200
