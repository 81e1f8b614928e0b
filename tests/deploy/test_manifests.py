"""The image, and what runs it: health routes that there are, no root, and little to write to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from deploy_files import DEPLOY, ROOT, compose_server, image, manifests, pods, unit_options

from paddleinfer.shim.http.routes import OPERATIONS

CACHE = "/var/cache/paddleinfer"
PODS = [(where, pod) for where, manifest in manifests() for pod in pods(manifest)]
CONTAINERS = [(where, pod, each) for where, pod in PODS for each in pod["containers"]]
# Of routes that want no key, and no particular Host.
OPEN_PATHS = {
    path for one in OPERATIONS if not one.needs_key and not one.checks_host for path in one.paths.values()
}
_PATH = re.compile(r"/v2/[\w/]+")


def probes(container: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        yield name, container[name]


@pytest.mark.parametrize(("where", "pod", "container"), CONTAINERS)
def test_probes_ask_health_routes_of_the_server(
    where: str, pod: dict[str, Any], container: dict[str, Any]
) -> None:
    paths = {name: probe["httpGet"]["path"] for name, probe in probes(container)}
    assert set(paths.values()) <= OPEN_PATHS
    assert paths == {
        "startupProbe": "/v2/health/ready",
        "readinessProbe": "/v2/health/ready",
        "livenessProbe": "/v2/health/live",
    }, where


@pytest.mark.parametrize(("where", "pod", "container"), CONTAINERS)
def test_probes_ask_the_port_that_the_server_listens_on(
    where: str, pod: dict[str, Any], container: dict[str, Any]
) -> None:
    named = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
    flags = [text for text in container["args"] if text.startswith("--port=")]
    port = int(flags[0].partition("=")[2]) if flags else int(image().environment["PADDLEINFER_PORT"])
    for _, probe in probes(container):
        asked = probe["httpGet"]["port"]
        assert named.get(asked, asked) == port, where


@pytest.mark.parametrize(("where", "pod", "container"), CONTAINERS)
def test_a_load_may_take_minutes_and_a_busy_server_is_not_restarted(
    where: str, pod: dict[str, Any], container: dict[str, Any]
) -> None:
    startup, live = container["startupProbe"], container["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300
    assert live["periodSeconds"] * live["failureThreshold"] >= 60 and live["timeoutSeconds"] >= 5


@pytest.mark.parametrize(("where", "pod", "container"), CONTAINERS)
def test_containers_are_not_root_and_write_only_to_the_cache_and_to_temporary_files(
    where: str, pod: dict[str, Any], container: dict[str, Any]
) -> None:
    own = {**pod.get("securityContext", {}), **container["securityContext"]}
    assert own["runAsNonRoot"] is True and own["runAsUser"] == int(image().user.partition(":")[0])
    assert own["readOnlyRootFilesystem"] is True and own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    writable = {m["mountPath"]: m["name"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert set(writable) == {CACHE, "/tmp"}
    assert all("emptyDir" in volumes[name] for name in writable.values())


@pytest.mark.parametrize(("where", "pod", "container"), CONTAINERS)
def test_containers_have_whole_cores(where: str, pod: dict[str, Any], container: dict[str, Any]) -> None:
    resources = container["resources"]
    assert resources["limits"]["cpu"] == resources["requests"]["cpu"] == str(int(resources["limits"]["cpu"]))
    assert resources["limits"]["memory"] == resources["requests"]["memory"]


def test_kubernetes_gives_the_server_no_variables_of_services() -> None:
    deployments = [pod for where, pod in PODS if "deployment" in where]
    assert deployments and all(pod["enableServiceLinks"] is False for pod in deployments)


def test_the_pods_that_a_service_and_a_budget_choose_are_those_of_the_deployment() -> None:
    found = {manifest["kind"]: manifest for _, manifest in manifests()}
    template = found["Deployment"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    [container] = template["spec"]["containers"]
    names = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} == names
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        assert found[kind]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] < found["Deployment"]["spec"]["replicas"]


def test_the_image_s_user_is_a_number_that_is_not_root() -> None:
    user, _, group = image().user.partition(":")
    assert int(user) > 0 and int(group) > 0


def test_the_image_ends_by_the_signal_that_begins_the_drain_and_says_whether_it_is_ready() -> None:
    built = image()
    assert built.stop_signal == "SIGTERM"
    assert built.entrypoint == ["paddleinfer-http"]  # no shell between, which would keep the signal
    [path] = _PATH.findall(built.health[-1])
    assert path in OPEN_PATHS
    assert "os.environ['PADDLEINFER_PORT']" in built.health[-1]
    compile(built.health[-1], "HEALTHCHECK", "exec")
    assert built.ports == [int(built.environment[f"PADDLEINFER_{name}"]) for name in ("PORT", "GRPC_PORT")]


def test_the_cache_is_where_the_image_says() -> None:
    built = image()
    assert built.volumes == [CACHE]
    assert f"{built.environment['XDG_CACHE_HOME']}/paddleinfer" == CACHE
    unit = unit_options()
    assert f"/var/cache/{unit['CacheDirectory'][0]}" == CACHE
    assert "XDG_CACHE_HOME=/var/cache" in unit["Environment"]


def test_compose_starts_it_read_only_and_for_this_machine_alone() -> None:
    server = compose_server()
    assert server["read_only"] is True and server["cap_drop"] == ["ALL"]
    targets = {volume.rpartition(":")[2] for volume in server["volumes"] if not volume.endswith(":ro")}
    assert targets == {CACHE} and server["tmpfs"] == ["/tmp"]
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])


def test_the_image_is_built_from_what_the_wheel_needs_and_nothing_else() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    assert {"setup.py", "pyproject.toml", "_ext", "paddleinfer", "shim", "constraints.txt"} <= set(kept)


def test_the_unit_may_compile_kernels_and_no_option_is_tried_twice() -> None:
    unit = unit_options()
    assert "MemoryDenyWriteExecute" not in unit
    assert unit["RestartPreventExitStatus"] == ["2"] and unit["KillSignal"] == ["SIGTERM"]
    assert unit["DynamicUser"] == ["yes"] and unit["ProtectSystem"] == ["strict"]
