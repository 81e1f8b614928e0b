"""What pages of other sites may have their readers' browsers do, and by which names a server is called."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine_helpers import engine_of, rows
from http_helpers import INFER, Served, client_of, error_of, json_tensor, serving
from raw_http import HANDLERS, answers, get, post, sentence
from starlette.testclient import TestClient

from paddleinfer import ConfigError
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.service.origins import AllowedHosts

CHANGING = ["/v2/repository/models/m/load", "/v2/repository/models/m/unload"]
REQUEST = {"inputs": [json_tensor("x", rows())]}
FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "https://server.example.evil"},
    {"Origin": "http://server.example:81"},
    {"Origin": "null"},
    {"Origin": "server.example"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "Cross-Site", "Origin": "http://server.example"},
]
OWN = [
    {},
    {"Origin": "http://server.example"},
    {"Origin": "http://Server.Example:80"},
    {"Origin": "https://server.example"},
    {"Origin": "http://server.example", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.fixture
def client() -> Iterator[TestClient]:
    with engine_of() as engine, client_of(engine, repository_control=True) as client:
        yield client


@pytest.mark.parametrize("path", CHANGING)
@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_site_changes_nothing(
    client: TestClient, path: str, headers: dict[str, str]
) -> None:
    simple = {"Host": "server.example", "Content-Type": "text/plain", **headers}
    assert "another site" in error_of(client.post(path, content=b"{}", headers=simple), 403)
    assert client.get("/v2/models/m/ready").status_code == 200


@pytest.mark.parametrize("path", CHANGING)
@pytest.mark.parametrize("spelled", ["{}%0A", "{}%0a", "{}/", "/{}", "{}?", "{}#a", "{}%00", "http://t{}"])
def test_no_spelling_of_a_path_lets_a_page_of_another_site_change_something(path: str, spelled: str) -> None:
    evil = b"Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\nConnection: close\r\n"
    with engine_of() as engine, serving(engine, repository_control=True) as server:
        for target in (path, path.replace("/m/", "/%6d/"), path.replace("load", "%6coad")):
            with server.connect() as connection:
                connection.sendall(post(evil, b"{}", path=spelled.format(target)))
                (answer,) = answers(connection)
            assert answer[0] in (403, 404), (target, answer)
            assert sentence(answer)


@pytest.mark.parametrize("path", ["/", "/metrics", "/v2/health/live", "/v2/models/m", INFER])
def test_a_path_with_a_line_break_behind_it_is_another_one(client: TestClient, path: str) -> None:
    assert error_of(client.get(f"{path}%0A"), 404) == f"there is no {path + chr(10)!r}"


@pytest.mark.parametrize("headers", OWN)
def test_the_servers_own_page_and_clients_that_are_no_browsers_change_models(
    client: TestClient, headers: dict[str, str]
) -> None:
    for path in CHANGING:
        response = client.post(path, content=b"{}", headers={"Host": "server.example", **headers})
        assert "another site" not in response.text


@pytest.mark.parametrize("headers", FOREIGN)
def test_routes_that_change_nothing_are_left_to_the_browsers_own_rules(
    client: TestClient, headers: dict[str, str]
) -> None:
    """The answer is kept from a page of another site, unless an application around this one allows it."""
    assert client.post(INFER, json=REQUEST, headers=headers).status_code == 200
    assert client.post("/v2/repository/index", headers=headers).status_code == 200


def test_every_route_that_takes_a_post_is_known_to_change_something_or_nothing(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    posts = {path for path, methods in document["paths"].items() if set(methods) - {"get"}}
    changing = {path for path in posts if path.endswith("load")}
    assert {path.replace("{model}", "m") for path in changing} == set(CHANGING)
    running = (
        "/infer",
        "/index",
        "/prediction",
        "/GeneralModelService/inference",
        "/GeneralModelService/debug",
    )
    asking = {"/services/{service}"}
    assert asking <= posts
    assert [path for path in posts - changing - asking if not path.endswith(running)] == []


def test_an_origin_that_allowed_hosts_names_is_not_foreign() -> None:
    allowed = ("server.example", "*.pages.example")
    with engine_of() as engine, client_of(engine, repository_control=True, allowed_hosts=allowed) as client:
        for origin, is_foreign in (
            ("https://a.pages.example", False),
            ("https://pages.example", True),
            ("https://evil.example", True),
        ):
            headers = {"Host": "server.example", "Origin": origin}
            response = client.post(CHANGING[0], headers=headers)
            assert ("another site" in response.text) is is_foreign


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        (b"a.example", True),
        (b"A.Example:8080", True),
        (b"a.example.", True),
        (b"b.example", False),
        (b"x.b.example", True),
        (b"xb.example", False),
        (b"a.example.evil", False),
        (b"10.0.0.1:9393", True),
        (b"10.0.0.2", False),
        (b"[::1]:9393", True),
        (b"[::2]", False),
        (b"", False),
    ],
)
def test_allowed_hosts_are_names_without_ports(host: bytes, is_allowed: bool) -> None:
    assert (host in AllowedHosts(["a.example", "*.b.example", "10.0.0.1", "::1"])) is is_allowed
    assert host in AllowedHosts([])


@pytest.fixture(scope="module")
def named() -> Iterator[Served]:
    with engine_of() as engine, serving(engine, allowed_hosts=("a.example",)) as server:
        yield server


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_request_to_another_name_is_refused_by_both_handlers(named: Served, handler: str) -> None:
    for host, status in ((b"a.example:1", 200), (b"evil.example", 421)):
        with named.connect() as connection:
            close = b"Connection: close\r\n"
            connection.sendall(post(HANDLERS[handler] + close, host=b"Host: " + host + b"\r\n"))
            (answer,) = answers(connection)
        assert answer[0] == status
        if status == 421:
            assert "'evil.example' is none of those that --allowed-hosts names" in sentence(answer)


def test_health_is_told_to_a_load_balancer_that_knows_the_address_alone(named: Served) -> None:
    for path, status in (("/v2/health/live", 200), ("/v2/health/ready", 200), ("/", 421), ("/metrics", 421)):
        with named.connect() as connection:
            connection.sendall(get(path, b"Connection: close\r\n"))
            assert answers(connection)[0][0] == status


@pytest.mark.parametrize("host", ["a:80", "http://a", "a/b", "*", "", "a b", "*a", 7])
def test_what_cannot_be_a_host_is_refused(host: object) -> None:
    with pytest.raises(ConfigError, match="allowed_hosts takes names"):
        ServerOptions(allowed_hosts=(host,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "is_open"),
    [
        ({}, True),
        ({"host": "::"}, True),
        ({"host": "0"}, True),
        ({"host": "0x0.0"}, True),
        ({"host": "0:0::0"}, True),
        ({"host": "::ffff:0.0.0.0"}, True),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "127.0.0.1"}, False),
        ({"api_key": "k"}, False),
        ({"uds": "s"}, False),
        ({"uds": "s", "grpc_port": 7}, True),
    ],
)
def test_a_server_knows_whether_anyone_may_call_it(options: dict[str, object], is_open: bool) -> None:
    assert ServerOptions(**options).is_open_to_all is is_open  # type: ignore[arg-type]
