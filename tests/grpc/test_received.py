"""Calls that another program's gRPC server has received."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_helpers import ModelInferRequest, outputs_of, raw

from paddleinfer import Engine
from paddleinfer.ray.grpc import GrpcMethods
from paddleinfer.shim import ServiceOptions
from paddleinfer.shim.grpc.messages import METHODS, message_class
from paddleinfer.shim.grpc.received import ReceivedCalls, Refused
from paddleinfer.shim.service.models import Models
from paddleinfer.shim.service.service import Service

X = np.ones((2, 3), np.float32)
BODY: bytes = ModelInferRequest(**raw(x=X)).SerializeToString()


class Context:
    """A call's context."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self.metadata = metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> Any:
        return self.metadata

    def time_remaining(self) -> None:
        return None


def answered(body: bytes, *metadata: tuple[str, str], method: str = "ModelInfer", **options: Any) -> bytes:
    def double(feeds: dict[str, Any]) -> dict[str, Any]:
        return {"y": feeds["x"] * 2}

    with Engine.from_callable(double, {"x": ("float32", (-1, 3))}, ["y"]) as engine:
        service = Service(Models.of({"m": engine}), ServiceOptions(**options), {}, {})
        return asyncio.run(ReceivedCalls(service).answer(method, body, Context(*metadata)))


def test_an_answer_is_the_servers() -> None:
    response = message_class("ModelInferResponse").FromString(answered(BODY))
    assert (outputs_of(response)["y"] == 2 * X).all()


@pytest.mark.parametrize(
    ("body", "options", "code", "sentence"),
    [
        (b"\xff", {}, grpc.StatusCode.INVALID_ARGUMENT, "ModelInferRequest"),
        (BODY, {"api_key": "secret"}, grpc.StatusCode.UNAUTHENTICATED, "authorization: Bearer KEY"),
        (BODY, {"max_body_bytes": len(BODY) - 1}, grpc.StatusCode.RESOURCE_EXHAUSTED, "max_body_bytes"),
    ],
)
def test_a_refusal_has_its_status_and_its_sentence(
    body: bytes, options: Any, code: grpc.StatusCode, sentence: str
) -> None:
    with pytest.raises(Refused) as refused:
        answered(body, **options)
    assert refused.value.code is code and sentence in refused.value.sentence


def test_the_key_opens_and_a_look_for_life_needs_none() -> None:
    assert answered(BODY, ("authorization", "Bearer secret"), api_key="secret")
    assert answered(b"", method="ServerLive", api_key="secret")


def test_a_replica_has_a_method_for_each_call() -> None:
    assert [method for method in METHODS if not callable(getattr(GrpcMethods, method, None))] == []
