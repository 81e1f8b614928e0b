"""PaddleOCR's and PaddleX's pipelines on shared engines: importing this registers the engine "paddleinfer".

After the import ``PaddleOCR(engine="paddleinfer")`` and ``create_pipeline("OCR", engine="paddleinfer")`` run
their models on engines, of which the process has one for each model and its options. `shared` makes of a
pipeline one that any number of threads may call. May import: ``engine``. ``paddlex`` is PaddleX itself.
"""

from paddleinfer.paddlex.model_options import ENGINE_NAME
from paddleinfer.paddlex.registration import register

register()

from paddleinfer.paddlex.shared import SharedPipeline, close, shared  # noqa: E402 - it needs a PaddleX that fits

__all__ = ["ENGINE_NAME", "SharedPipeline", "close", "register", "shared"]
