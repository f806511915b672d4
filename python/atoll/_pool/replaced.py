"""The standard library's modules whose executor ``atoll.install()`` has put Atoll's in the place of.

Loaded by install() and by the executor, neither of which is to load the other.
"""

import types

modules: list[types.ModuleType] = []  # that were imported before


def executors() -> tuple[type, ...]:
    """Return their executors."""
    return tuple(module.InterpreterPoolExecutor for module in modules)
