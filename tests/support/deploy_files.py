"""The files under deploy/, as the tests read them: what they start, what they ask Prometheus."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/paddleinfer"
DASHBOARD = DEPLOY / "grafana/dashboards/paddleinfer.json"
ALERTS = DEPLOY / "prometheus/alerts.yml"
# Kubernetes' own, where a pod says nothing; KServe's runtimes cannot say it.
USUAL_GRACE_S = 30
_CONTINUED = re.compile(r"\\\n\s*(?:#.*\n\s*)*")
_SECONDS = re.compile(r"(\d+)s?")


@dataclass(frozen=True)
class Start:
    """One way in which ``paddleinfer-http`` is started."""

    where: str
    arguments: list[str]
    environment: Mapping[str, str]
    grace_s: float | None
    """Between SIGTERM and SIGKILL; None: whoever runs it says."""


def documents(path: Path) -> list[Any]:
    """Those of a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of each object for Kubernetes, of the chart none."""
    for folder in ("kubernetes", "kserve"):
        for path in sorted((DEPLOY / folder).rglob("*.yaml")):
            for document in documents(path):
                if "kind" in document:
                    yield str(path.relative_to(DEPLOY)), document


# -- the image


@dataclass(frozen=True)
class Image:
    """What a Dockerfile says of the image that it builds."""

    environment: dict[str, str]
    entrypoint: list[str]
    command: list[str]
    health: list[str]
    user: str
    stop_signal: str
    volumes: list[str]
    ports: list[int]
    extras: str
    """Of the package, as the image has them unless told otherwise."""


def image() -> Image:
    """The last stage's; what the variants add is the environment of the stage for the CPU."""
    last: dict[str, list[str]] = {}
    stages: dict[str, dict[str, list[str]]] = {}
    for line in _CONTINUED.sub(" ", (DEPLOY / "Dockerfile").read_text()).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            last = stages.setdefault(rest.rpartition(" AS ")[2], {})
        elif word.isupper():
            last.setdefault(word, []).append(rest)
    pairs = [pair for text in [*stages["image-cpu"]["ENV"], *last["ENV"]] for pair in shlex.split(text)]
    return Image(
        environment=dict(pair.split("=", 1) for pair in pairs),
        entrypoint=json.loads(last["ENTRYPOINT"][-1]),
        command=json.loads(last["CMD"][-1]),
        health=json.loads(last["HEALTHCHECK"][-1].partition("CMD ")[2]),
        user=last["USER"][-1],
        stop_signal=last["STOPSIGNAL"][-1],
        volumes=[path for text in last["VOLUME"] for path in text.split()],
        ports=[int(port) for text in last["EXPOSE"] for port in text.split()],
        extras=dict(text.split("=") for text in stages["packages"]["ARG"] if "=" in text)["EXTRAS"],
    )


# -- what is started


def starts() -> Iterator[Start]:
    """Every start under deploy/, of the chart none."""
    built = image()
    yield Start("Dockerfile", built.command, built.environment, None)
    service = compose_server()
    yield Start(
        "docker-compose.yml",
        service["command"],
        {**built.environment, **service["environment"]},
        seconds(service["stop_grace_period"]),
    )
    for where, manifest in manifests():
        for pod in pods(manifest):
            yield from pod_starts(where, pod)
    unit = unit_options()
    program, *arguments = shlex.split(unit["ExecStart"][-1])
    assert program.endswith("/paddleinfer-http")
    yield Start("paddleinfer.service", arguments, {}, seconds(unit["TimeoutStopSec"][-1]))


def pods(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The specifications of pods in an object for Kubernetes that start the server."""
    if manifest["kind"] == "Deployment":
        yield manifest["spec"]["template"]["spec"]
    elif manifest["kind"] == "ClusterServingRuntime":
        yield manifest["spec"]
    elif manifest["kind"] == "InferenceService":
        [runtime] = [each for _, each in manifests() if each["kind"] == "ClusterServingRuntime"]
        [container] = runtime["spec"]["containers"]
        arguments = [*container["args"], *manifest["spec"]["predictor"]["model"]["args"]]
        yield {**runtime["spec"], "containers": [{**container, "args": arguments}]}


def pod_starts(where: str, pod: dict[str, Any]) -> Iterator[Start]:
    for container in pod["containers"]:
        given = {each["name"]: each["value"] for each in container.get("env", ())}
        yield Start(
            where,
            [text.replace("{{.Name}}", "name") for text in container["args"]],
            {**image().environment, **given},
            pod.get("terminationGracePeriodSeconds", USUAL_GRACE_S),
        )


def with_files(start: Start, model: Path, key: Path, settings: Path | None = None) -> Start:
    """The same start with paths of this machine, so that it can be planned."""

    def here(text: str) -> str:
        for path in ("/models/model", "/mnt/models"):
            text = text.replace(path, str(model))
        return text.replace("${CREDENTIALS_DIRECTORY}/api-key", str(key)).replace(
            "/etc/paddleinfer/server.toml", str(settings)
        )

    environment = {
        name: str(key) if name == "PADDLEINFER_API_KEY_FILE" else text
        for name, text in start.environment.items()
    }
    return replace(start, arguments=[here(text) for text in start.arguments], environment=environment)


def compose() -> dict[str, Any]:
    [document] = documents(DEPLOY / "docker-compose.yml")
    return dict(document)


def compose_server() -> dict[str, Any]:
    return dict(compose()["services"]["paddleinfer"])


def unit_options() -> dict[str, list[str]]:
    """Option of the systemd unit -> its values, in their order."""
    options: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd/paddleinfer.service").read_text().splitlines():
        name, is_option, value = line.partition("=")
        if is_option and not line.startswith("#"):
            options.setdefault(name, []).append(value)
    return options


def seconds(text: str) -> float:
    """Of ``40s`` or ``40``."""
    [number] = _SECONDS.fullmatch(text).groups()  # type: ignore[union-attr]
    return float(number)


# -- what Prometheus is asked


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every question under deploy/, of the chart none."""
    for panel, query in dashboard_queries():
        yield f"dashboard: {panel}", query
    for rule in alert_rules():
        yield f"alert: {rule['alert']}", rule["expr"]
    for where, manifest in manifests():
        yield from ((where, query) for query in keda_queries(manifest))
    for rule in adapter_rules():
        yield "prometheus-adapter.yaml", rule["metricsQuery"]
        yield "prometheus-adapter.yaml", rule["seriesQuery"]


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """(title, PromQL) of every panel, and of every variable that asks Prometheus."""
    board = dashboard()
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["definition"]


def alert_rules() -> list[dict[str, Any]]:
    [document] = documents(ALERTS)
    return [rule for group in document["groups"] for rule in group["rules"]]


def keda_queries(manifest: dict[str, Any]) -> Iterable[str]:
    if manifest["kind"] != "ScaledObject":
        return []
    return [trigger["metadata"]["query"] for trigger in manifest["spec"]["triggers"]]


def adapter_rules() -> list[dict[str, Any]]:
    [document] = documents(DEPLOY / "kubernetes/scaling/prometheus-adapter.yaml")
    return list(document["rules"]["custom"])
