"""``python -m paddleinfer``: the command ``paddleinfer``."""

import sys

from paddleinfer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
