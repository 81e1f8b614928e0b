"""Changes under load: another model, new or fewer replicas, one that dies, a step of the load."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from engine_helpers import PATIENCE_S, eventually, rows
from ray_load import RayLoad
from zoo import Zoo

from paddleinfer import ConfigError, Engine, EngineConfig
from paddleinfer.engine.scaling import ScalingWindow
from paddleinfer.ray import application
from paddleinfer.ray.replica import EngineReplica, check_user_config

SHARE = 0.4
"""CPUs of a replica, so that several find room on two."""


def value_of(answer: Any) -> float:
    (output,) = answer.values()
    return float(output[0, 0])


def among(*values: float) -> Callable[[Any], bool]:
    return lambda answer: value_of(answer) in values


def grows(load: RayLoad, by: int = 50) -> bool:
    """Whether so many more requests are answered, from now on."""
    before = load.answered
    return eventually(lambda: load.answered >= before + by)


def deploy(serve: Any, zoo: Zoo, replicas: int, served: str) -> Any:
    """Does what ``serve deploy`` does with a file; one application over ``weight-2``."""
    from ray.serve._private.api import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    first = str(zoo.directory("weight-2"))
    options = {
        "name": "weight",
        "num_replicas": replicas,
        "user_config": {"path": str(zoo.directory(served))},
    }
    described = {
        "name": "weight",
        "route_prefix": "/weight",
        "import_path": "paddleinfer.ray:application",
        "args": {"path": first, "name": "weight", "num_cpus": SHARE},
        "deployments": [options],
    }
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate({"applications": [described]}))
    assert eventually(lambda: is_running(serve, "weight", "weight", replicas))
    return serve.get_app_handle("weight")


def is_running(serve: Any, app: str, deployment: str, replicas: int) -> bool:
    """Whether the application runs with just so many replicas."""
    told = serve.status().applications.get(app)
    if told is None or told.status != "RUNNING":
        return False
    return dict(told.deployments[deployment].replica_states) == {"RUNNING": replicas}


def replica_actors(ray: Any) -> list[str]:
    named = ray.util.list_named_actors(all_namespaces=True)
    return [actor["name"] for actor in named if actor["name"].startswith("SERVE_REPLICA::")]


@pytest.mark.ray
def test_a_file_changes_the_model_and_the_number_of_replicas_without_loss(serve: Any, zoo: Zoo) -> None:
    handle = deploy(serve, zoo, 2, "weight-2")
    assert value_of(handle.remote(rows()).result()) == 2
    assert handle.stats.remote().result()["generation"] == 1  # the deployment's own model is not read again
    with RayLoad(handle, rows(), among(2, 3)) as load:
        assert grows(load)
        deploy(serve, zoo, 2, "weight-3")
        assert eventually(lambda: {value_of(handle.remote(rows()).result()) for _ in range(8)} == {3})
        assert handle.stats.remote().result()["generation"] == 2
        deploy(serve, zoo, 1, "weight-3")
        assert grows(load)
    assert (load.wrong, load.lost, load.answered) == (0, 0, load.asked)
    assert not load.errors


@pytest.mark.ray
def test_a_rolling_update_loses_nothing(serve: Any, zoo: Zoo) -> None:
    from paddleinfer.ray import deployment

    def run(model: str) -> Any:
        made = deployment(zoo.directory(model), name="weight", num_cpus=SHARE)
        return serve.run(made.options(num_replicas=2).bind(), name="rolled", route_prefix="/rolled")

    with RayLoad(run("weight-2"), rows(), among(2, 3)) as load:
        assert grows(load)
        handle = run("weight-3")
        assert grows(load)
        assert value_of(handle.remote(rows()).result()) == 3
    assert (load.wrong, load.lost, load.answered) == (0, 0, load.asked)


@pytest.mark.ray
def test_callers_ask_again_where_a_replica_died_and_every_answer_is_right(
    local_ray: Any, serve: Any, zoo: Zoo
) -> None:
    from ray.exceptions import RayActorError

    from paddleinfer.ray import deployment

    made = deployment(zoo.directory("weight-2"), name="weight", num_cpus=SHARE).options(num_replicas=2)
    handle = serve.run(made.bind(), name="killed", route_prefix="/killed")
    before = set(replica_actors(local_ray))
    assert len(before) == 2
    with RayLoad(handle, rows(), among(2), retried=(RayActorError,)) as load:
        assert grows(load)
        local_ray.kill(local_ray.get_actor(min(before), namespace="serve"))
        assert eventually(lambda: is_running(serve, "killed", "weight", 2))
        assert eventually(lambda: len(set(replica_actors(local_ray)) - before) == 1)
        assert grows(load)
    assert (load.wrong, load.lost, load.answered) == (0, 0, load.asked)
    assert set(load.errors) <= {"ActorDiedError", "ActorUnavailableError", "RayActorError"}


def slow_replica() -> type[EngineReplica]:
    """Ten callers are more than one of them can serve, on any machine: its runs sleep."""

    class Slow(EngineReplica):  # within a function, so that Ray sends it as it is
        def _load(self, _: str, config: EngineConfig) -> Engine:
            def slow(feeds: dict[str, Any]) -> dict[str, Any]:
                time.sleep(0.05)
                return {"y": feeds["x"] * 2}

            engine = Engine.from_callable(slow, {"x": ("float32", (-1, 3))}, ["y"], config=config)
            engine._scaling = ScalingWindow(engine.stats(), time.monotonic(), window_s=5.0)
            return engine

    return Slow


@pytest.mark.ray
def test_the_number_of_replicas_follows_a_step_of_the_load(serve: Any) -> None:
    policy = {"policy_function": "paddleinfer.ray:replicas_for_load"}
    scaling = {
        "min_replicas": 1,
        "max_replicas": 2,
        "upscale_delay_s": 0.5,
        "downscale_delay_s": 0.5,
        "look_back_period_s": 2,
        "policy": policy,
    }
    made = serve.deployment(
        name="slow",
        ray_actor_options={"num_cpus": SHARE},
        max_ongoing_requests=100,
        autoscaling_config=scaling,
    )(slow_replica())
    config = EngineConfig.from_options({"instances": 1, "max_batch_size": 1})
    handle = serve.run(made.bind("", config, "slow", {}), name="scaled", route_prefix="/scaled")
    assert is_running(serve, "scaled", "slow", 1)
    with RayLoad(handle, rows(), lambda answer: bool((answer["y"] == 2).all()), callers=10) as load:
        assert eventually(lambda: is_running(serve, "scaled", "slow", 2))
        assert grows(load, 20)
    assert eventually(lambda: is_running(serve, "scaled", "slow", 1))
    assert (load.wrong, load.lost) == (0, 0)
    figures = handle.record_autoscaling_stats.remote().result(timeout_s=PATIENCE_S)
    assert set(figures) == {"replicas_needed", "predicted_delay_s", "share_shed", "utilisation"}


@pytest.mark.parametrize("given", [{"pth": "x"}, "model_dir", ["path"]])
def test_a_wrong_user_config_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match='user_config must be a dict of "path" and "load", not '):
        check_user_config(given)


def test_a_file_without_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="args needs the model's path"):
        application({"name": "mlp"})
