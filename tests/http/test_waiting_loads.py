"""Requests to load and unload a model that wait for one another, and whose clients leave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

import grpc
import pytest
from engine_helpers import engine_of, eventually
from grpc_helpers import serving as serving_grpc
from http_helpers import serving
from raw_http import answers, post, sentence

from paddleinfer.shim.grpc.messages import message_class
from paddleinfer.shim.service.service import Service

MOST = 8
CLOSE = b"Connection: close\r\n"
CHANGES = ["load", "unload"]


class Changing:
    """Stands for loads and unloads, which are begun and end when they are let."""

    def __init__(self, service: Service) -> None:
        self.model = service.models.get("m")
        self.begun = self.ended = 0
        self.may_end = threading.Event()
        stand_in: Any = self._change
        service.models._load = service.models._unload = stand_in  # type: ignore[method-assign]

    async def _change(self, *_: Any) -> None:
        self.begun += 1
        while not self.may_end.is_set():
            await asyncio.sleep(0.001)
        self.ended += 1


def request_of(what: str) -> Any:
    return message_class(f"RepositoryModel{what.capitalize()}Request")(model_name="m")


def asking(what: str) -> bytes:
    return post(CLOSE, b"{}", path=f"/v2/repository/models/m/{what}")


@pytest.mark.parametrize("what", CHANGES)
def test_so_many_requests_to_load_or_unload_wait_and_more_are_refused(what: str) -> None:
    with (
        engine_of() as engine,
        serving(engine, repository_control=True) as server,
        contextlib.ExitStack() as stack,
    ):
        changing = Changing(server.service)
        clients = []

        def ask() -> socket.socket:
            clients.append(stack.enter_context(server.connect()))
            clients[-1].sendall(asking(what))
            return clients[-1]

        for number in range(MOST + 1):
            ask()
            assert eventually(lambda count=number: (changing.begun, changing.model.waiting) == (1, count))
        (refused,) = answers(ask())
        assert refused[0] == 429
        assert f"{MOST} requests to load or unload model 'm' wait" in sentence(refused)
        changing.may_end.set()
        assert [answers(client)[0][0] for client in clients[:-1]] == (MOST + 1) * [200]
        assert changing.ended == MOST + 1


@pytest.mark.parametrize("what", CHANGES)
def test_one_that_has_not_begun_ends_with_its_client_and_one_that_has_goes_on(what: str) -> None:
    with engine_of() as engine, serving(engine, repository_control=True) as server:
        changing = Changing(server.service)
        with server.connect() as first:
            first.sendall(asking(what))
            assert eventually(lambda: changing.begun == 1)
            with server.connect() as second:
                second.sendall(asking(what))
                assert eventually(lambda: changing.model.waiting == 1)
            assert eventually(lambda: changing.model.waiting == 0)
        assert eventually(lambda: server.service.connections.open == 0)
        changing.may_end.set()
        assert eventually(lambda: changing.ended == 1)
        with server.connect() as third:
            third.sendall(asking(what))
            assert answers(third)[0][0] == 200
        assert changing.begun == changing.ended == 2


@pytest.mark.parametrize("what", CHANGES)
def test_the_same_over_grpc(what: str) -> None:
    with engine_of() as engine, serving_grpc(engine, repository_control=True) as server:
        changing = Changing(server.service)
        method = server.method(f"RepositoryModel{what.capitalize()}")
        calls = []

        def begin() -> grpc.Future:
            calls.append(method.future(request_of(what), None))
            return calls[-1]

        for number in range(MOST + 1):
            begin()
            assert eventually(lambda count=number: (changing.begun, changing.model.waiting) == (1, count))
        code = begin().exception().code()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        assert eventually(lambda: changing.model.waiting == 0)
        changing.may_end.set()
        assert eventually(lambda: changing.ended == 1)
        begin().result()
        assert changing.begun == changing.ended == 2
