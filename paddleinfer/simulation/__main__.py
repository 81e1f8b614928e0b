"""``python -m paddleinfer.simulation`` compares policies over a range of loads."""

import sys

from paddleinfer.simulation import main

if __name__ == "__main__":
    sys.exit(main())
