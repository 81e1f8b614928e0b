"""PaddleX asks the network which of its model sources answers, unless it is told not to."""

import os

os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"
