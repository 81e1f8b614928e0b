"""``python -m paddleinfer.shim``: the same as ``paddleinfer-http``."""

import sys

from .entry import main

sys.exit(main())
