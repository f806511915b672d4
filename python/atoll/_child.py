"""What an interpreter that may fork does in the child, where it becomes the main interpreter.

Imported by each that ``create(fork=True)`` makes.
"""

from __future__ import annotations

import os

from . import _signals

os.register_at_fork(after_in_child=_signals.in_child)
