"""What the tests of extension modules do in interpreters, and the modules that they do it with.

Interpreters import this module by its path, as they do helpers; it imports nothing but the standard library.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent
# Set by the fixture `corpus`, after which every interpreter and child process that imports this can import the corpus.
CORPUS = os.environ.get("EXT_CORPUS")
if CORPUS and CORPUS not in sys.path:
    sys.path.append(CORPUS)

# Every module that offers what ext.h offers and has to be isolated.
ISOLATED = [
    "ext_abi3",
    "ext_arrow",
    "ext_waiters",
    "ext_borrows",
    "ext_capsule",
    "ext_capsule_user",
    "ext_constructors",
    "ext_clib",
    "ext_create",
    "ext_dl",
    "ext_end_one",
    "ext_end_two",
    "ext_exit",
    "ext_export",
    "ext_foreign",
    "ext_from_spec",
    "ext_global",
    "ext_handlers",
    "ext_ifunc",
    "ext_keys",
    "ext_lends",
    *("ext_lends_hooks", "ext_lookup"),
    "ext_main_only",
    *("ext_multi", "ext_options"),
    *(f"ext_nested_{kind}" for kind in range(1, 6)),
    "ext_pending",
    *("ext_refuses", "ext_runtime", "ext_runtime_plain"),
    "ext_shares_gil",
    "ext_signals",
    "ext_single",
    "ext_single_state",
    "ext_slotless",
    "ext_static_id",
    "ext_static_types",
    "ext_std_thread",
    "ext_supplies",
    "ext_thread_local",
    "ext_throw",
    "ext_tls",
    "ext_tls_initial",
    "ext_tss",
    "ext_unique",
    "ext_worker",
    *(f"extpkg.{name}" for name in ("_inherits", "_middle", "_rpath", "_runpath")),
]
PATIENCE = float(os.environ.get("ATOLL_TEST_PATIENCE", "60"))


def create(**options: Any) -> Any:
    """Make an interpreter that can import this module and the corpus."""
    import atoll

    interp = atoll.create(**options)
    interp.exec(f"import sys; sys.path.insert(0, {str(TESTS)!r}); import ext_use")
    return interp


def call(module: str, function: str, *args: Any) -> Any:
    """Import the module, call its function, return the result."""
    return getattr(importlib.import_module(module), function)(*args)


def get(module: str, path: str) -> Any:
    """Import the module, return an attribute of it, or an attribute of an attribute."""
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def fresh(module: str) -> int:
    """Import the module, assert that nobody has used this copy of it; return its address."""
    module = importlib.import_module(module)
    assert module.bump() == 1
    assert module.keep([module.owner()]) is None
    assert module.bump() == 2
    return module.address()


def use(module: str, rounds: int = 3) -> int:
    """Use a copy that was fresh before, with objects that break when somebody else uses it; return its address."""
    name, module = module, importlib.import_module(module)
    here = module.owner()
    for _ in range(rounds):
        assert module.work(3000) == 12000
        assert module.keep([here]) == [here]
        before = module.bump()
        assert module.bump() == before + 1
        USES.get(name, lambda module: None)(module)
    return module.address()


def use_static_types(module: Any) -> None:
    """Make instances of its types, and cycles, derive from them, raise its exception."""
    assert module.sum(500) == 499 * 500 // 2
    assert (module.Node(3) + module.Leaf(4)).value == 7

    class Derived(module.Node):
        pass

    one, other = Derived(5), module.Node(6)
    one.link(other)
    other.link(one)
    assert isinstance(module.singleton(), module.Node)
    try:
        module.Node(-1)
    except module.NodeError as error:
        assert str(error) == "-1 is negative"
    else:
        raise AssertionError("no exception")


def use_throw(module: Any) -> None:
    """Catch every kind of exception."""
    caught = [module.catch_one(how) for how in range(7)]
    expected = [("zero", 0), ("lib::Error", 7), ("own", 2), ("int", 5), ("out_of_range", 4), ("own", 5)]
    assert caught == [*expected, ("exception", 6)], caught
    assert module.constructed() == (13, 13)


def use_helped(module: Any) -> None:
    """Use the helper library's Python state."""
    before = len(module.append(module.owner()))
    after = module.append(module.owner())
    assert len(after) == before + 1
    assert set(after) == {module.built_in()} == {module.owner()}
    bumped = module.lib_bump()
    assert bumped > 1000
    assert module.lib_bump() == bumped + 1


def use_unique(module: Any) -> None:
    """Use what g++ makes unique in the process."""
    number = module.unique_bump()
    assert module.unique_bump() == number + 1
    assert set(module.unique_append(module.owner())) == {module.owner()}


def use_global(module: Any) -> None:
    """Use the exported variables."""
    number = module.global_bump()
    assert module.global_bump() == number + 3
    assert set(module.global_append(module.owner())) == {module.owner()}


def use_foreign(module: Any) -> None:
    """Enter from foreign threads, and from this one."""
    seen: list[int] = []
    assert module.run(lambda number: seen.append(module.owner()), 5, 2) == (10, 0)
    assert set(seen) == {module.owner()}
    assert module.attached() == (True, True, module.owner())


def use_capsule_user(module: Any) -> None:
    """Call through the table of the other module."""
    before = call("ext_capsule", "bump")
    assert module.call_api(5) == (5, module.owner())
    assert module.count_there() == before + 1
    try:
        module.call_api(-1)
    except ValueError as error:
        assert str(error) == "through the table"
    else:
        raise AssertionError("no exception")


def use_constructors(module: Any) -> None:
    """Look at what the constructors noted."""
    order, arguments, environment = module.result()
    assert (order, arguments, environment) == ("i12c", len(sys.orig_argv), True)


def use_tls(module: Any) -> None:
    """Count in this thread."""
    number = module.next()
    assert module.next() == number + 1
    module.put(module.owner())
    assert module.put(module.owner()) == module.owner()


def use_multi(module: Any) -> None:
    """Use the type with access to the module's state."""
    number = module.Point().count()
    assert type("Derived", (module.Point,), {})().count() == number + 1


def use_main_only(module: Any) -> None:
    """Look at what it takes for the main interpreter."""
    assert module.state() == (module.owner(), True, False)


def use_static_id(module: Any) -> None:
    """Look at the interpreter that it remembers."""
    assert module.first() == module.owner()


def use_keys(module: Any) -> None:
    """Set and get this thread's value."""
    module.set(module.owner())
    assert module.get() == module.owner()
    module.create_and_delete(10)


def use_tss(module: Any) -> None:
    """Set and get this thread's value."""
    module.set(module.owner())
    assert module.get() == module.owner()
    module.create_and_delete(10)


def use_single(module: Any) -> None:
    """Look at what was made by PyInit."""
    assert module.made_in == module.owner()
    assert module.same_registry()
    module.registry["owner"] = module.owner()


def use_single_state(module: Any) -> None:
    """Use the state that is found through the definition."""
    number = module.count_in_state()
    assert module.count_in_state() == number + 1
    assert set(module.append(module.owner())) == {module.owner()}


USES: dict[str, Callable[[Any], None]] = {
    "ext_capsule_user": use_capsule_user,
    "ext_constructors": use_constructors,
    "ext_foreign": use_foreign,
    "ext_global": use_global,
    "ext_keys": use_keys,
    "ext_main_only": use_main_only,
    "ext_multi": use_multi,
    "ext_single": use_single,
    "ext_single_state": use_single_state,
    "ext_static_id": use_static_id,
    "ext_static_types": use_static_types,
    "ext_std_thread": lambda module: module.run(3) == 6 or fail("not all of them"),
    "ext_throw": use_throw,
    "ext_tls": use_tls,
    "ext_tls_initial": use_tls,
    "ext_tss": use_tss,
    "ext_unique": use_unique,
    "ext_ifunc": lambda module: (
        (module.next(1), module.constructed_in()) == (2, module.__file__) or fail(module.constructed_in())
    ),
    "ext_thread_local": lambda module: module.touch() or fail("nothing"),
    "ext_abi3": lambda module: module.make_type()() is not None or fail("nothing"),
    "extpkg._middle": use_helped,
    "extpkg._rpath": use_helped,
    "extpkg._runpath": use_helped,
}


def load(name: str, path: str) -> Any:
    """Import a module of this name from this file, without the help of sys.path; it is not put into sys.modules."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, f"not the name of an extension: {path}"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def failure(name: str, path: str | None) -> tuple[object, ...]:
    """Import what cannot be imported, from a file unless that is None; return all that the exception says."""
    try:
        importlib.import_module(name) if path is None else load(name, path)
    except Exception as error:
        cause = error.__cause__
        details = getattr(error, "name", None), getattr(error, "path", None)
        return type(error).__name__, str(error), *details, repr(cause) if cause else None, name in sys.modules
    return ("imported",)


def describe(name: str) -> dict[str, object]:
    """Import the module; return what can be seen of how it came in."""
    module = importlib.import_module(name)
    spec = module.__spec__
    return {
        "type": type(module).__name__,
        "repr": repr(module),
        "name": module.__name__,
        "doc": module.__doc__,
        "package": module.__package__,
        "file": module.__file__,
        "cached": getattr(module, "__cached__", None),
        "path": getattr(module, "__path__", None),
        "loader": type(module.__loader__).__name__,
        "same loader": module.__loader__ is spec.loader,
        "loader path": spec.loader.path,
        "is package": spec.loader.is_package(name),
        "source": spec.loader.get_source(name),
        "file of the loader": spec.loader.get_filename(name),
        "spec": (spec.name, spec.origin, spec.has_location, spec.parent, spec.cached, spec.loader_state),
        "registered": sys.modules[name] is module,
        "function": (module.bump.__module__, module.bump.__qualname__, type(module.bump).__name__),
        "self": module.bump.__self__ is module,
        "names": sorted(vars(module)),
        "found": importlib.util.find_spec(name) is spec,
        "suffix": module.__file__.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)),
    }


def same(value: object, module: str, name: str) -> bool:
    """Whether the value is this attribute of the module here."""
    return value is get(module, name)


def type_name(name: str) -> str:
    """Import the module; return the name of its type."""
    return type(importlib.import_module(name)).__name__


def use_fresh(name: str) -> None:
    """Import the module, and use a copy that is fresh."""
    fresh(name)
    use(name)


def load_address(name: str, path: str) -> int:
    """Import a module from a file; return where its copy's variables are."""
    return load(name, path).address()


def load_and_call(name: str, path: str, function: str, *args: Any) -> Any:
    """Import a module from a file, unless that was done; call its function, return the result."""
    if name not in sys.modules:
        sys.modules[name] = load(name, path)
    return getattr(sys.modules[name], function)(*args)


def load_address_of_bytes(name: str, path: bytes) -> int:
    """Import a module from a file with a name that is not UTF-8; return where its copy's variables are."""
    return load(name, os.fsdecode(path)).address()


def load_file(name: str, path: str) -> str:
    """Import a module from a file; return its __file__."""
    return load(name, path).__file__


def read_resource(package: str, name: str) -> str:
    """Return the text of a file beside the package's modules."""
    import importlib.resources

    return importlib.resources.files(package).joinpath(name).read_text()


def pickled(module: str, name: str) -> bool:
    """Whether an object of the module is the same after it was pickled."""
    import pickle

    value = get(module, name)
    return pickle.loads(pickle.dumps(value)) is value


def reload_story(name: str) -> list[object]:
    """Import the module, reload it, forget it and import it again; return what happens to its state."""
    module = importlib.import_module(name)
    module.marker = "set from Python"
    story: list[object] = [module.bump()]
    again = importlib.reload(module)
    story += [again is module, again.bump(), hasattr(again, "marker")]
    del sys.modules[name]
    again = importlib.import_module(name)
    story += [again is module, again.bump(), hasattr(again, "marker"), again.bump is module.bump]
    story += [getattr(again, count, lambda: None)() for count in ("inits", "execs")]
    story += [getattr(again, "inits_then", None), again.address() == module.address()]
    return story


def elsewhere(number: int, module: str, function: str, *args: Any) -> Any:
    """Call a function of the module, by reference, in the interpreter with this id."""
    import atoll

    return atoll.Interpreter(number).call(getattr(importlib.import_module(module), function), *args)


def open_plain(path: str) -> int:
    """Open lib_plain.c's library with ctypes; return twice 21."""
    import ctypes

    return ctypes.CDLL(path).lib_plain_double(21)


def open_state(path: str) -> tuple[list[int], list[int], int]:
    """Open lib_state.c's library with ctypes; return two counts, its list, and the interpreter that it is for."""
    import ctypes

    library = ctypes.PyDLL(path)
    library.lib_state_append.restype = ctypes.py_object
    library.lib_state_append.argtypes = [ctypes.py_object]
    library.lib_state_built_in.restype = ctypes.c_int64
    library.lib_state_append(0)
    found = library.lib_state_append(1)
    return [library.lib_state_bump(), library.lib_state_bump()], found, library.lib_state_built_in()


def extensions() -> list[Any]:
    """Return what was loaded from the corpus, or from a temporary folder, into this interpreter."""
    import atoll

    return [one for one in atoll.loaded_extensions() if "/ext" in one.file]


def fail(why: str) -> None:
    """Raise AssertionError."""
    raise AssertionError(why)


def wait_for(module: str, function: str, expected: Any) -> None:
    """Call the module's function until it returns this.  Raises TimeoutError."""
    wait_until(lambda: call(module, function) == expected)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds.  Raises TimeoutError."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it does not happen")
        time.sleep(0.001)


# Threads that an extension starts itself.  What they call has to be in a module that their interpreter has imported.


class Calls:
    """What ext_foreign's threads call: counts the calls, and notes in which interpreter and on which thread."""

    def __init__(self) -> None:
        self.count = 0
        self.interpreters: set[int] = set()
        self.threads: set[int] = set()

    def __call__(self, number: int) -> None:
        import threading

        self.interpreters.add(call("ext_foreign", "owner"))
        self.threads.add(threading.get_ident())
        self.count += 1


CALLS = Calls()


def foreign_run(calls: int, threads: int, depth: int = 1) -> tuple[tuple[int, int], bool, int]:
    """Have foreign threads call; return (done, wrong), whether all of it was in this interpreter, and the threads."""
    seen = Calls()
    result = call("ext_foreign", "run", seen, calls, threads, depth)
    assert seen.count == calls * threads
    return result, seen.interpreters == {call("ext_foreign", "owner")}, len(seen.threads)


def foreign_background(calls: int) -> tuple[int, int]:
    """Have a foreign thread call while this one goes on in Python; return (done, wrong)."""
    seen = Calls()
    call("ext_foreign", "start", seen, calls)
    wait_until(lambda: seen.count >= 1)
    sum(range(10_000))
    result = call("ext_foreign", "wait")
    assert seen.interpreters == {call("ext_foreign", "owner")}
    return result


def foreign_here(function: str) -> Any:
    """Call ext_foreign.detached or .own_state; return its result, having checked where the callback ran."""
    seen = Calls()
    result = call("ext_foreign", function, seen)
    assert seen.interpreters == {call("ext_foreign", "owner")}
    return result


def foreign_raising() -> tuple[tuple[int, int], list[str]]:
    """Have a foreign thread call what raises; return (done, wrong), and what the hook for that was told."""
    told = []
    before, sys.unraisablehook = sys.unraisablehook, lambda details: told.append(repr(details.exc_value))
    try:
        return call("ext_foreign", "run", lambda number: 1 // number, 3), told
    finally:
        sys.unraisablehook = before


def foreign_python() -> dict[str, Any]:
    """Do on a foreign thread what depends on its thread state; return what came of it."""
    import threading

    local, results = threading.local(), {}
    local.value = "of the caller"

    def work(number: int) -> None:
        results["local"] = getattr(local, "value", None)
        local.value = number
        results["kept"] = local.value
        import decimal

        results["import"] = str(decimal.Decimal("1.5") + 1)
        results["thread"] = threading.current_thread() is not threading.main_thread()
        with threading.Lock():
            thread = threading.Thread(target=results.__setitem__, args=("started", True))
            thread.start()
        thread.join()
        results["generator"] = list(number * 2 for number in range(3))

    assert call("ext_foreign", "run", work, 1) == (1, 0)
    return results


def foreign_into(number: int) -> tuple[tuple[int, int], list[Any]]:
    """Have a foreign thread call into another interpreter, and PyGILState_Ensure() there; return what it saw."""
    import atoll

    seen: list[Any] = []

    def work(_: int) -> None:
        seen.append(atoll.Interpreter(number).call(call, "ext_foreign", "attached"))
        seen.append(atoll.Interpreter(number).call(foreign_here, "detached"))
        seen.append(call("ext_foreign", "attached"))
        seen.append(foreign_here("detached"))

    return call("ext_foreign", "run", work, 2), seen


def foreign_closing() -> str:
    """Have a foreign thread close the interpreter that it is in; return the error."""
    import atoll

    errors: list[str] = []

    def work(_: int) -> None:
        try:
            atoll.get_current().close()
        except atoll.InterpreterError as error:
            errors.append(str(error))

    call("ext_foreign", "run", work, 1)
    return errors[0]


def start_forever(threads: int) -> None:
    """Start foreign threads that call for ever; return when each can have called."""
    for _ in range(threads):
        call("ext_foreign", "forever", CALLS)
    wait_until(lambda: len(CALLS.threads) == threads)
    assert CALLS.interpreters == {call("ext_foreign", "owner")}


def stop_forever() -> None:
    """Stop the threads that were to call for ever; return when none calls any more."""
    call("ext_foreign", "stop")
    wait_until(lambda: call("ext_foreign", "running") == 0)


def pending(foreign: bool, calls: int = 1) -> tuple[tuple[int, int, int], set[int]]:
    """Add pending calls, wait until they ran; return the module's account of it and where the callback ran."""
    module = importlib.import_module("ext_pending")
    seen: set[int] = set()
    before = module.result()[0]
    for number in range(calls):
        module.add(lambda: seen.add(module.owner()), foreign)
        wait_until(lambda: module.result()[0] > before + number)
    return module.result(), seen


def add_pending(foreign: bool, descriptor: int) -> None:
    """Add a pending call that writes a byte to the descriptor, and do not wait for it."""
    call("ext_pending", "add", lambda: os.write(descriptor, b"!"), foreign)


def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call the function on a new Python thread of this interpreter; return its result."""
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()
