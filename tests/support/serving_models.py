"""The models of Paddle Serving's public examples, made small, in its directories."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import paddleinfer
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.models.reader import load_spec

# The first house of the data set that fit_a_line uses, as its documents send it.
HOUSE = [
    *(0.0137, -0.1136, 0.2553, -0.0692, 0.0582, -0.0727, -0.1583),
    *(-0.0584, 0.6283, 0.4919, 0.1856, 0.0795, -0.0332),
]
HOUSE_TEXT = ", ".join(map(str, HOUSE))

CONF = """feed_var {{
  name: "x"
  alias_name: "x"
  is_lod_tensor: false
  feed_type: 1
  shape: 13
}}
fetch_var {{
  name: "{fetched}"
  alias_name: "price"
  is_lod_tensor: true
  fetch_type: 1
  shape: 1
}}
"""


# What a client reads of a model that takes three numbers.
DOUBLING_CONF = """feed_var { name: "x" alias_name: "x" feed_type: 1 shape: 3 }
fetch_var { name: "y" alias_name: "y" fetch_type: 1 shape: 3 }
"""


def make_fit_a_line(directory: Path, seed: int = 3) -> Path:
    """Thirteen numbers of a house -> its price: x to price, in a directory of Paddle Serving's."""
    paddle = import_paddle()
    paddle.seed(seed)
    with paddle.utils.unique_name.guard():
        paddleinfer.export(
            paddle.nn.Linear(13, 1),
            directory,
            inputs={"x": ("float32", (-1, 13))},
            format="json" if paddle.__version__.startswith("3") else "legacy",
        )
    (fetched,) = (tensor.name for tensor in load_spec(directory).outputs)
    (directory / "serving_server_conf.prototxt").write_text(CONF.format(fetched=fetched))
    return directory


def price_of(directory: Path, houses: np.ndarray) -> np.ndarray:
    """As plain Paddle computes it."""
    inference = import_paddle().inference
    files = sorted(path for path in directory.iterdir() if path.suffix in (".json", ".pdmodel"))
    config = inference.Config(str(files[0]), str(files[0].with_suffix(".pdiparams")))
    config.disable_glog_info()
    if files[0].suffix == ".json":
        config.enable_new_executor(True)
        config.enable_new_ir(True)
    predictor = inference.create_predictor(config)
    handle = predictor.get_input_handle(predictor.get_input_names()[0])
    handle.copy_from_cpu(np.asarray(houses, "float32"))
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
