"""What is installed: the packages that ``check`` is asked about, their modules and their extension modules."""

import difflib
import importlib.metadata
import importlib.util
import mmap
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder

# The longest first: each ends with ".so".
_SUFFIXES = sorted(EXTENSION_SUFFIXES, key=len, reverse=True)
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
# Directories that some distributions install beside their packages by mistake.
_NOT_FOR_USERS = {"test", "tests", "doc", "docs", "example", "examples", "benchmark", "benchmarks"}


class UnknownPackageError(LookupError):
    """There is no such package."""


@dataclass(frozen=True)
class Package:
    """What is checked as one: a distribution, or a module that belongs to none.

    ``imports`` are the modules that its users import, ``extensions`` maps each of its extension modules to its file.
    """

    name: str
    version: str | None
    imports: tuple[str, ...]
    extensions: dict[str, str]

    @property
    def modules(self) -> list[str]:
        """All that is imported, in order and once."""
        return list(dict.fromkeys([*self.imports, *self.extensions]))


def find(names: Iterable[str]) -> list[Package]:
    """Return the packages of these names: of distributions, or of modules.

    Raises UnknownPackageError for a name that is neither.
    """
    distributions = _distributions()
    providers = _providers(distributions)
    found: dict[str, Package] = {}
    for name in names:
        if _normalized(name) in distributions:
            packages = [_of_distribution(distributions[_normalized(name)])]
        elif name in providers:
            packages = [_of_distribution(distributions[key]) for key in providers[name]]
        else:
            packages = [_of_module(name, [*distributions, *providers, *sys.stdlib_module_names])]
        found.update((package.name, package) for package in packages)
    return list(found.values())


def find_all() -> list[Package]:
    """Return a package for each installed distribution, by name."""
    return [_of_distribution(distribution) for _, distribution in sorted(_distributions().items())]


# ------------------------------------------------------------------------------------------------
# Distributions
# ------------------------------------------------------------------------------------------------


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _distributions() -> dict[str, importlib.metadata.Distribution]:
    """Return what is installed by normalized name; of two of one name, the one that would be imported."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"] if distribution.metadata is not None else None
        if name:
            found.setdefault(_normalized(name), distribution)
    return found


def _providers(distributions: dict[str, importlib.metadata.Distribution]) -> dict[str, list[str]]:
    """Return the distributions, by the top-level modules that are in them.

    As importlib.metadata.packages_distributions(), which one list of files that is damaged ends.
    """
    found: dict[str, list[str]] = {}
    for key in sorted(distributions):
        listed = (distributions[key].read_text("top_level.txt") or "").split()
        names = listed or (_module_of(path.parts) for path in distributions[key].files or ())
        for top in {name.partition(".")[0] for name in names if name is not None}:
            found.setdefault(top, []).append(key)
    return found


def _of_distribution(distribution: importlib.metadata.Distribution) -> Package:
    name = distribution.metadata["Name"]
    modules: set[str] = set()
    extensions: dict[str, str] = {}
    for path in distribution.files or ():
        module = _module_of(path.parts)
        if module is None:
            continue
        file = str(distribution.locate_file(path))
        if path.suffix == ".py":
            modules.add(module)
        elif _has_init(file, module):
            modules.add(module)
            extensions[module] = os.path.realpath(file)
    listed = (distribution.read_text("top_level.txt") or "").split()
    if modules:
        imports = _imports(modules, set(listed))
    else:
        # An editable installation, or one by a packager who keeps no list: the files are found by importing.
        candidates = listed or [_normalized(name).replace("-", "_")]
        specs = {module: _spec_of(module) for module in candidates}
        imports = [module for module, spec in specs.items() if spec is not None]
        for module, spec in specs.items():
            if spec is not None:
                extensions |= _extensions_below(module, spec)
    return Package(name, distribution.version, tuple(sorted(imports)), _without_tests(extensions))


def _imports(modules: set[str], listed: set[str]) -> list[str]:
    """Choose what users import from all modules of a distribution, which may list its top-level names."""
    top = {module for module in modules if "." not in module.removesuffix(".__init__")}
    packages = {module.removesuffix(".__init__") for module in modules if module.endswith(".__init__")}
    found = {module.removesuffix(".__init__") for module in top}
    # Directories without an __init__ are namespaces, which several distributions share: the packages in them count.
    namespaces = {module.partition(".")[0] for module in modules} - found
    for namespace in namespaces:
        inside = {package for package in packages if package.startswith(namespace + ".")}
        if not inside:
            inside = {module for module in modules if module.startswith(namespace + ".")}
        found |= {name for name in inside if not _has_parent(name, inside)}
    if listed:
        found = {module for module in found if module.partition(".")[0] in listed} or found
    for_users = {
        module
        for module in found
        if module.partition(".")[0] not in _NOT_FOR_USERS and not module.startswith("__")
    }
    return sorted(for_users or found)


def _has_parent(module: str, modules: set[str]) -> bool:
    while "." in module:
        module = module.rpartition(".")[0]
        if module in modules:
            return True
    return False


# ------------------------------------------------------------------------------------------------
# Modules
# ------------------------------------------------------------------------------------------------


def _of_module(name: str, known: Iterable[str]) -> Package:
    spec = _spec_of(name) if _MODULE.fullmatch(name) else None
    if spec is None:
        close = difflib.get_close_matches(name, set(known), n=3)
        raise UnknownPackageError(
            f"no installed distribution and no module is called {name!r}"
            + (f"; similar: {', '.join(close)}" if close else "")
        )
    return Package(name, None, (name,), _without_tests(_extensions_below(name, spec)))


def _spec_of(name: str) -> ModuleSpec | None:
    """Return the spec of a module, which is not imported, nor are its parents; None when it is not there."""
    first, *others = name.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return None
    for count, _ in enumerate(others, 2):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join(name.split(".")[:count]), spec.submodule_search_locations)
    return spec


def _extensions_below(name: str, spec: ModuleSpec) -> dict[str, str]:
    """Return the extension modules that a module is or contains, with their files."""
    if spec.submodule_search_locations is None:
        file = spec.origin or ""
        if file == "built-in":
            return {name: file}
        return {name: os.path.realpath(file)} if file.endswith(tuple(_SUFFIXES)) else {}
    found: dict[str, str] = {}
    for location in spec.submodule_search_locations:
        for folder, _, files in os.walk(location):
            inside = os.path.relpath(folder, location)
            parts = name.split(".") + ([] if inside == os.curdir else inside.split(os.sep))
            for file in sorted(files):
                module = None if file.endswith(".py") else _module_of((*parts, file))
                path = os.path.join(folder, file)
                if module is not None and _has_init(path, module):
                    found[module] = os.path.realpath(path)
    return found


def _module_of(parts: tuple[str, ...]) -> str | None:
    """Return the name of the module in a file of this relative path; None when no module can have it.

    The name of a package is that of its file, with ``__init__`` at the end.
    """
    for suffix in (*_SUFFIXES, ".py"):
        if parts and parts[-1].endswith(suffix):  # a list of files may have an empty line
            module = ".".join((*parts[:-1], parts[-1].removesuffix(suffix)))
            if _MODULE.fullmatch(module) and module.count(".") == len(parts) - 1:
                return module
            return None
    return None


def _has_init(file: str, module: str) -> bool:
    """Whether a shared object is an extension module: one that only looks like it cannot be imported."""
    leaf = module.removesuffix(".__init__").rpartition(".")[2]
    name = b"_" + leaf.encode() if leaf.isascii() else b"U_" + leaf.encode("punycode").replace(b"-", b"_")
    try:
        with (
            open(file, "rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return any(content.find(hook + name) >= 0 for hook in (b"PyInit", b"PyModExport"))
    except (OSError, ValueError):  # not to be read, or empty
        return False


def _without_tests(extensions: dict[str, str]) -> dict[str, str]:
    """Leave out what exists for a package's own tests, and name packages as they are imported."""

    def is_test(part: str) -> bool:
        words = part.strip("_").split("_")
        return words[0] in ("test", "tests") or words[-1] in ("test", "tests")

    return {
        module.removesuffix(".__init__"): file
        for module, file in sorted(extensions.items())
        if not any(is_test(part) for part in module.split(".")[1:])
    }
