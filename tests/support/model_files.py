"""Exports small models with the installed Paddle, and notes what its own predictor says of them.

A script, because the format is chosen in the environment before paddle is imported:

    python model_files.py json|legacy DIRECTORY

leaves ``DIRECTORY/<model>/inference.*`` and ``DIRECTORY/facts.json``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

# What the legacy format's dtypes print as, where that is no NumPy name.
_NUMPY_NAMES = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}


def export_all(kind: str, root: Path) -> None:
    if kind == "legacy":
        os.environ.update(FLAGS_enable_pir_api="0")
    paddle: Any = importlib.import_module("paddle")
    nn: Any = paddle.nn
    layer_type: Any = nn.Layer

    class Calls(layer_type):  # type: ignore[misc]
        """A layer out of a function, with the parameters that the function uses."""

        def __init__(self, function: Any, **parameters: Any) -> None:
            super().__init__()
            self.function = function
            for name, parameter in parameters.items():
                setattr(self, name, parameter)

        def forward(self, *arguments: Any) -> Any:
            return self.function(self, *arguments)

    # Paddle matches the specs of the inputs with the names in the signature.
    def one(function: Any, **parameters: Any) -> Any:
        class One(Calls):
            def forward(self, x: Any) -> Any:
                return self.function(self, x)

        return One(function, **parameters)

    class Two(layer_type):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(10, 4)
            self.linear = nn.Linear(4, 3)

        def forward(self, zeta: Any, ids: Any) -> Any:
            rows = self.embedding(ids)
            return self.linear(zeta + rows), ids * 2, paddle.mean(rows)

    class Loops(layer_type):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            count = paddle.zeros([1], "int32")
            while count < 3:
                x = x * 2
                count = count + 1
            return x

    def strange() -> Any:
        attribute = paddle.ParamAttr(name='str "änge"/w')
        return paddle.create_parameter([4], "float32", attr=attribute)

    def spec(shape: list[int | None], dtype: str, name: str) -> Any:
        return paddle.static.InputSpec(shape, dtype, name)

    rows = [spec([None, 4], "float32", "x")]
    models: dict[str, tuple[Any, list[Any]]] = {
        "mlp": (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), rows),
        "two": (Two(), [spec([None, 4], "float32", "zeta"), spec([None], "int64", "ids")]),
        "fixed": (one(lambda self, x: x * 2), [spec([4, 2], "float32", "x")]),
        "scalar_input": (one(lambda self, x: x * 2), [spec([], "float32", "x")]),
        "scalar_output": (one(lambda self, x: paddle.mean(x)), rows),
        "many": (one(lambda self, x: [x * (i + 2) for i in range(12)]), rows),
        "strange": (one(lambda self, x: x * self.w, w=strange()), [spec([None, 4], "float32", "in/put x")]),
        "batch_norm": (nn.BatchNorm1D(4), rows),
        "loops": (Loops(), rows),
        "complex_output": (one(lambda self, x: paddle.as_complex(x)), [spec([None, 2], "float32", "x")]),
    }
    for dtype in ("float16", "bfloat16", "float64", "int16", "int32", "uint8", "bool"):
        models[dtype] = (one(lambda self, x: paddle.cast(x, "float32") * 2), [spec([None, 4], dtype, "x")])
    if kind == "json":  # what Paddle 3.3 can no longer export, or never could, in the legacy format
        models["int8"] = (one(lambda self, x: paddle.cast(x, "float32") * 2), [spec([None, 4], "int8", "x")])
        models["passed_through"] = (one(lambda self, x: x), rows)
        constant = paddle.create_parameter([3, 3], "float32")
        models["no_input"] = (Calls(lambda self: paddle.matmul(self.w, self.w), w=constant), [])

    facts = {}
    for name, (layer, input_spec) in models.items():
        layer.eval()
        paddle.jit.save(layer, str(root / name / "inference"), input_spec=input_spec)
        if name != "passed_through":
            facts[name] = _ask_paddle(root / name, input_spec)
    if kind == "legacy":
        facts["separate"] = _ask_paddle(root / "separate", _export_older_forms(root))
    (root / "facts.json").write_text(json.dumps(facts))


def _export_older_forms(root: Path) -> list[Any]:
    """``__model__`` with both forms of parameters, and a program that is not made for inference."""
    paddle: Any = importlib.import_module("paddle")
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        image = paddle.static.data("image", [-1, 4], "float32")
        ids = paddle.static.data("ids", [-1], "int64")
        hidden = paddle.static.nn.fc(image, 3, activation="relu")
        total = hidden + paddle.static.nn.embedding(ids, [10, 3])
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    paddle.static.save(main, str(root / "training" / "model"))
    program = paddle.static.normalize_program(main, [ids, image], [total, hidden])
    parameters = [variable for variable in main.list_vars() if variable.persistable]
    for name, filename in (("separate", None), ("combined", "__params__")):
        (root / name).mkdir()
        (root / name / "__model__").write_bytes(program.desc.serialize_to_string())
        paddle.static.save_vars(executor, str(root / name), main, vars=parameters, filename=filename)
    return [ids, image]


def _ask_paddle(directory: Path, input_spec: list[Any]) -> dict[str, Any]:
    """What the predictor of an export calls its tensors, and what comes out of a run of 3 rows."""
    np: Any = importlib.import_module("numpy")
    inference: Any = importlib.import_module("paddle.inference")
    program = next((p for p in sorted(directory.iterdir()) if p.suffix in (".json", ".pdmodel")), None)
    if program is None:
        config = inference.Config(str(directory))
    else:
        params = program.with_suffix(".pdiparams")
        config = inference.Config(str(program), str(params) if params.exists() else "")
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    facts: dict[str, Any] = {"inputs": predictor.get_input_names(), "outputs": predictor.get_output_names()}
    if directory.name in ("int16", "bfloat16", "complex_output"):
        return facts  # Paddle's Python handles convert the first two and cannot read the last
    for spec in input_spec:
        dtype = str(spec.dtype).rpartition(".")[2].lower()
        array = np.ones([3 if size < 0 else size for size in spec.shape])
        predictor.get_input_handle(spec.name).copy_from_cpu(array.astype(_NUMPY_NAMES.get(dtype, dtype)))
    predictor.run()
    arrays = [predictor.get_output_handle(name).copy_to_cpu() for name in facts["outputs"]]
    facts["results"] = [(str(array.dtype), array.shape) for array in arrays]
    return facts


if __name__ == "__main__":
    export_all(sys.argv[1], Path(sys.argv[2]))
