"""Makes a deployment of Ray Serve whose replicas are engines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddleinfer.config import EngineConfig, EngineOptions
from paddleinfer.engine.engine import one_config
from paddleinfer.ray.http import check_http_options
from paddleinfer.ray.replica import CLOSE_TIMEOUT_S, EngineReplica
from paddleinfer.ray.sizing import replica_size

if TYPE_CHECKING:
    from ray.serve import Deployment
    from typing_extensions import Unpack

__all__ = ["deployment"]

# As long as an engine's close() lets accepted requests end.
_DRAIN_S = 30.0
# Serve looks for the last request's end each time; its default of 2 s makes every replica's end as long.
_DRAIN_LOOK_S = 0.5
# Serve knows one number for all refusals of its own. A whole second is the least that the header can say.
_RETRY_AFTER_S = 1.0


def deployment(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    http: Mapping[str, Any] | None = None,
    config: EngineConfig | None = None,
    **engine_options: Unpack[EngineOptions],
) -> Deployment:
    """Makes a deployment of Ray Serve: ``serve.run(paddleinfer.ray.deployment("model_dir").bind())``.

    Each replica has one engine, and all requests that reach it share batches: by handle
    (``await handle.remote({"x": rows})``), and over HTTP by all routes of ``paddleinfer-http``. Put no
    ``@serve.batch`` on top. Everything that Serve can be told is changed by ``.options(...)`` of the result,
    with these defaults:

    - ``max_ongoing_requests`` is 4 times ``instances`` times ``max_batch_size``: a batch that runs, one that
      waits for it, and two that the engine can order by deadline and shed. Serve's own default of 5 leaves
      an engine nothing to batch.
    - ``max_queued_requests`` is ``max_queue_rows``, for each handle and proxy. What comes beyond gets
      ``BackPressureError``, over HTTP status 429 with ``Retry-After: 1``. The engine's own refusals have the
      time after which it predicts room.
    - ``graceful_shutdown_timeout_s`` lets requests end for 30 seconds and the engine close.

    Parameters
    ----------
    path
        The model, as ``Engine`` takes it, readable on every node.
    name
        The name of the deployment, and of the model in the routes over HTTP; None is the last part of `path`.
    num_cpus
        CPUs that a replica reserves; None: ``instances`` times ``cpu_threads``. Without ``instances`` there
        are as many as the CPUs allow, of one CPU one.
    num_gpus
        GPUs that a replica reserves; None: as many as ``device`` names. Ray numbers those of each replica
        from 0.
    http
        Fields of ``paddleinfer.shim.ServiceOptions``, such as ``{"api_key": "..."}``.
    config
        All options of the engine, grouped; it replaces the keywords.
    **engine_options
        The options of the engine.

    Raises
    ------
    ConfigError
        An option is unknown or out of range, or the devices do not fit `num_gpus`.
    """
    from ray import serve

    model, label, routes = os.fspath(path), name or Path(path).name, dict(http or {})
    check_http_options(label, routes)
    size = replica_size(one_config(config, engine_options), num_cpus, num_gpus)

    class PaddleInferReplica(EngineReplica):
        """A replica of this model."""

        def __init__(self) -> None:
            super().__init__(model, size.config, label, routes)

    return serve.deployment(
        name=label,
        ray_actor_options={"num_cpus": size.num_cpus, "num_gpus": size.num_gpus},
        max_ongoing_requests=size.max_ongoing_requests,
        max_queued_requests=size.config.batching.max_queue_rows,
        backpressure_config={"status_code": 429, "retry_after_s": _RETRY_AFTER_S},
        graceful_shutdown_timeout_s=_DRAIN_S + 2 * CLOSE_TIMEOUT_S,
        graceful_shutdown_wait_loop_s=_DRAIN_LOOK_S,
    )(PaddleInferReplica)
