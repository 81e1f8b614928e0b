"""``python -m paddleinfer.shim``: the same as ``paddleinfer-http``."""

import sys

from .cli import main

sys.exit(main())
