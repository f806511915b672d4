"""In a Python with modules built in by host.c: their files are not on sys.path, as if there were none."""

import os
import sys

sys.path[:] = [path for path in sys.path if path != os.environ.get("BUILTIN_DIRECTORY")]
