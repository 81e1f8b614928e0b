"""``python -m paddleinfer.demo`` runs the demo."""

import sys

from paddleinfer.demo.demo import main
from paddleinfer.engine.lifecycle import end_at_once_by_sigint

if __name__ == "__main__":
    code = main()
    end_at_once_by_sigint()
    sys.exit(code)
