"""``python -m paddleinfer``: the command ``paddleinfer``."""

import sys

from paddleinfer.command import main

if __name__ == "__main__":
    sys.exit(main())
