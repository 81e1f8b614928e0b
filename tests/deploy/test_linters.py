"""What the linters of each format say of the files under deploy/."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_files import ALERTS, CHART, DEPLOY, ROOT, manifests, pod_starts, pods, with_files
from grpc_helpers import make_certificate
from http_commands import plan
from system_tools import need
from zoo import Zoo

pytestmark = pytest.mark.system

TOOLS = ROOT / ".venv-deploy/bin"
OF_KUBERNETES = {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
RELEASES: dict[str, dict[str, Any]] = {
    "as it stands": {},
    "hpa": {"autoscaling": {"by": "hpa", "loadOfReplica": 1.25}},
    "keda": {"autoscaling": {"by": "keda"}},
    "everything": {
        "apiKey": {"secretName": "key"},
        "tls": {"secretName": "tls"},
        "drain": {"delaySeconds": 20, "timeoutSeconds": 100},
        "gpus": 1,
        "models": {"hostPath": {"path": "/srv/models"}},
        "options": {
            "max_loaded_bytes": 60_000_000,
            "ir_optim": True,
            "default_timeout": 0.5,
            "policy": "eager",
        },
        "serviceMonitor": {"enabled": True},
        "podDisruptionBudget": {"maxUnavailable": "10%"},
    },
}
# What a release adds to what stands in deploy/kubernetes/.
_OF_HELM = (
    "helm.sh/chart",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "app.kubernetes.io/instance",
)


def run(*command: str | Path, given: str | None = None) -> str:
    """What a program writes; it has to succeed."""
    done = subprocess.run(
        [str(part) for part in command], input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tool(name: str) -> Path:
    path = TOOLS / name
    assert path.exists(), "make test-deploy installs it"
    return path


@pytest.fixture(scope="module")
def rendered() -> dict[str, Any]:
    script = ROOT / "tests/support/chart.py"
    written = run(tool("python"), script, CHART, given=json.dumps(list(RELEASES.values())))
    return dict(json.loads(written))


@pytest.fixture(scope="module")
def releases(rendered: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Name of a release -> its objects."""
    return dict(zip(RELEASES, rendered["releases"], strict=True))


def only(objects: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    [found] = [each for each in objects if each["kind"] == kind]
    return found


def test_hadolint_has_nothing_to_say_of_the_image() -> None:
    assert run(tool("hadolint"), DEPLOY / "Dockerfile") == ""


def test_compose_takes_its_file() -> None:
    text = (DEPLOY / "docker-compose.yml").read_text()
    before, _, rest = text.partition("${MODEL_DIR:")
    code = "import sys, compose_spec; compose_spec.PyCompose.from_yaml(sys.stdin.read()).validate()"
    run(tool("python"), "-c", code, given=before + "./model" + rest.partition("}")[2])


def test_kubernetes_schemas_take_the_manifests_and_every_release(
    releases: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    objects = [each for _, each in manifests()] + [each for one in releases.values() for each in one]
    checked = [each for each in objects if each["kind"] in OF_KUBERNETES]
    others = {each["kind"] for each in objects} - OF_KUBERNETES
    # They have schemas of their own projects.
    assert others == {
        "Kustomization",
        "ClusterServingRuntime",
        "InferenceService",
        "ScaledObject",
        "ServiceMonitor",
    }
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all(checked))
    said = run(tool("kubernetes-validate"), "--strict", "--kubernetes-version", "1.37.0", path)
    assert said.count("passed") == len(checked)
    path.write_text(yaml.safe_dump_all([{**checked[0], "sepc": {}}]))
    done = subprocess.run(
        [tool("kubernetes-validate"), "--strict", path], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "sepc" in done.stdout + done.stderr


def test_helm_has_nothing_to_say_of_the_chart(rendered: dict[str, Any]) -> None:
    assert rendered["errors"] == []
    assert [message["error"] for message in rendered["messages"]] == ["icon is recommended"]


def test_a_release_is_what_the_manifests_are(releases: dict[str, list[dict[str, Any]]]) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items() if name not in _OF_HELM}
        return [plain(each) for each in value] if isinstance(value, list) else value

    for _, manifest in manifests():
        if manifest["kind"] not in OF_KUBERNETES - {"HorizontalPodAutoscaler"}:
            continue
        release = plain(only(releases["as it stands"], manifest["kind"]))
        if manifest["kind"] == "Service":
            assert release["spec"].pop("type") == "ClusterIP"
        if manifest["kind"] == "Deployment":
            [container] = release["spec"]["template"]["spec"]["containers"]
            assert container.pop("imagePullPolicy") == "IfNotPresent"
            container["image"] = "paddleinfer"  # which the kustomization replaces
        assert release == manifest


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_starts_a_server_that_there_is_and_lets_it_end(
    release: str, releases: dict[str, list[dict[str, Any]]], zoo: Zoo, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    certificate, private = make_certificate(tmp_path)
    [pod] = pods(only(releases[release], "Deployment"))
    [start] = pod_starts(release, pod)
    start = with_files(start, zoo.directory("mlp", zoo.formats[0]), key)
    environment = {
        **start.environment,
        **({"PADDLEINFER_TLS_CERT": str(certificate)} if "PADDLEINFER_TLS_CERT" in start.environment else {}),
        **({"PADDLEINFER_TLS_KEY": str(private)} if "PADDLEINFER_TLS_KEY" in start.environment else {}),
    }
    environment["PADDLEINFER_DEVICE"] = "cpu"
    planned = plan(*start.arguments, environment=environment)
    assert start.grace_s is not None
    assert start.grace_s >= planned.server.drain_delay + planned.server.drain_timeout + 10
    if release == "everything":
        assert planned.server.max_loaded_bytes == 60_000_000
        assert (planned.server.drain_delay, planned.server.drain_timeout) == (20, 100)
        [source] = planned.models.values()
        config = source.config.flat()  # type: ignore[union-attr]
        assert (config["ir_optim"], config["default_timeout"], config["policy"]) == (True, 0.5, "eager")


def test_a_release_scales_by_what_it_is_told(releases: dict[str, list[dict[str, Any]]]) -> None:
    [metric] = only(releases["hpa"], "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "paddleinfer_replicas_needed"
    assert metric["pods"]["target"]["averageValue"] == "1.25"
    [trigger] = only(releases["keda"], "ScaledObject")["spec"]["triggers"]
    assert trigger["metadata"]["query"] == (
        'sum(paddleinfer_replicas_needed{namespace="default", pod=~"paddleinfer-.*"})'
    )
    for release in ("hpa", "keda"):
        assert "replicas" not in only(releases[release], "Deployment")["spec"]


def test_another_volume_takes_the_place_of_the_claim(releases: dict[str, list[dict[str, Any]]]) -> None:
    [pod] = pods(only(releases["everything"], "Deployment"))
    [models] = [volume for volume in pod["volumes"] if volume["name"] == "models"]
    assert models == {"name": "models", "hostPath": {"path": "/srv/models"}}
    [container] = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_promtool_takes_the_rules_and_their_tests() -> None:
    promtool = need("promtool", "prometheus")
    assert "SUCCESS" in run(promtool, "check", "rules", ALERTS)
    assert "SUCCESS" in run(promtool, "check", "config", DEPLOY / "prometheus/prometheus.yml")
    assert "SUCCESS" in run(promtool, "test", "rules", DEPLOY / "prometheus/alerts_test.yml")


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "systemd/paddleinfer.service").read_text()
    program = "/opt/paddleinfer/bin/paddleinfer-http"
    assert text.count(f"ExecStart={program}") == 1
    unit = tmp_path / "paddleinfer.service"
    unit.write_text(text.replace(program, need("true", "coreutils")))  # it has to be there
    assert run(need("systemd-analyze", "systemd"), "verify", "--man=no", unit) == ""
