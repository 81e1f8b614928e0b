"""What a type checker is to see; run by test_packaging.py, never imported."""

import numpy as np

import paddleinfer

engine = paddleinfer.Engine("model", ir_optim=True, instances=2)
x = np.zeros((1, 4), np.float32)

reveal_type(list(engine.infer({"x": x})))  # list[str]
reveal_type(engine.submit(x, timeout=1.0))  # paddleinfer.engine.futures.InferFuture
reveal_type(list(engine.submit([x]).result()))  # list[str]
reveal_type(engine.inputs[0].shape)  # tuple[int, ...] | None
reveal_type(engine.stats())  # dict[str, Any]
reveal_type(paddleinfer.QueueFull("full").retry_after_s)  # float

options: paddleinfer.EngineOptions = {"instances": 2, "policy": "eager"}
reveal_type(options["instances"])  # int | Literal['auto']
paddleinfer.Engine("model", **options)
paddleinfer.Engine("model", instanses=2)  # error: Unexpected keyword argument "instanses" for "Engine"
paddleinfer.Engine("model", policy="greedy")  # error: Argument "policy" to "Engine" has incompatible type
