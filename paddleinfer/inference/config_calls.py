"""What each call of Paddle's ``Config`` becomes: an option of the engine, a note, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["ANSWERS", "IN_FORCE", "NOTED", "REFUSED"]

_TENSORRT: Final = "TensorRT is used for Half and Int8 only, with Paddle's usual settings"
_NO_SUCH_DEVICE: Final = "paddleinfer runs on the CPU and on NVIDIA's GPUs"
_LITE: Final = "Paddle Lite is another runtime"
_AT_SAVING: Final = "models are written by paddle.jit.save alone"

IN_FORCE: Final[Mapping[str, str]] = {
    "set_model": "the model: a directory, a directory and the stem of its files, or a program and parameters",
    "set_prog_file": "the program's file",
    "set_params_file": "the parameters' file",
    "set_model_buffer": "the model from memory; it is kept in files that only this user can read",
    "disable_gpu": '`device="cpu"`, which is the default',
    "enable_use_gpu": '`device="gpu:N"` and `gpu_memory_mb`; in Float32 only',
    "enable_onednn": "oneDNN's kernels, but for models that Paddle is known to fail with there",
    "disable_onednn": "`onednn=False`",
    "set_onednn_cache_capacity": "`max_onednn_shapes`, where it is above 0",
    "enable_onednn_bfloat16": '`precision="bfloat16"`',
    "set_cpu_math_library_num_threads": "`cpu_threads`; `instances` follows from it",
    "switch_ir_optim": "`ir_optim`; on unless it is switched off, as in Paddle",
    "enable_memory_optim": "`mem_optim`; on unless it is switched off",
    "delete_pass": "`delete_passes`",
    "pass_builder": "an object with `delete_pass` alone",
    "disable_glog_info": "`paddle_log=False`, which is the default",
    "enable_tensorrt_engine": '`precision="float16"` or `"int8"`, with TensorRT on a GPU',
    "enable_onnxruntime": '`backend="onnxruntime"`',
    "disable_onnxruntime": '`backend="paddle"`, which is the default',
    "enable_openvino_engine": '`backend="openvino"`, in Float32 only',
    "switch_use_feed_fetch_ops": "off, as handles need it; on is refused",
    "switch_specify_input_names": "inputs are always found by name",
    "summary": "a table of what was asked for",
}
"""Call -> what it becomes."""

NOTED: Final[Mapping[str, str]] = {
    "set_onednn_op": "oneDNN runs every operator that it has a kernel for",
    "set_bfloat16_op": "bfloat16 is for every operator that has it",
    "disable_onednn_fc_passes": "the passes stay; delete_pass leaves single ones out",
    "enable_new_executor": "the engine chooses the executor by the model's format",
    "enable_new_ir": "the engine chooses the form of the program by the model's format",
    "set_optimization_level": "Paddle's usual passes run",
    "enable_cinn": "the model runs without Paddle's compiler (CINN)",
    "switch_ir_debug": "graphs are not written to files",
    "enable_profile": "Engine.trace() and Engine.diagnose() show where the time goes",
    "set_optim_cache_dir": "nothing is cached on disk",
    "use_optimized_model": "the model's own program is loaded",
    "enable_ort_optimization": "onnxruntime optimises as the engine has it do",
    "exp_disable_mixed_precision_ops": "operators run in the model's own precision",
    "exp_enable_mixed_precision_ops": "operators run in the model's own precision",
    "exp_enable_use_cutlass": "Paddle's usual kernels run",
    "exp_sparse_conv_using_buffer": "Paddle's usual kernels run",
}
"""Call without effect -> why that changes no result."""

REFUSED: Final[Mapping[str, str]] = {
    "enable_xpu": _NO_SUCH_DEVICE,
    "set_xpu_device_id": _NO_SUCH_DEVICE,
    "set_xpu_config": _NO_SUCH_DEVICE,
    "xpu_config": _NO_SUCH_DEVICE,
    "enable_custom_device": _NO_SUCH_DEVICE,
    "enable_ipu": _NO_SUCH_DEVICE,
    "set_ipu_config": _NO_SUCH_DEVICE,
    "set_ipu_custom_info": _NO_SUCH_DEVICE,
    "load_ipu_config": _NO_SUCH_DEVICE,
    "enable_opencl": _NO_SUCH_DEVICE,
    "enable_dlnne": _NO_SUCH_DEVICE,
    "nnadapter": _NO_SUCH_DEVICE,
    "enable_lite_engine": _LITE,
    "dist_config": "a model runs within one process",
    "set_dist_config": "a model runs within one process",
    "collect_shape_range_info": _TENSORRT,
    "set_trt_dynamic_shape_info": _TENSORRT,
    "enable_tuned_tensorrt_dynamic_shape": _TENSORRT,
    "enable_tensorrt_dla": _TENSORRT,
    "enable_tensorrt_explicit_quantization": _TENSORRT,
    "enable_tensorrt_inspector": _TENSORRT,
    "enable_tensorrt_memory_optim": _TENSORRT,
    "enable_tensorrt_varseqlen": _TENSORRT,
    "set_tensorrt_optimization_level": _TENSORRT,
    "mark_trt_engine_outputs": _TENSORRT,
    "exp_disable_tensorrt_dynamic_shape_ops": _TENSORRT,
    "exp_disable_tensorrt_ops": _TENSORRT,
    "exp_disable_tensorrt_subgraph": _TENSORRT,
    "exp_specify_tensorrt_subgraph_precision": _TENSORRT,
    "enable_onednn_int8": "calibration for int8 is made offline, by PaddleSlim",
    "enable_quantizer": "calibration for int8 is made offline, by PaddleSlim",
    "quantizer_config": "calibration for int8 is made offline, by PaddleSlim",
    "enable_custom_passes": "Paddle's own passes run; delete_pass leaves single ones out",
    "enable_low_precision_io": "inputs and outputs have the dtypes that the model declares",
    "enable_save_optim_model": _AT_SAVING,
    "to_native_config": "the older interface has no predictor here",
}
"""Call -> why it is not offered. Switches are refused unless they are switched off."""

ANSWERS: Final[Mapping[str, object]] = {
    "onednn_int8_enabled": False,
    "new_ir_enabled": False,
    "specify_input_name": True,
    "use_feed_fetch_ops_enabled": False,
    "fraction_of_gpu_memory_for_pool": 0.0,
    "shape_range_info_collected": False,
    "shape_range_info_path": "",
    "use_xpu": False,
    "xpu_device_id": 0,
    "use_opencl": False,
    "lite_engine_enabled": False,
    "tensorrt_dla_enabled": False,
    "tensorrt_dynamic_shape_enabled": False,
    "tensorrt_explicit_quantization_enabled": False,
    "tensorrt_inspector_enabled": False,
    "tensorrt_optimization_level": 3,
    "tensorrt_varseqlen_enabled": False,
    "trt_allow_build_at_runtime": False,
    "tuned_tensorrt_dynamic_shape": False,
}
"""Question -> its answer, which nothing changes."""
