"""Every option of an engine: its type, its default, its limits.

``runtime`` holds Paddle's options, ``batching`` and ``padding`` say how requests are merged, ``engine``
combines them, and ``checks`` has the sentences that refuse a value. Command line, environment and TOML files
derive from these dataclasses. May import: errors, sentences.
"""

from paddleinfer.config.batching import BatchingOptions
from paddleinfer.config.batching import Policy as Policy
from paddleinfer.config.checks import check_choice as check_choice
from paddleinfer.config.checks import check_timeout as check_timeout
from paddleinfer.config.checks import is_int as is_int
from paddleinfer.config.engine import CHECKS_OF_LOADS as CHECKS_OF_LOADS
from paddleinfer.config.engine import CheckLoad as CheckLoad
from paddleinfer.config.engine import EngineConfig, EngineOptions
from paddleinfer.config.engine import Origin as Origin
from paddleinfer.config.engine import option_names as option_names
from paddleinfer.config.padding import PadAxis
from paddleinfer.config.runtime import BACKENDS as BACKENDS
from paddleinfer.config.runtime import OF_PADDLE_ALONE as OF_PADDLE_ALONE
from paddleinfer.config.runtime import Backend as Backend
from paddleinfer.config.runtime import RuntimeOptions

__all__ = ["BatchingOptions", "EngineConfig", "EngineOptions", "PadAxis", "RuntimeOptions"]
