"""``python -m paddleinfer.serving.serve``: Paddle Serving's command line.

It takes Paddle Serving's flags, prints what each became, and serves.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from paddleinfer._version import __version__
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.backends.processors import usable_cores
from paddleinfer.errors import ConfigError, PaddleInferError
from paddleinfer.models.reader import load_spec
from paddleinfer.options.parser import OneSentenceParser
from paddleinfer.sentences import shown
from paddleinfer.serving import process_info
from paddleinfer.serving.server import Server

__all__ = ["main"]

_WRONG: Final = 2
_PROGRAM: Final = "paddleinfer.serving.serve"

_COMMANDS: Final = ("start", "stop", "kill", "check")
# Flag -> the method of Server that says why it is not offered.
_REFUSED: Final = {
    "use_calib": "set_use_calib",
    "use_lite": "set_lite",
    "use_xpu": "set_xpu",
    "use_ascend_cl": "set_ascend_cl",
    "use_encryption_model": "use_encryption_model",
    "encryption_rpc_port": "use_encryption_model",
    "product_name": "set_product_name",
    "container_id": "set_container_id",
    "gpu_multi_stream": "set_gpu_multi_stream",
    "prometheus_port": "set_prometheus_port",
    "min_subgraph_size": "set_min_subgraph_size",
    "trt_workspace_size": "set_trt_workspace_size",
    "trt_use_static": "set_trt_use_static",
    "use_dist_model": "set_enable_dist_model",
    "dist_carrier_id": "set_dist_carrier_id",
    "dist_cfg_file": "set_dist_cfg_file",
    "dist_endpoints": "set_dist_endpoints",
    "dist_nranks": "set_dist_nranks",
    "dist_subgraph_index": "set_dist_subgraph_index",
    "dist_worker_serving_endpoints": "set_dist_worker_serving_endpoint",
    "dist_master_serving": "set_dist_master_serving",
}
# Flag -> its name in Server.effective_config().
_REPORTED: Final = {
    "thread": "num_threads",
    "port": "port",
    "device": "device",
    "gpu_ids": "gpuid",
    "runtime_thread_num": "runtime_thread_num",
    "batch_infer_size": "batch_infer_size",
    "use_mkl": "mkl",
    "precision": "precision",
    "use_trt": "use_trt",
    "mem_optim_off": "memory_optimize",
    "ir_optim": "ir_optimize",
    "max_body_size": "max_body_size",
    "gpu_memory_mb": "gpu_memory_mb",
    "cpu_math_thread_num": "cpu_math_thread_num",
    "request_cache_size": "request_cache_size",
    "grpc_port": "grpc_port",
    "http_status": "http_status",
    "host": "host",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out one command; gives the process's exit code, 0 where all went well."""
    options = _parser().parse_args(arguments)
    try:
        if options.server not in _COMMANDS:
            raise ConfigError(f"the commands are {', '.join(_COMMANDS)}, and not {shown(options.server)}")
        if options.server in ("stop", "kill"):
            return _stop(signal.SIGINT if options.server == "stop" else signal.SIGKILL)
        if options.server == "check":
            return _check(options.model)
        return _start(options)
    except (PaddleInferError, OSError) as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return _WRONG


def _parser() -> argparse.ArgumentParser:
    parser = OneSentenceParser(
        prog=_PROGRAM,
        description="Serves PaddlePaddle models with Paddle Serving's flags, and says what each became.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("server", nargs="?", default="start", help=f"{', '.join(_COMMANDS)}: what is installed")
    add(
        "--model",
        nargs="+",
        default=[],
        metavar="DIR",
        help="models, each served by the name of its directory",
    )
    add("--name", help="the name of the one model, as in /NAME/prediction")
    add("--thread", type=int, help="runs at the same time, no more than there are cores for")
    add("--port", type=int, default=9393, help="where it listens")
    add("--grpc_port", type=int, help="where it serves gRPC")
    add("--host", help="the address that it listens on")
    add("--device", choices=("cpu", "gpu"), help="gpu without --gpu_ids is the first")
    add("--gpu_ids", nargs="+", default=[], help="GPUs with commas between, for each model")
    add("--runtime_thread_num", nargs="+", type=int, help="instances, for each model")
    add("--batch_infer_size", nargs="+", type=int, help="rows that run together at most, for each model")
    add("--workdir", help="is not used: nothing is written")
    add("--use_mkl", action="store_true", help="oneDNN's kernels; else what the installed Paddle prefers")
    add("--precision", default="fp32", help="fp32, bf16; fp16 and int8 with --use_trt")
    add("--use_trt", action="store_true", help="TensorRT, on a GPU")
    add("--mem_optim_off", action="store_true", help="do not reuse the memory of intermediate tensors")
    add("--ir_optim", action="store_true", help="Paddle's graph passes")
    add("--max_body_size", type=int, help="bytes of a request's body")
    add("--gpu_memory_mb", type=int, help="megabytes that are reserved at first on each GPU")
    add("--cpu_math_thread_num", type=int, help="threads of Paddle's math library inside an instance")
    add("--enable_prometheus", action="store_true", help="metrics are always at /metrics")
    add(
        "--request_cache_size",
        type=int,
        default=0,
        help="bytes of results to keep for equal requests, of each model",
    )
    add(
        "--reload_interval_s", type=float, default=10.0, help="seconds between two looks at the models' files"
    )
    add("--http_status", choices=("200", "real"), help="what a failed request gets")
    for name in ("op", *_REFUSED):
        add(f"--{name}", nargs="*", help=argparse.SUPPRESS)
    return parser


def _start(options: argparse.Namespace) -> int:
    server = _server(options)
    server.prepare_server(workdir=options.workdir, port=options.port, device=options.device)
    for line in _became(options, server.effective_config()):
        print(line, flush=True)
    with process_info.remembered(options.port):
        return server.run_server()


def _server(options: argparse.Namespace) -> Server:
    """With all that was given."""
    server = Server()
    for name, method in _REFUSED.items():
        values = getattr(options, name)
        if values is not None:
            try:
                getattr(server, method)(*(values or (True,)))
            except ConfigError as error:
                raise ConfigError(f"--{name}: {error}") from None
    if options.op is not None:
        raise ConfigError(
            "--op is not offered: each model is served by itself, and a graph of several is a "
            "paddleinfer.serving.WebService; leave it out"
        )
    if not options.model:
        raise ConfigError("name a model: --model DIR")
    if options.name is not None and len(options.model) > 1:
        raise ConfigError(f"--name is of one model, and --model names {len(options.model)}")
    server.load_model_config(options.model if options.name is None else {options.name: options.model[0]})
    server.set_memory_optimize(not options.mem_optim_off)
    server.set_ir_optimize(options.ir_optim)
    server.set_precision(options.precision)
    server.set_request_cache_size(options.request_cache_size)
    server.set_reload_interval(options.reload_interval_s)
    if options.use_trt:
        server.set_trt()
    if options.use_mkl:
        server.use_mkl(True)
    if options.device == "cpu" and any(one not in ("", "-1") for one in options.gpu_ids):
        raise ConfigError(
            f"--device cpu and --gpu_ids {shown(' '.join(options.gpu_ids))} contradict each other"
        )
    if options.gpu_ids:
        server.set_gpuid(options.gpu_ids)
    if options.enable_prometheus:
        server.set_enable_prometheus(True)
    for value, take in (
        (options.thread, server.set_num_threads),
        (options.runtime_thread_num, server.set_runtime_thread_num),
        (options.batch_infer_size, server.set_batch_infer_size),
        (options.max_body_size, server.set_max_body_size),
        (options.gpu_memory_mb, server.set_gpu_memory_mb),
        (options.cpu_math_thread_num, server.set_cpu_math_thread_num),
        (options.http_status, server.set_http_status),
        (options.grpc_port, server.set_grpc_port),
        (options.host, server.set_host),
    ):
        if value is not None:
            take(value)
    return server


def _became(options: argparse.Namespace, report: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each flag that has a meaning, with what is in force of it."""
    lines = []
    for flag, name in _REPORTED.items():
        entry = report.get(name)
        if entry is None:
            continue
        given = getattr(options, flag)
        parts = [f"{option}={value}" for option, value in entry.get("server", {}).items()]
        for model, became in entry.get("engine", {}).items():
            parts += [f"{model}: {option}={line['value']}" for option, line in became.items()]
        text = " ".join(map(str, given)) if isinstance(given, list) else given
        shown_value = "not given" if given in (None, [], False) else "on" if given is True else text
        lines.append(f"--{flag} ({shown_value}): {', '.join(parts)}")
    if options.enable_prometheus:
        lines.append("--enable_prometheus (on): /metrics on the port that serves")
    if options.workdir is not None:
        lines.append(f"--workdir ({options.workdir}): not used, nothing is written")
    return lines


def _stop(number: signal.Signals) -> int:
    stopped = process_info.stop(number)
    if not stopped:
        raise ConfigError(
            "no server was started from this folder; ProcessInfo.json, in SERVING_HOME or here, "
            "names those that were"
        )
    for pid, port in stopped:
        print(f"sent {number.name} to the server on port {port}, process {pid}")
    return 0


def _check(models: Sequence[str]) -> int:
    paddle = import_paddle()
    print(f"paddleinfer {__version__}, Python {sys.version.split()[0]}, process {os.getpid()}")
    print(
        f"paddle {paddle.__version__}, with CUDA: {'yes' if paddle.device.is_compiled_with_cuda() else 'no'}"
    )
    print(f"{usable_cores()} cores are usable")
    for model in models:
        spec = load_spec(model)
        names = [", ".join(one.alias or one.name for one in side) for side in (spec.inputs, spec.outputs)]
        print(f"{model}: {spec.format}, {names[0]} -> {names[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
