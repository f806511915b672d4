"""``python -m atoll``: see ``python -m atoll --help``."""
# PYTHON_ARGCOMPLETE_OK: argcomplete looks for this before it asks.

import sys

from .cli import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        # What was to be shown has been. With this exception CPython ends a process by SIGINT: a shell's loop ends, too.
        sys.excepthook = lambda *_shown: None
        raise
