"""Methods of Paddle Serving's ``Server`` that have no meaning here."""

from __future__ import annotations

from typing import Final

__all__ = ["NOT_OFFERED"]

NOT_OFFERED: Final = {
    **dict.fromkeys(
        ("set_lite", "set_xpu", "set_ascend_cl"), "paddleinfer runs on the CPU and on NVIDIA's GPUs"
    ),
    **dict.fromkeys(
        ("set_product_name", "set_container_id"), "the server has keys: paddleinfer-http --api-key"
    ),
    **dict.fromkeys(
        (
            "set_trt_workspace_size",
            "set_trt_use_static",
            "set_min_subgraph_size",
            "set_trt_dynamic_shape_info",
        ),
        "TensorRT's own settings cannot be set",
    ),
    "set_use_calib": "calibration for int8 is made offline, by PaddleSlim",
    "set_gpu_multi_stream": "each instance has a stream of its own already",
    "set_prometheus_port": "metrics are at /metrics on the port that serves",
    "use_encryption_model": "encrypted models are not read",
    **dict.fromkeys(
        (
            *("set_enable_dist_model", "set_dist_carrier_id", "set_dist_cfg_file", "set_dist_nranks"),
            *("set_dist_endpoints", "set_dist_subgraph_index", "set_dist_worker_serving_endpoint"),
            "set_dist_master_serving",
        ),
        "a model runs in one process",
    ),
}
"""Method -> why its values have no meaning here."""
