"""Every metric that is asked for under deploy/ is one of ours, and every alert is explained."""

from __future__ import annotations

import re
from typing import Any

import pytest
from deploy_files import ROOT, adapter_rules, alert_rules, dashboard, manifests, queries
from prometheus_client.parser import text_string_to_metric_families

from paddleinfer import metrics
from paddleinfer.serve import metrics as service_metrics
from paddleinfer.shim.service import room_metrics
from paddleinfer.shim.service.model_room import ModelRoom

_NAMED = re.compile(r"\bpaddleinfer_\w+")
_LABELLED = re.compile(r"(paddleinfer_\w+)\{([^}]*)\}")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
# What Prometheus adds to all that it scrapes.
OF_PROMETHEUS = {"job", "instance", "namespace", "pod"}
QUERIES = list(queries())


async def _keeps(*_: Any) -> bool:
    return False


def scraped() -> str:
    """The metrics of a server with everything that one can have, and nothing in it."""
    room = ModelRoom(1, _keeps)
    return (metrics.exposition({}) + room_metrics.exposition(room) + service_metrics.exposition({})).decode()


def samples() -> set[str]:
    families = text_string_to_metric_families(scraped())
    return {family.name + suffix for family in families for suffix in _SUFFIXES[family.type]}


def unknown(query: str) -> set[str]:
    return set(_NAMED.findall(query)) - samples()


@pytest.mark.parametrize(("where", "query"), QUERIES)
def test_every_metric_of_a_query_is_ours(where: str, query: str) -> None:
    assert _NAMED.search(query) or "up{" in query, where
    assert unknown(query) == set(), where


def test_a_metric_that_is_not_ours_is_found() -> None:
    assert unknown("rate(paddleinfer_requests[1m]) / paddleinfer_instances") == {"paddleinfer_requests"}
    assert len(samples()) > 30


@pytest.mark.parametrize(("where", "query"), QUERIES)
def test_every_label_of_a_query_is_one_that_the_metric_has(where: str, query: str) -> None:
    for name, labels in _LABELLED.findall(query.replace("<<.LabelMatchers>>", "")):
        ours = {"service", "outcome", "stage"} if "_service_" in name else {"model", "outcome"}
        if name == "paddleinfer_max_loaded_bytes":
            ours = set()
        assert set(_LABEL.findall(labels)) <= ours | OF_PROMETHEUS, (where, name)


def test_the_autoscaler_asks_for_what_the_adapter_gives() -> None:
    [autoscaler] = [each for _, each in manifests() if each["kind"] == "HorizontalPodAutoscaler"]
    asked = {metric["pods"]["metric"]["name"] for metric in autoscaler["spec"]["metrics"]}
    given = {rule["seriesQuery"].partition("{")[0] for rule in adapter_rules()}
    assert asked == given == {"paddleinfer_replicas_needed"}


def test_the_dashboard_shows_most_of_what_there_is() -> None:
    shown = {name for where, query in QUERIES if "dashboard" in where for name in _NAMED.findall(query)}
    families = {
        family.name: {family.name + suffix for suffix in _SUFFIXES[family.type]}
        for family in text_string_to_metric_families(scraped())
    }
    assert {name for name, of_it in families.items() if not of_it & shown} == {
        "paddleinfer_queued_requests",  # as rows
        "paddleinfer_instances_busy",  # as the share of the time
        "paddleinfer_offered_work_seconds",
        "paddleinfer_utilisation_ratio",  # by its counters
        "paddleinfer_shed_ratio",  # likewise
        "paddleinfer_request_seconds",
        "paddleinfer_queue_seconds",
        "paddleinfer_internal_runs",
        "paddleinfer_cache_entries",
        "paddleinfer_cache_bytes",
        "paddleinfer_cache_evictions",
        "paddleinfer_unloads_for_room",
        "paddleinfer_service_requests_under_way",
    }


def test_the_dashboard_s_panels_have_places_and_numbers_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert all(0 <= x < 24 for x, _ in taken)


def test_every_alert_has_a_rank_a_sentence_and_a_place_in_the_page() -> None:
    page = (ROOT / "docs/deployment.md").read_text()
    for rule in alert_rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert f"`{rule['alert']}`" in page, rule["alert"]
