"""``Config``: what code written for ``paddle.inference`` asks for, as options of an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from paddleinfer.backends.paddle.config import onednn_by_default
from paddleinfer.backends.paddle.installed import InstalledPaddle
from paddleinfer.config import OF_PADDLE_ALONE, EngineConfig, EngineOptions
from paddleinfer.config.checks import is_int
from paddleinfer.errors import ConfigError
from paddleinfer.inference import process_options
from paddleinfer.inference.config_calls import ANSWERS, NOTED, REFUSED
from paddleinfer.inference.enums import PrecisionType, precision_of
from paddleinfer.inference.model_source import ModelSource, model_from_memory
from paddleinfer.sentences import shown

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["Config", "PassBuilder"]

_PRECISIONS = {PrecisionType.Half: "float16", PrecisionType.Int8: "int8"}


class PassBuilder:
    """What ``Config.pass_builder()`` gives: passes can be left out."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def delete_pass(self, name: str) -> None:
        """Leaves a graph pass out."""
        self._config.delete_pass(name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise ConfigError(f"pass_builder().{name} is not offered: Paddle's own passes run; delete_pass works")


class Config:
    """What ``paddle.inference.Config`` is, over an ``Engine``.

    ``Config(prog_file, params_file)``, ``Config(model_dir)``, ``Config(model_dir, stem)``, ``Config(config)``
    and ``Config()`` are possible. Graph passes are on, as in Paddle, and the engine's ``on_full`` is "wait":
    a full queue makes callers wait, because code that is written for Paddle knows no other end. Calls that
    the engine has nothing for are refused where they would change results or devices, and else noted in
    `notes`.

    Raises
    ------
    ConfigError, InvalidInput
        A call is refused, or got a wrong value; the sentence says what would be right.
    """

    Precision = PrecisionType
    Float32 = PrecisionType.Float32
    Int8 = PrecisionType.Int8
    Half = PrecisionType.Half
    Bfloat16 = PrecisionType.Bfloat16

    def __init__(self, *model: Any) -> None:
        if len(model) > 2:
            raise ConfigError(f"Config takes a model's directory, or two files, not {len(model)} arguments")
        self._source = ModelSource()
        self._asked: dict[str, Any] = {"ir_optim": True, "on_full": "wait"}
        self._deleted: tuple[str, ...] = ()
        self._tensorrt: PrecisionType | None = None
        self._engine_options: EngineOptions = {}
        self.notes: list[str] = []
        """What was asked for that changes nothing here, in one sentence each."""
        if len(model) == 1 and isinstance(model[0], Config):
            self._take_over(model[0])
        elif model:
            self.set_model(*model)

    def _take_over(self, other: Self) -> None:
        self._source, self._deleted, self._tensorrt = other._source, other._deleted, other._tensorrt
        self._asked = dict(other._asked)
        self._engine_options = {**other._engine_options}
        self.notes = list(other.notes)

    def set_engine_options(self, **options: Unpack[EngineOptions]) -> None:
        """Sets options of the engine by their own names; they win over what other calls ask for.

        Raises
        ------
        ConfigError
            An option is unknown or out of range.
        """
        EngineConfig.from_options(options)
        self._engine_options = {**self._engine_options, **options}

    def engine_config(self) -> tuple[str, EngineConfig]:
        """Returns the model's path and the options of its engine.

        Raises
        ------
        ConfigError
            It names no model, or the options do not go together.
        """
        path, params = self._source.location()
        given = {**process_options.in_force(), **self._engine_options}
        asked = self._options_asked_for()
        if given.get("backend", asked.get("backend", "paddle")) != "paddle":
            asked = {name: value for name, value in asked.items() if name not in OF_PADDLE_ALONE}
        if params is not None:
            asked["params"] = params
        return path, EngineConfig.from_options({**asked, **given})

    def _options_asked_for(self) -> dict[str, Any]:
        asked = dict(self._asked)
        if self._deleted:
            asked["delete_passes"] = self._deleted
        if self._tensorrt is not None:
            asked["precision"] = _PRECISIONS[self._tensorrt]
        on_cpu = asked.get("device", "cpu") == "cpu"
        # Where oneDNN is Paddle's own choice, the engine may still leave it out for models that it breaks.
        if not on_cpu or (asked.get("onednn") is True and onednn_by_default(InstalledPaddle.find())):
            asked.pop("onednn", None)
        return asked

    # -- the model

    def set_model(self, model: Any, params: Any = None) -> None:
        """Takes a model's directory, a directory and a stem, or a program and its parameters."""
        self._source = ModelSource.of(model, params)

    def set_prog_file(self, path: Any) -> None:
        """Takes the program's file."""
        self._source = ModelSource(program=ModelSource.of(path, None).directory, params=self._source.params)

    def set_params_file(self, path: Any) -> None:
        """Takes the parameters' file."""
        params = ModelSource.of(path, None).directory
        self._source = ModelSource(program=self._source.program, params=params)

    def set_model_buffer(
        self, prog_buffer: bytes, prog_buffer_size: int, params_buffer: bytes, params_buffer_size: int
    ) -> None:
        """Takes a model from memory; without parameters `params_buffer` is empty."""
        self._source = model_from_memory(prog_buffer, prog_buffer_size, params_buffer, params_buffer_size)

    def model_dir(self) -> str:
        """Returns the model's directory; "" where files were given."""
        return self._source.directory

    def prog_file(self) -> str:
        """Returns the program's file."""
        return self._source.program

    def params_file(self) -> str:
        """Returns the parameters' file."""
        return self._source.params

    def model_from_memory(self) -> bool:
        """Returns whether ``set_model_buffer`` gave the model."""
        return self._source.memory is not None

    # -- devices

    def disable_gpu(self) -> None:
        """Has the model run on the CPU."""
        self._asked["device"] = "cpu"

    def enable_use_gpu(
        self,
        memory_pool_init_size_mb: int,
        device_id: int = 0,
        precision_mode: PrecisionType = PrecisionType.Float32,
    ) -> None:
        """Has the model run on this GPU."""
        if precision_of(precision_mode) is not PrecisionType.Float32:
            raise ConfigError(
                "enable_use_gpu in another precision than Float32 is not offered; "
                "enable_tensorrt_engine takes Half and Int8"
            )
        self._asked.update(
            device=f"gpu:{_count('device_id', device_id, 0)}",
            gpu_memory_mb=_count("memory_pool_init_size_mb", memory_pool_init_size_mb, 1),
        )

    def use_gpu(self) -> bool:
        """Returns whether the model is to run on a GPU."""
        return bool(self._asked.get("device", "cpu") != "cpu")

    def gpu_device_id(self) -> int:
        """Returns the GPU's number; 0 on the CPU."""
        return int(self._asked.get("device", "cpu").partition(":")[2] or 0)

    def memory_pool_init_size_mb(self) -> int:
        """Returns the megabytes that Paddle reserves at first on a GPU."""
        return int(self._asked.get("gpu_memory_mb", EngineConfig().runtime.gpu_memory_mb))

    def enable_tensorrt_engine(
        self,
        workspace_size: int = 1 << 30,
        max_batch_size: int = 1,
        min_subgraph_size: int = 3,
        precision_mode: PrecisionType = PrecisionType.Float32,
        use_static: bool = False,
        use_calib_mode: bool = True,
        use_cuda_graph: bool = False,
    ) -> None:
        """Has TensorRT run the model in Half or Int8, on a GPU; its other settings are the usual ones."""
        precision = precision_of(precision_mode)
        if precision not in _PRECISIONS:
            raise ConfigError(
                f"enable_tensorrt_engine is not offered in {precision.name}: it takes Half and Int8, on a GPU"
            )
        self._tensorrt = precision
        self._note("of the settings of enable_tensorrt_engine the precision alone is in force")

    def tensorrt_engine_enabled(self) -> bool:
        """Returns whether TensorRT is to run the model."""
        return self._tensorrt is not None

    def tensorrt_precision_mode(self) -> PrecisionType:
        """Returns the precision for TensorRT."""
        return self._tensorrt or PrecisionType.Float32

    # -- kernels and passes on the CPU

    def enable_onednn(self) -> None:
        """Has oneDNN's kernels run the model."""
        self._asked["onednn"] = True

    def disable_onednn(self) -> None:
        """Keeps oneDNN's kernels out."""
        self._asked["onednn"] = False

    def onednn_enabled(self) -> bool:
        """Returns whether oneDNN's kernels are to run; where nothing was said, Paddle's own default."""
        asked = self._asked.get("onednn")
        return onednn_by_default(InstalledPaddle.find()) if asked is None else bool(asked)

    def set_onednn_cache_capacity(self, capacity: int = 0) -> None:
        """Sets the input shapes after which an instance empties oneDNN's cache; 0 is the engine's default."""
        if _count("capacity", capacity, 0):
            self._asked["max_onednn_shapes"] = capacity
        else:
            self._asked.pop("max_onednn_shapes", None)

    def enable_onednn_bfloat16(self) -> None:
        """Has operators run in bfloat16, which needs AVX-512."""
        self._asked["precision"] = "bfloat16"

    enable_mkldnn = enable_onednn
    disable_mkldnn = disable_onednn
    mkldnn_enabled = onednn_enabled
    set_mkldnn_cache_capacity = set_onednn_cache_capacity
    enable_mkldnn_bfloat16 = enable_onednn_bfloat16

    def set_cpu_math_library_num_threads(self, threads: int) -> None:
        """Sets the threads of the math library in one instance."""
        self._asked["cpu_threads"] = _count("cpu_math_library_num_threads", threads, 1)

    def cpu_math_library_num_threads(self) -> int:
        """Returns the threads of the math library in one instance."""
        return int(self._asked.get("cpu_threads", 1))

    def switch_ir_optim(self, x: bool = True) -> None:
        """Switches graph passes on or off."""
        self._asked["ir_optim"] = bool(x)

    def ir_optim(self) -> bool:
        """Returns whether graph passes are on."""
        return bool(self._asked["ir_optim"])

    def enable_memory_optim(self, x: bool = True) -> None:
        """Lets Paddle reuse the memory of intermediate tensors."""
        self._asked["mem_optim"] = bool(x)

    def delete_pass(self, name: str) -> None:
        """Leaves a graph pass out."""
        if not isinstance(name, str) or not name:
            raise ConfigError(f"delete_pass takes the name of a pass, not {shown(name)}")
        self._deleted = (*self._deleted, name)

    def pass_builder(self) -> PassBuilder:
        """Returns an object whose ``delete_pass`` works."""
        return PassBuilder(self)

    def disable_glog_info(self) -> None:
        """Keeps Paddle's log lines out, which is the default here."""
        self._asked["paddle_log"] = False

    def glog_info_disabled(self) -> bool:
        """Returns whether Paddle's log lines are kept out."""
        return not {**process_options.in_force(), **self._engine_options}.get("paddle_log", False)

    # -- other runtimes

    def enable_onnxruntime(self) -> None:
        """Has onnxruntime run the model."""
        self._asked["backend"] = "onnxruntime"

    def disable_onnxruntime(self) -> None:
        """Has Paddle run the model."""
        self._asked.pop("backend", None)

    def onnxruntime_enabled(self) -> bool:
        """Returns whether onnxruntime is to run the model."""
        return self._asked.get("backend") == "onnxruntime"

    def enable_openvino_engine(self, inference_precision: PrecisionType = PrecisionType.Float32) -> None:
        """Has OpenVINO run the model."""
        if precision_of(inference_precision) is not PrecisionType.Float32:
            raise ConfigError("enable_openvino_engine in another precision than Float32 is not offered")
        self._asked["backend"] = "openvino"

    def openvino_engine_enabled(self) -> bool:
        """Returns whether OpenVINO is to run the model."""
        return self._asked.get("backend") == "openvino"

    # -- handles

    def switch_use_feed_fetch_ops(self, x: bool = True) -> None:
        """Is off: tensors are handed over by handles. On is refused."""
        if x:
            raise ConfigError(
                "switch_use_feed_fetch_ops(True) is not offered: tensors are handed over by handles"
            )

    def switch_specify_input_names(self, x: bool = True) -> None:
        """Inputs are found by name, whatever `x` is."""

    def summary(self) -> str:
        """Returns what was asked for, as text."""
        shown_options = {**self._asked, **process_options.in_force(), **self._engine_options}
        named = {"model_dir": self.model_dir(), "model_file": self.prog_file()}
        rows = {**named, "params_file": self.params_file(), **shown_options}
        return "\n".join(f"{name:<28} {value}" for name, value in rows.items())

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., Any]:
            """The calls of ANSWERS, NOTED and REFUSED."""


def _count(name: str, value: object, least: int) -> int:
    if not is_int(value) or value < least:  # type: ignore[operator]
        raise ConfigError(f"{name} must be an integer from {least} up, not {shown(value)}")
    return value  # type: ignore[return-value]


def _answering(value: object) -> Callable[..., object]:
    return lambda self: value


def _noting(call: str) -> Callable[..., None]:
    def note(self: Config, *_: object, **__: object) -> None:
        self._note(f"{call} has no effect: {NOTED[call.replace('mkldnn', 'onednn')]}")

    return note


def _refusing(call: str) -> Callable[..., None]:
    def refuse(self: Config, *arguments: object, **named: object) -> None:
        switched_off = [*arguments, *named.values()][:1] == [False]
        if not switched_off:
            raise ConfigError(f"{call} is not offered: {REFUSED[call.replace('mkldnn', 'onednn')]}")

    return refuse


def _add_calls() -> None:
    makers = ((NOTED, _noting), (REFUSED, _refusing))
    for table, make in makers:
        for call in table:
            for name in dict.fromkeys((call, call.replace("onednn", "mkldnn"))):
                method = make(name)
                method.__name__, method.__doc__ = name, f"See the table of calls: {table[call]}."
                setattr(Config, name, method)
    for call, value in ANSWERS.items():
        for name in dict.fromkeys((call, call.replace("onednn", "mkldnn"))):
            setattr(Config, name, _answering(value))


_add_calls()
