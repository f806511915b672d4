"""``python -m atoll``: see ``python -m atoll --help``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
