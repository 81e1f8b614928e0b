"""A look-alike of ``paddle.inference`` over the engine: the import line changes, and code stays.

Predictors and their handles may be used by any number of threads, and equal predictors share one engine.
``config`` says what each call of a Config becomes, ``predictor`` and ``handles`` run the model, and
``installation`` puts the package under code that cannot be edited.
May import: engine and below. Paddle is imported when a predictor is made.
"""

from typing import TYPE_CHECKING

from paddleinfer.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from paddleinfer.inference.config import Config as Config
    from paddleinfer.inference.enums import DataType as DataType
    from paddleinfer.inference.enums import PlaceType as PlaceType
    from paddleinfer.inference.enums import PrecisionType as PrecisionType
    from paddleinfer.inference.enums import get_num_bytes_of_data_type as get_num_bytes_of_data_type
    from paddleinfer.inference.functions import InternalUtils as InternalUtils
    from paddleinfer.inference.functions import XpuConfig as XpuConfig
    from paddleinfer.inference.functions import _get_phi_kernel_name as _get_phi_kernel_name
    from paddleinfer.inference.functions import convert_to_mixed_precision as convert_to_mixed_precision
    from paddleinfer.inference.functions import get_trt_compile_version as get_trt_compile_version
    from paddleinfer.inference.functions import get_trt_runtime_version as get_trt_runtime_version
    from paddleinfer.inference.functions import get_version as get_version
    from paddleinfer.inference.handles import Tensor as Tensor
    from paddleinfer.inference.installation import install as install
    from paddleinfer.inference.installation import uninstall as uninstall
    from paddleinfer.inference.predictor import Predictor as Predictor
    from paddleinfer.inference.predictor import PredictorPool as PredictorPool
    from paddleinfer.inference.predictor import create_predictor as create_predictor

_HOME_OF = {
    "Config": "config",
    "DataType": "enums",
    "InternalUtils": "functions",
    "PlaceType": "enums",
    "PrecisionType": "enums",
    "Predictor": "predictor",
    "PredictorPool": "predictor",
    "Tensor": "handles",
    "XpuConfig": "functions",
    "_get_phi_kernel_name": "functions",
    "convert_to_mixed_precision": "functions",
    "create_predictor": "predictor",
    "get_num_bytes_of_data_type": "enums",
    "get_trt_compile_version": "functions",
    "get_trt_runtime_version": "functions",
    "get_version": "functions",
    "install": "installation",
    "uninstall": "installation",
}

__all__ = [*_HOME_OF]  # noqa: PLE0604 - names only
__getattr__, __dir__ = lazy_exports(__name__, _HOME_OF)
