"""What this Python's own types and modules look like, to compare interpreters.

survey.py     prints what differs between the main interpreter and a new one; exit status 1 when something does
"""

from __future__ import annotations

import gc
import importlib
import inspect
import re
import sys
import types
import warnings
from typing import Any

# Modules that do something when they are imported, are another system's, or are tests.
SKIPPED = re.compile(
    r"antigravity|this|idlelib|turtle|turtledemo|tkinter|_tkinter|lib2to3|__hello__|__phello__|_test.*|_xx.*|xx.*"
)
# Attributes that differ from run to run, or with what was imported: addresses, the time of the import, caches.
PASSING = re.compile(
    r"_\w+_addr|_startTime|__builtins__|__warningregistry__|__annotat\w+|_uname_cache|_MODULE_IDENTIFIER_RE"
)
PLAIN = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis))

Survey = dict[str, dict[str, str]]


def _repr(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:
        text = f"repr() raises {type(error).__name__}"
    return re.sub(r"0x[0-9a-f]+", "0x", text)


def _signature(value: Any) -> str:
    try:
        text = str(inspect.signature(value))
        return re.sub(r"0x[0-9a-f]+|(?<=environ)\(\{.*?\}\)", "", text)  # readline sets variables
    except Exception as error:
        return type(error).__name__


def _describe(value: Any) -> str:
    kind = type(value)
    if isinstance(value, type):
        return f"class {value.__module__}.{value.__qualname__}"
    if isinstance(value, PLAIN):
        return f"{kind.__name__} {value!r}"
    if callable(value):
        owner = type(getattr(value, "__self__", None)).__name__
        doc = getattr(value, "__doc__", None)
        place = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', None)}"
        return f"{kind.__name__} {place}{_signature(value)} of {owner}: {doc if isinstance(doc, str) else None!r}"
    return kind.__name__


def _describe_all(values: dict[str, Any]) -> dict[str, str]:
    return {name: _describe(value) for name, value in values.items() if not PASSING.fullmatch(name)}


def _describe_type(cls: type) -> dict[str, str]:
    result = _describe_all(dict(vars(cls)))
    result["bases, size"] = f"{[base.__qualname__ for base in cls.__bases__]} {cls.__basicsize__}"
    result["signature"] = _signature(cls)
    result["repr"] = _repr(cls)
    return result


def look() -> Survey:
    """Describe each module of the standard library, and each class that belongs to one."""
    result: Survey = {}
    warnings.simplefilter("ignore")
    for name in sorted(sys.stdlib_module_names):
        if SKIPPED.fullmatch(name):
            continue
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            result[name] = {"import": str(error)}
            continue
        members = {key: getattr(module, key, None) for key in dir(module)}
        result[name] = _describe_all(
            {k: v for k, v in members.items() if not isinstance(v, types.ModuleType)}
        )
        result[name]["repr"] = _repr(module)
    gc.collect()  # classes that enum and others make for a moment
    todo: list[type] = [object]
    seen = set()
    while todo:
        cls = todo.pop()
        if cls in seen:
            continue
        seen.add(cls)
        todo += type.__subclasses__(cls)
        if "<locals>" in cls.__qualname__:
            continue
        if str(cls.__module__).partition(".")[0] in sys.stdlib_module_names:
            name = f"{cls.__module__}.{cls.__qualname__}"
            while name in result:  # two classes of one name
                name += "'"
            result[name] = _describe_type(cls)
    return result


def differences(here: Survey, there: Survey) -> list[str]:
    """Say what is not the same in two of them."""
    lines = []
    for name in sorted(here.keys() | there.keys()):
        one, other = here.get(name, {}), there.get(name, {})
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                lines.append(f"{name}: {key}: {one.get(key)} | {other.get(key)}")
    return lines


def main() -> int:
    """Compare the main interpreter with a new one."""
    import atoll

    look()  # what imports replace or add is there
    with atoll.create() as interp:
        lines = differences(look(), interp.call(look))
    print("\n".join(lines))
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
