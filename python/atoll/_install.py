"""Puts Atoll in the place of the standard library's ``concurrent.interpreters``."""

import sys

from . import _atoll


def install() -> None:
    """Make ``import concurrent.interpreters`` mean Atoll's, here and in the interpreters created from now on.

    Works on every supported version, also where the standard library has no such module. Names that
    were imported from the standard library's module before stay what they were. Calling it again does nothing.
    """
    import concurrent

    from . import interpreters

    sys.modules["concurrent.interpreters"] = interpreters
    concurrent.interpreters = interpreters  # type: ignore[attr-defined]
    _atoll._set_installed(True)
