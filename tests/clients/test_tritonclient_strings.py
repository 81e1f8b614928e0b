"""tritonclient with BYTES: services that stand for Triton's ``simple_string`` and ``simple_identity``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from client_servers import Addresses, started
from triton_calls import CLIENTS as HTTP_CLIENTS
from triton_grpc_calls import CLIENTS as GRPC_CLIENTS

SUPPORT = Path(__file__).resolve().parents[1] / "support"
SERVICES = ("simple_string=string_services:SimpleString", "simple_identity=string_services:SimpleIdentity")

FIRST, SECOND = np.arange(16).reshape(1, 16), np.ones((1, 16), int)
ODD = np.array([[b"he\x00llo"] * 16], object)

WAYS = [("http", kind) for kind in HTTP_CLIENTS] + [("grpc", kind) for kind in GRPC_CLIENTS]
KINDS = {"http": (tritonclient.http, HTTP_CLIENTS), "grpc": (tritonclient.grpc, GRPC_CLIENTS)}


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Addresses]:
    python = request.config.getoption("--server-python")
    command = ["env", f"PYTHONPATH={SUPPORT}", python, "-m", "paddleinfer.shim", "--host=127.0.0.1"]
    flags = [f"--service={service}" for service in SERVICES]
    with started(*command, "--port=0", "--grpc-port=0", *flags) as addresses:
        yield addresses


class Asking:
    """One of the four clients, with the classes of its protocol."""

    def __init__(self, protocol: str, kind: str, server: Addresses) -> None:
        self.module, clients = KINDS[protocol]
        self.client = clients[kind](getattr(server, protocol))

    def tensor(self, name: str, array: Any, **options: Any) -> Any:
        given = self.module.InferInput(name, list(array.shape), "BYTES")
        given.set_data_from_numpy(array, **options)
        return given


@pytest.fixture(params=WAYS, ids="-".join)
def asking(request: pytest.FixtureRequest, server: Addresses) -> Iterator[Asking]:
    made = Asking(*request.param, server)
    yield made
    made.client.close()


def as_bytes(numbers: Any) -> Any:
    return np.array([[b"%d" % number for number in row] for row in numbers], object)


def test_sums_and_differences_of_strings(asking: Asking) -> None:
    inputs = [asking.tensor("INPUT0", as_bytes(FIRST)), asking.tensor("INPUT1", as_bytes(SECOND))]
    outputs = [asking.module.InferRequestedOutput(name) for name in ("OUTPUT0", "OUTPUT1")]
    result = asking.client.infer("simple_string", inputs, outputs=outputs)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0").astype(int), FIRST + SECOND)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1").astype(int), FIRST - SECOND)


def test_bytes_with_zeros_in_them_come_back(asking: Asking) -> None:
    result = asking.client.infer("simple_identity", [asking.tensor("INPUT0", ODD)])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), ODD)


@pytest.mark.parametrize("kind", HTTP_CLIENTS)
@pytest.mark.parametrize("binary", [True, False])
def test_json_and_binary_say_the_same(server: Addresses, kind: str, binary: bool) -> None:
    asking = Asking("http", kind, server)
    texts = np.array([["a", "äö", ""]], object)
    given = asking.tensor("INPUT0", texts, binary_data=binary)
    wanted = asking.module.InferRequestedOutput("OUTPUT0", binary_data=binary)
    result = asking.client.infer("simple_identity", [given], outputs=[wanted])
    answered = [one if isinstance(one, str) else one.decode() for one in result.as_numpy("OUTPUT0").flat]
    assert answered == list(texts.flat)
    asking.client.close()


def test_a_service_describes_itself(asking: Asking) -> None:
    assert asking.client.is_model_ready("simple_string")
    metadata = asking.client.get_model_metadata("simple_string")
    inputs = metadata["inputs"] if isinstance(metadata, dict) else metadata.inputs
    first = inputs[0]
    assert (first["datatype"] if isinstance(first, dict) else first.datatype) == "BYTES"


def test_what_the_service_does_not_take_is_a_sentence(asking: Asking) -> None:
    with pytest.raises(Exception, match="input 'INPUT1' is missing"):
        asking.client.infer("simple_string", [asking.tensor("INPUT0", as_bytes(FIRST))])
