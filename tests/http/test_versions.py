"""Versions of a model side by side: directories with numbers, which are served, and which one answers."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from engine_helpers import rows
from grpc_helpers import outputs_of as grpc_outputs_of
from grpc_helpers import raw
from grpc_helpers import serving as grpc_serving
from http_commands import plan
from http_helpers import error_of, json_tensor, outputs_of
from starlette.testclient import TestClient
from zoo import Zoo

from paddleinfer.config import EngineConfig
from paddleinfer.errors import ConfigError, ModelLoadError
from paddleinfer.shim import ModelSource, ServiceOptions, create_app
from paddleinfer.shim.service.versions import VersionPolicy, version_directories

ONE = EngineConfig.from_options({"instances": 1})
BODY = {"inputs": [json_tensor("x", rows())]}


@pytest.fixture(scope="module")
def directory(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1, 2 and 10, which answer with their numbers; and what is no version."""
    root = tmp_path_factory.mktemp("versions")
    for version in (1, 2, 10):
        shutil.copytree(zoo.directory(f"constant-{version}", zoo.formats[0]), root / str(version))
    for other in ("01", "0009", "0", "next", "-1", "1" + "0" * 30):
        (root / other).mkdir()
    (root / "3").write_text("a file")
    return root


@contextlib.contextmanager
def client_of(directory: Path, policy: str, **options: bool) -> Iterator[TestClient]:
    source = ModelSource(directory, ONE, VersionPolicy.of(policy))
    with TestClient(create_app({"m": source}, ServiceOptions(**options))) as client:
        yield client


def answer(client: TestClient, path: str) -> tuple[float, str]:
    """The value that all of an answer has, and the version that it names."""
    response = client.post(f"/v2/models/{path}/infer", json=BODY)
    (array,) = outputs_of(response).values()
    assert (array == array.flat[0]).all()
    return float(array.flat[0]), response.json()["model_version"]


# Which are served


def test_directories_with_numbers_are_versions_and_nothing_else_is(directory: Path) -> None:
    assert list(version_directories(directory)) == [1, 2, 10]
    assert version_directories(directory / "1") == {}
    assert version_directories(directory / "none") == {}


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("latest", [10]),
        ("latest:2", [2, 10]),
        ("latest:9", [1, 2, 10]),
        ("all", [1, 2, 10]),
        ("2", [2]),
        ("10, 1", [1, 10]),
    ],
)
def test_a_policy_chooses_versions_the_lowest_first(
    directory: Path, policy: str, versions: list[int]
) -> None:
    assert list(VersionPolicy.of(policy).chosen(directory)) == versions


@pytest.mark.parametrize("policy", ["", "latest:0", "latest:-1", "newest", "1,", "0", "1.5", 3, None])
def test_a_policy_that_is_none_is_refused(policy: object) -> None:
    with pytest.raises(ConfigError, match=r'version_policy must be "latest"'):
        VersionPolicy.of(policy)


def test_a_version_that_is_not_there_is_refused_with_those_that_are(directory: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"has no version 4; it has 1, 2, 10"):
        create_app({"m": ModelSource(directory, ONE, VersionPolicy.of("1,4"))})


def test_a_model_with_directories_of_numbers_beside_it_is_served_itself(zoo: Zoo, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(zoo.directory("constant-1", zoo.formats[0]), model)
    (model / "2").mkdir()
    with client_of(model, "all") as client:
        assert answer(client, "m") == (1, "1")
        assert answer(client, "m/versions/1") == (1, "1")


# Which answers


def test_each_version_answers_by_its_number_and_the_highest_without_one(directory: Path) -> None:
    with client_of(directory, "all") as client:
        assert answer(client, "m") == (10, "10")
        for version in (1, 2, 10):
            assert answer(client, f"m/versions/{version}") == (version, str(version))
        sentence = error_of(client.post("/v2/models/m/versions/3/infer", json=BODY), 404)
        assert sentence == "model 'm' has no version '3'; it has 1, 2, 10"


def test_metadata_health_statistics_and_metrics_are_of_each_version(directory: Path) -> None:
    with client_of(directory, "latest:2") as client:
        assert client.get("/v2/models/m").json()["versions"] == ["2", "10"]
        assert client.get("/v2/models/m/versions/2").json()["name"] == "m"
        assert client.get("/v2/models/m/versions/2/ready").json() == {"name": "m", "ready": True}
        error_of(client.get("/v2/models/m/versions/1/ready"), 404)
        index = client.post("/v2/repository/index").json()
        assert [(line["name"], line["version"], line["state"]) for line in index] == [
            ("m", "2", "READY"),
            ("m", "10", "READY"),
        ]
        for _ in range(3):
            answer(client, "m/versions/2")
        answer(client, "m")
        stats = client.get("/v2/models/stats").json()["model_stats"]
        counts = {line["version"]: line["inference_stats"]["success"]["count"] for line in stats}
        assert counts == {"2": 3, "10": 1}
        (one,) = client.get("/v2/models/m/versions/2/stats").json()["model_stats"]
        assert (one["version"], one["inference_stats"]["success"]["count"]) == ("2", 3)
        metrics = client.get("/metrics").text
        assert 'paddleinfer_requests_total{model="m/2",outcome="result"} 3.0' in metrics
        assert 'paddleinfer_requests_total{model="m/10",outcome="result"} 1.0' in metrics
        live = client.get("/v2/live").json()["models"]
        assert [(line["name"], line["version"]) for line in live] == [("m", "2"), ("m", "10")]


def test_clients_load_and_unload_all_versions_of_a_model(directory: Path) -> None:
    with client_of(directory, "latest:2", repository_control=True) as client:
        assert client.post("/v2/repository/models/m/unload").status_code == 200
        states = [line["state"] for line in client.post("/v2/repository/index").json()]
        assert states == ["UNAVAILABLE", "UNAVAILABLE"]
        error_of(client.post("/v2/models/m/infer", json=BODY), 503)
        assert client.post("/v2/repository/models/m/load").status_code == 200
        assert answer(client, "m") == (10, "10")
        assert answer(client, "m/versions/2") == (2, "2")


def test_while_the_highest_version_is_damaged_the_next_one_answers(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "m")
    for file in (tmp_path / "m/10").iterdir():
        file.write_bytes(b"damaged")
    with client_of(tmp_path / "m", "all") as client:
        assert answer(client, "m") == (2, "2")
        error_of(client.post("/v2/models/m/versions/10/infer", json=BODY), 503)
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get("/v2/models/m").json()["versions"] == ["1", "2"]


def test_versions_answer_over_grpc(directory: Path) -> None:
    source = ModelSource(directory, ONE, VersionPolicy.of("all"))
    with grpc_serving({"m": source}) as server:
        for version, value in (("", 10), ("1", 1), ("2", 2), ("10", 10)):
            response = server.infer(**{**raw(x=rows()), "model_version": version})
            assert response.model_version == (version or "10")
            (array,) = grpc_outputs_of(response).values()
            assert (array == value).all()
            assert server.call("ModelReady", name="m", version=version).ready
        assert not server.call("ModelReady", name="m", version="3").ready
        code, sentence = server.refused("ModelInfer", **{**raw(x=rows()), "model_version": "3"})
        assert code is grpc.StatusCode.NOT_FOUND
        assert sentence == "model 'm' has no version '3'; it has 1, 2, 10"
        assert list(server.call("ModelMetadata", name="m").versions) == ["1", "2", "10"]
        stats = server.call("ModelStatistics", name="m", version="2").model_stats
        assert [line.version for line in stats] == ["2"]


# The command


def test_the_command_takes_a_policy_for_all_models_and_a_file_one_for_each(
    directory: Path, tmp_path: Path
) -> None:
    assert plan(f"--model=m={directory}").models["m"].version_policy == VersionPolicy(1)
    asked = plan(f"--model=m={directory}", "--version-policy=1,2")
    assert asked.models["m"].version_policy == VersionPolicy(None, (1, 2))
    file = tmp_path / "server.toml"
    file.write_text(
        f'[server]\nversion_policy = "all"\n[models.a]\npath = "{directory}"\n'
        f'[models.b]\npath = "{directory}"\nversion_policy = "latest:2"\n'
    )
    models = plan(f"--config={file}").models
    assert models["a"].version_policy == VersionPolicy(None)
    assert models["b"].version_policy == VersionPolicy(2)
    with pytest.raises(ConfigError, match="version_policy must be"):
        plan(f"--model=m={directory}", "--version-policy=newest")
    with pytest.raises(ModelLoadError, match="has no version 7"):
        plan(f"--model=m={directory}", "--version-policy=7")


# Variants by weight


def weighted(directory: Path, *weights: int) -> dict[str, list[ModelSource]]:
    versions = list(version_directories(directory).values())
    return {
        "m": [ModelSource(path, ONE, weight=weight) for path, weight in zip(versions, weights, strict=False)]
    }


def test_requests_to_a_name_are_shared_by_weight_and_counted_per_version(directory: Path) -> None:
    with TestClient(create_app(weighted(directory, 3, 1))) as client:
        answers = [answer(client, "m") for _ in range(16)]
        assert answers == 4 * [(1, "1"), (1, "1"), (2, "2"), (1, "1")]
        assert answer(client, "m/versions/2") == (2, "2")  # is asked by its number, and takes no turn
        stats = client.get("/v2/models/stats").json()["model_stats"]
        counts = {line["version"]: line["inference_stats"]["success"]["count"] for line in stats}
        assert counts == {"1": 12, "2": 5}


def test_a_variant_of_weight_0_answers_only_by_its_number(directory: Path) -> None:
    with TestClient(create_app(weighted(directory, 1, 0))) as client:
        assert {answer(client, "m") for _ in range(5)} == {(1, "1")}
        assert answer(client, "m/versions/2") == (2, "2")


def test_a_variant_that_is_not_ready_is_passed_over(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "m")
    for file in (tmp_path / "m/2").iterdir():
        file.write_bytes(b"damaged")
    with TestClient(create_app(weighted(tmp_path / "m", 1, 5, 1))) as client:
        assert [answer(client, "m")[0] for _ in range(4)] == [1, 10, 1, 10]


def test_variants_take_turns_over_grpc(directory: Path) -> None:
    with grpc_serving(weighted(directory, 1, 1)) as server:
        assert [server.infer(**raw(x=rows())).model_version for _ in range(4)] == ["1", "2", "1", "2"]


def test_a_file_gives_variants_their_weights_and_options(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to(directory / "2")
    file = tmp_path / "server.toml"
    file.write_text(
        "[models.m]\ninstances = 1\nmax_batch_size = 4\n"
        f'[[models.m.variants]]\npath = "{directory}/1"\nweight = 3\n'
        '[[models.m.variants]]\npath = "b"\nweight = 1\nmax_batch_size = 8\n'
    )
    models = plan(f"--config={file}").models
    assert isinstance(models["m"], list)
    assert [(source.path, source.weight) for source in models["m"]] == [
        (directory / "1", 3),
        (tmp_path / "b", 1),
    ]
    assert [source.config.batching.max_batch_size for source in models["m"]] == [4, 8]
    with TestClient(create_app(models)) as client:
        assert [answer(client, "m")[1] for _ in range(4)] == ["1", "1", "2", "1"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('path = "a"\nvariants = []', "path in [models.m] of FILE cannot stand beside variants"),
        ('version_policy = "all"\nvariants = []', "version_policy in [models.m] of FILE cannot stand beside"),
        ("weight = 1\nvariants = []", "weight in [models.m] of FILE cannot stand beside variants"),
        ("variants = []", "variants in [models.m] of FILE must be tables, [[models.m.variants]] with a path"),
        ("variants = 3", "variants in [models.m] of FILE must be tables"),
        ('variants = ["a"]', "variants in [models.m] of FILE must be tables"),
        ("variants = [{weight = 1}]", "variant 1 in [models.m] of FILE needs path"),
        (
            'variants = [{path = "a"}]',
            "variant 1 in [models.m] of FILE needs a weight from 0 to 1000000, not None",
        ),
        (
            'variants = [{path = "a", weight = 1}, {path = "a", weight = "2"}]',
            "variant 2 in [models.m] of FILE needs a weight from 0 to 1000000, not '2'",
        ),
        (
            'variants = [{path = "a", weight = 1, version_policy = "all"}]',
            "version_policy in variant 1 in [models.m] of FILE has no meaning there",
        ),
        (
            'path = "a"\nweight = 1',
            "weight in [models.m] of FILE is of a variant, which is a table of its own",
        ),
        ("max_batch_size = 1", "[models.m] of FILE needs path"),
    ],
)
def test_variants_in_a_file_that_cannot_be_are_refused_by_their_key(
    tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f"[models.m]\n{text}\n")
    with pytest.raises(ConfigError) as refused:
        plan(f"--config={file}")
    assert sentence.replace("FILE", str(file)) in str(refused.value)


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ([], "must be ModelSources"),
        (["a"], "must be ModelSources"),
        ([ModelSource(Path("a"))], "needs a weight from 0 to 1000000, not None"),
        ([ModelSource(Path("a"), weight=-1)], "needs a weight from 0"),
        ([ModelSource(Path("a"), weight=0)], "needs a weight above 0"),
    ],
)
def test_variants_that_cannot_share_requests_are_refused(sources: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        create_app({"m": sources})


def test_a_directory_of_versions_is_no_variant(directory: Path) -> None:
    with pytest.raises(ConfigError, match=r"is one model, and .* has versions; name one of them"):
        create_app({"m": [ModelSource(directory, ONE, weight=1)]})


def test_the_command_takes_weights_behind_an_at_sign(directory: Path, tmp_path: Path) -> None:
    models = plan(f"--model=m={directory}/1@3", f"--model=m={directory}/2@1").models
    assert isinstance(models["m"], list)
    assert [(source.path, source.weight) for source in models["m"]] == [
        (directory / "1", 3),
        (directory / "2", 1),
    ]
    with pytest.raises(ConfigError, match="one variant of 'm' has no weight"):
        plan(f"--model=m={directory}/1@3", f"--model=m={directory}/2")
    named_so = tmp_path / "model@2"
    shutil.copytree(directory / "1", named_so)
    (source,) = plan(f"--model=m={named_so}").models.values()
    assert isinstance(source, ModelSource)
    assert (source.path, source.weight) == (named_so, None)
