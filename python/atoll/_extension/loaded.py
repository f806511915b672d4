"""Which extension modules an interpreter has, and where each came from."""

import sys
from collections import namedtuple
from importlib.machinery import ExtensionFileLoader

from atoll import _atoll

TYPE_CHECKING = False  # typing is slow to import, and every interpreter imports this
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from typing import Literal, NamedTuple

    class Extension(NamedTuple):
        """An extension module of an interpreter, or a library that was cloned for one."""

        module: str | None
        file: str
        how: Literal["usual", "isolated", "shared"]
        clone: str | None
        bytes: int

    class KeptExtension(NamedTuple):
        """A clone that is still mapped although its interpreter is closed."""

        file: str
        clone: str
        bytes: int
        reason: str

else:

    class Extension(namedtuple("Extension", ("module", "file", "how", "clone", "bytes"))):
        """An extension module of an interpreter, or a library that was cloned for one.

        ``module`` is its name, None for a library. ``file`` is the original file. ``how`` is ``'usual'`` (as CPython
        loads it), ``'isolated'`` (from a clone of the file that this interpreter alone uses) or ``'shared'`` (as
        CPython loads it, although it does not declare support for that). ``clone`` is the clone's file, else None,
        and ``bytes`` how much of it is the interpreter's own and not shared with the original, else 0.
        """

        __module__ = "atoll"
        __slots__ = ()

    class KeptExtension(namedtuple("KeptExtension", ("file", "clone", "bytes", "reason"))):
        """A clone that is still mapped although its interpreter is closed.

        ``file`` is the original file, ``clone`` the clone's, ``bytes`` how much of it is not shared with the original,
        and ``reason`` says what made it unsafe to unload.
        """

        __module__ = "atoll"
        __slots__ = ()


def _specs() -> "Iterator[ModuleSpec]":
    """Yield the spec of each extension module in sys.modules that CPython loaded from a file."""
    for module in list(sys.modules.values()):
        try:
            # Not getattr(): modules that load lazily would now be loaded.
            namespace: dict[str, object] = object.__getattribute__(module, "__dict__")
        except AttributeError:
            continue  # anything may be in sys.modules
        spec: ModuleSpec | None = namespace.get("__spec__")  # type: ignore[assignment]
        if isinstance(getattr(spec, "loader", None), ExtensionFileLoader):
            assert spec is not None
            yield spec


def loaded_extensions() -> list[Extension]:
    """Return an Extension for each extension module that the calling interpreter has loaded from a file.

    Those that Atoll loaded come first, in the order in which they were loaded, and with them the libraries that were
    cloned for them. Modules built into Python's executable have no file and are not listed.
    """
    found = [Extension(*entry) for entry in _atoll._loaded_extensions()]
    known = {extension.module for extension in found}
    for spec in _specs():
        if spec.name not in known:
            known.add(spec.name)
            found.append(Extension(spec.name, spec.origin or "", "usual", None, 0))
    return found


def kept_extensions() -> list[KeptExtension]:
    """Return a KeptExtension for each clone that is mapped for an interpreter that is closed, the newest first.

    close() unloads clones where nothing can be running in them any more. Where threads that a library has started are
    alive, say, they stay, for as long as the process lives. The list is the same in every interpreter.
    """
    return [KeptExtension(*entry) for entry in _atoll._kept_extensions()]
