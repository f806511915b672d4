"""``python -m atoll``: see ``python -m atoll --help``."""
# PYTHON_ARGCOMPLETE_OK: argcomplete looks for this before it asks.

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
