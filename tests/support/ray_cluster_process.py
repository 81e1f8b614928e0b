"""A cluster of two nodes on this machine, one of which dies under load; prints what became of the requests.

It is a process of its own, because a process has one Ray.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import ray
from engine_helpers import eventually, rows
from ray import serve
from ray.cluster_utils import Cluster
from ray.exceptions import RayActorError
from ray_load import RayLoad

from paddleinfer import EngineConfig
from paddleinfer.ray.replica import EngineReplica


def main(model: str) -> dict[str, Any]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    other = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        return outcome(cluster, other, model)
    finally:
        ray.shutdown()
        cluster.shutdown()


def outcome(cluster: Cluster, other: Any, model: str) -> dict[str, Any]:
    class Located(EngineReplica):  # within a function, so that Ray sends it as it is
        def node(self) -> str:
            return str(ray.get_runtime_context().get_node_id())

    made = serve.deployment(
        name="located",
        num_replicas=2,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=100,
        health_check_period_s=1,
    )(Located)
    serve.start(proxy_location="Disabled")
    handle = serve.run(made.bind(model, EngineConfig.from_options({"instances": 1}), "located", {}))
    nodes: set[str] = set()

    def both_answer() -> bool:
        nodes.add(handle.node.remote().result())
        return len(nodes) == 2

    def right(answer: Any) -> bool:
        (output,) = answer.values()
        return float(output[0, 0]) == 2

    with RayLoad(handle, rows(), right, callers=4, retried=(RayActorError,)) as load:
        found = eventually(both_answer) and eventually(lambda: load.answered >= 50)
        cluster.remove_node(other, allow_graceful=False)
        before = load.answered
        went_on = eventually(lambda: load.answered >= before + 50)
    return {
        "nodes": len(nodes),
        "went_on": found and went_on,
        "asked": load.asked,
        "answered": load.answered,
        "wrong": load.wrong,
        "lost": load.lost,
        "errors": dict(load.errors),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
