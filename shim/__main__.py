"""``python -m paddleinfer.shim`` does the same as ``paddleinfer-http``."""

import sys

from .entry import main

sys.exit(main())
