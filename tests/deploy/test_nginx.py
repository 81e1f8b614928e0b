"""The site for nginx has the sizes and times of the server's defaults, and passes on what there is."""

from __future__ import annotations

import re

import pytest
from deploy_files import DEPLOY, unit_options
from nginx_site import Block, site

from paddleinfer.shim.http.routes import OPERATIONS
from paddleinfer.shim.options import ServerOptions

DEFAULTS = ServerOptions()
SITE = site(DEPLOY / "nginx/paddleinfer.conf")
SERVER = SITE.block("server")
LOCATIONS = SERVER.blocks_of("location")
_BYTES = {"k": 1 << 10, "m": 1 << 20}


def bytes_of(text: str) -> int:
    return int(text[:-1]) * _BYTES[text[-1]] if text[-1] in _BYTES else int(text)


def seconds_of(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


def location(path: str) -> Block:
    """The one that nginx takes for a path: exact, then regular expressions, then the longest beginning."""
    for each in LOCATIONS:
        if each.arguments == ("=", path):
            return each
    for each in LOCATIONS:
        if each.arguments[0] == "~" and re.search(each.arguments[1], path):
            return each
    fitting = [each for each in LOCATIONS if len(each.arguments) == 1 and path.startswith(each.arguments[0])]
    return max(fitting, key=lambda each: len(each.arguments[0]))


def test_bodies_may_be_as_large_as_the_server_takes() -> None:
    assert bytes_of(SERVER.only("client_max_body_size")) == DEFAULTS.max_body_bytes
    assert seconds_of(SERVER.only("client_body_timeout")) == DEFAULTS.read_timeout


@pytest.mark.parametrize("name", ["paddleinfer_http", "paddleinfer_grpc"])
def test_idle_connections_end_at_nginx_first(name: str) -> None:
    [upstream] = [each for each in SITE.blocks_of("upstream") if each.arguments == (name,)]
    assert seconds_of(upstream.only("keepalive_timeout")) < DEFAULTS.keep_alive_timeout
    assert 0 < int(upstream.only("keepalive")) < DEFAULTS.max_connections_per_address


@pytest.mark.parametrize("path", ["/", "/services/s", "/v2/trace"])
def test_connections_to_the_server_are_kept(path: str) -> None:
    place = location(path)
    assert place.only("proxy_http_version") == "1.1"
    assert ("Connection", "") in place.values("proxy_set_header")
    assert ("Host", "$host") in place.values("proxy_set_header")


@pytest.mark.parametrize("path", sorted({path for one in OPERATIONS for path in one.paths.values()}))
def test_every_route_but_the_metrics_is_passed_on(path: str) -> None:
    place = location(path)
    if path == "/metrics":
        assert place.only("return") == "404"
    else:
        assert place.only("proxy_pass") == "http://paddleinfer_http"


@pytest.mark.parametrize(
    "path",
    [
        "/inference.GRPCInferenceService/ModelStreamInfer",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/baidu.paddle_serving.pipeline_serving.PipelineService/inference",
    ],
)
def test_calls_go_on_over_grpc_as_long_as_a_stream_lasts(path: str) -> None:
    place = location(path)
    assert place.only("grpc_pass") == "grpc://paddleinfer_grpc"
    assert place.only("client_max_body_size") == "0"


def test_what_may_change_something_is_not_sent_twice() -> None:
    assert "non_idempotent" in location("/v2/models/m/infer").only_of("proxy_next_upstream")
    assert "non_idempotent" not in location("/services/s").only_of("proxy_next_upstream")


def test_a_trace_is_not_buffered() -> None:
    assert location("/v2/trace").only("proxy_buffering") == "off"


def test_every_client_has_a_limit_of_its_own() -> None:
    assert SERVER.only_of("limit_conn")[0] == "paddleinfer_clients"
    assert unit_options()["LimitNOFILE"] == ["65536"]
