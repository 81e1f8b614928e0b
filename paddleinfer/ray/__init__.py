"""An engine in each replica of a Ray cluster: Ray distributes, and the engine batches.

`deployment` makes a deployment of Ray Serve, and `application` one from a file; `CoalescingHandle` asks it
for many small requests at once. `replicas_for_load` is a policy by which Serve's autoscaler asks the engines
how many replicas they need. `add_inference_service` has Serve's gRPC proxy take the calls of the Open
Inference Protocol. `Scorer` is a class for ``map_batches`` of Ray Data, and for Spark. ``ray`` is Ray itself.
May import: engine, and below; ``http`` and ``grpc`` the server in shim/.
"""

from typing import TYPE_CHECKING

from paddleinfer.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from paddleinfer.ray.autoscaling import replicas_for_load as replicas_for_load
    from paddleinfer.ray.coalescing_handle import CoalescingHandle as CoalescingHandle
    from paddleinfer.ray.grpc import add_inference_service as add_inference_service
    from paddleinfer.ray.scorer import Scorer as Scorer
    from paddleinfer.ray.serve_application import application as application
    from paddleinfer.ray.serve_deployment import deployment as deployment

_HOME_OF = {
    "CoalescingHandle": "coalescing_handle",
    "Scorer": "scorer",
    "add_inference_service": "grpc",
    "application": "serve_application",
    "deployment": "serve_deployment",
    "replicas_for_load": "autoscaling",
}

__all__ = [*_HOME_OF]  # noqa: PLE0604 - names only
__getattr__, __dir__ = lazy_exports(__name__, _HOME_OF)
