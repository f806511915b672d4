"""The codec: what it refers to is held while Python code runs, and no exception is lost or changed on the way."""

from __future__ import annotations

import builtins
import importlib
import signal
import subprocess
import sys
import textwrap
import threading
import types

import pytest

import atoll
from atoll import _atoll
from helpers import PATIENCE

OTHERS = ["SECRET"] * 52  # as long as the lists that are dropped: takes their place in memory


@pytest.fixture
def module(request):
    """Yield an empty module that can be imported, of the test's name."""
    made = types.ModuleType(f"made_for_{request.node.originalname}")
    made.__file__ = "nowhere.py"
    sys.modules[made.__name__] = made
    yield made
    sys.modules.pop(made.__name__, None)


def belongs_to(module, cls):
    """Make cls one of module's."""
    cls.__module__, cls.__qualname__ = module.__name__, cls.__name__
    setattr(module, cls.__name__, cls)
    return cls


class Drop:
    """Drops the only reference to a list that is being sent, and fills its place."""

    def __init__(self):
        self.outer = []
        self.kept = []

    def around(self, obj):
        self.outer = [[obj] + [1.5] * 50 + ["tail"]]
        return self.outer

    def __call__(self):
        if self.outer:
            self.outer[0] = None
            self.kept += [OTHERS.copy() for _ in range(50)]


def assert_whole(sent):
    assert sent[0][1:] == [1.5] * 50 + ["tail"]


class TestHeld:
    def test_metaclass_runs_code(self, module):
        drop = Drop()

        class Meta(type):
            def __getattribute__(cls, name):
                if name == "__module__":
                    drop()
                return type.__getattribute__(cls, name)

        belongs_to(module, Meta)
        cls = belongs_to(module, Meta("C", (), {}))
        _atoll._encode([cls])  # what its metaclass is, is known from now on
        assert_whole(_atoll._decode(_atoll._encode(drop.around(cls))))

    def test_module_runs_code(self, module):
        drop = Drop()
        cls = belongs_to(module, type("C", (), {}))
        _atoll._encode(cls())
        del module.__file__

        def __getattr__(name):
            drop()
            raise AttributeError(name)

        module.__getattr__ = __getattr__
        assert_whole(_atoll._decode(_atoll._encode(drop.around(cls()))))

    def test_module_of_a_class_of_its_own(self):
        drop = Drop()

        class Lazy(types.ModuleType):
            def __getattribute__(self, name):
                drop()
                return super().__getattribute__(name)

        lazy = Lazy("lazy_module")
        lazy.__spec__ = None
        sys.modules["lazy_module"] = lazy
        try:
            assert_whole(_atoll._decode(_atoll._encode(drop.around(lazy))))
        finally:
            del sys.modules["lazy_module"]

    @pytest.mark.parametrize("hook", ["__getstate__", "__reduce__", "__reduce_ex__", "__getattribute__"])
    def test_instance_runs_code(self, module, hook):
        drop = Drop()

        def run(self, *args):
            drop()
            return getattr(object, hook)(self, *args)

        cls = belongs_to(module, type("C", (), {hook: run}))
        _atoll._encode(cls())
        assert_whole(_atoll._decode(_atoll._encode(drop.around(cls()))))

    def test_audit_hook_runs_code(self):
        """Code objects are marshalled, which is audited: a hook is Python code."""
        run_in_child("""
            import sys, atoll
            from atoll import _atoll
            outer, kept = [], []
            def hook(event, args):
                if event == "marshal.dumps" and outer:
                    outer[0] = None
                    kept.extend([["SECRET"] * 52 for _ in range(50)])
            code = compile("x", "f", "exec")
            sys.addaudithook(hook)
            outer.append([code] + [1.5] * 50 + ["tail"])
            sent = _atoll._decode(_atoll._encode(outer))
            assert kept
            assert sent[0][1:] == [1.5] * 50 + ["tail"], sent
        """)

    def test_import_in_another_thread(self, tmp_path, monkeypatch):
        """A module that is being imported is waited for, and the GIL is given away."""
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "slow_to_hold.py").write_text(
            "import builtins\nclass C: pass\nbuiltins.test_hand_over(C)\n"
        )
        there, go_on = threading.Event(), threading.Event()
        classes, sent = [], []

        def hand_over(cls):
            classes.append(cls)
            _atoll._encode([cls(), 1])  # its kind is known from now on
            there.set()
            assert go_on.wait(PATIENCE)

        monkeypatch.setattr(builtins, "test_hand_over", hand_over, raising=False)
        importer = threading.Thread(target=importlib.import_module, args=("slow_to_hold",))
        importer.start()
        assert there.wait(PATIENCE)
        drop = Drop()
        outer = drop.around(classes[0]())
        sender = threading.Thread(target=lambda: sent.append(_atoll._encode(outer)))
        sender.start()
        while not waits_for_import(sender):
            pass
        drop()
        go_on.set()
        sender.join(PATIENCE)
        importer.join(PATIENCE)
        assert_whole(_atoll._decode(sent[0]))
        del sys.modules["slow_to_hold"]


def waits_for_import(thread):
    frame = sys._current_frames().get(thread.ident)
    while frame is not None and "importlib" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


def run_in_child(code, *options):
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestNoExceptionIsLost:
    def test_interrupt_while_a_module_is_imported(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "slow_to_import.py").write_text(
            "import builtins\nclass C: pass\ndef f(): return C\nbuiltins.test_hand_over(C, f)\n"
        )
        there, go_on = threading.Event(), threading.Event()
        made = []

        def hand_over(*things):
            made.extend(things)
            there.set()
            go_on.wait(PATIENCE)

        monkeypatch.setattr(builtins, "test_hand_over", hand_over, raising=False)
        importer = threading.Thread(target=importlib.import_module, args=("slow_to_import",))
        importer.start()
        main = threading.main_thread()
        try:
            assert there.wait(PATIENCE)
            for thing in (made[0](), made[0], made[1]):
                stop = threading.Event()

                def interrupt(stop=stop):
                    # A signal that comes just before the thread sleeps does not wake it: one more does.
                    while not stop.wait(0.01):
                        if waits_for_import(main):
                            signal.pthread_kill(main.ident, signal.SIGINT)

                def once(*args, stop=stop):
                    if not stop.is_set():
                        stop.set()
                        raise KeyboardInterrupt

                before = signal.signal(signal.SIGINT, once)

                other = threading.Thread(target=interrupt)
                other.start()
                try:
                    with pytest.raises(KeyboardInterrupt):
                        _atoll._encode([thing])
                finally:
                    stop.set()
                    other.join(PATIENCE)
                    signal.signal(signal.SIGINT, before)
        finally:
            go_on.set()
            importer.join(PATIENCE)
            sys.modules.pop("slow_to_import", None)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
    def test_while_an_error_is_described(self, error):
        class Key:
            def __reduce__(self):
                return int, ()

            def __repr__(self):
                raise error

        with pytest.raises(error):
            _atoll._encode({Key(): threading.Lock()})

    def test_what_a_repr_raises_costs_detail_only(self):
        class Key:
            def __reduce__(self):
                return int, ()

            def __repr__(self):
                raise ValueError

        with pytest.raises(atoll.NotShareableError, match=r"\[<Key>\]: _thread.lock is not shareable"):
            _atoll._encode({Key(): threading.Lock()})

    def test_no_memory(self):
        """Each allocation of a call fails once: always MemoryError, in either interpreter."""
        pytest.importorskip("_testcapi", reason="this Python has no _testcapi")
        out = run_in_child("""
            import os, _testcapi, atoll
            s = "shared string"
            with atoll.create() as i:
                def same(x): return x
                import fractions
                arg = [s, s, fractions.Fraction]
                i.call(same, arg); i.call(same, arg)
                import gc; gc.disable()
                hold = []
                for n in range(200):
                    hold.append([[] for _ in range(200)])  # CPython's free list of lists is empty
                    _testcapi.set_nomemory(n, n + 1)
                    try:
                        i.call(same, arg); r = "ok"
                    except MemoryError:
                        r = "MemoryError"
                    except BaseException as e:
                        _testcapi.remove_mem_hooks(); r = repr(e)
                    _testcapi.remove_mem_hooks()
                    assert r in ("ok", "MemoryError") or "MemoryError" in r, (n, r)
            print("done", flush=True)
            os._exit(0)
        """)
        assert out == "done\n"

    @pytest.mark.skipif(
        sys.version_info < (3, 14), reason="CPython crashes when it has no memory for a function"
    )
    def test_no_memory_twice(self):
        """Two allocations in a row fail, of a call with named objects: CPython may lose the first MemoryError."""
        pytest.importorskip("_testcapi", reason="this Python has no _testcapi")
        out = run_in_child("""
            import gc, os, _testcapi, atoll
            class Registry:
                def __init__(self): self.items = [1, 2]; self.table = {"items": self.items}
            one, other = Registry(), Registry()
            def f(*args): return args, one, other
            arg = {"b": one, "c": [other, one.items]}
            with atoll.create() as i:
                i.call(f, arg); i.call(f, arg)
                gc.disable()
                for n in range(450):
                    one.state = other.state = n
                    hold = [[] for _ in range(100)]
                    _testcapi.set_nomemory(n, n + 2)
                    try:
                        i.call(f, arg); r = "ok"
                    except BaseException as e:
                        _testcapi.remove_mem_hooks(); r = repr(e)
                    _testcapi.remove_mem_hooks()
                    assert r == "ok" or "MemoryError" in r, (n, r)
            print("done", flush=True)
            os._exit(0)
        """)
        assert out == "done\n"

    @pytest.mark.parametrize("to", ["n + 1", "0"], ids=["once", "from then on"])
    def test_no_memory_for_code(self, to):
        """Marshal says of code that it cannot be written when it has no memory for its table of references."""
        pytest.importorskip("_testcapi", reason="this Python has no _testcapi")
        out = run_in_child(f"""
            import os, _testcapi, atoll
            from atoll import _atoll
            def f(x): return (x, "text", 1.5, b"bytes", x[1:2], x in {{1, 2, None}}, 2j, lambda: x)
            _atoll._encode(f.__code__)
            raised = 0
            for n in range(60):
                _testcapi.set_nomemory(n, {to})
                try:
                    _atoll._encode(f.__code__); r = "ok"
                except MemoryError:
                    r = "MemoryError"; raised += 1
                except BaseException as e:
                    _testcapi.remove_mem_hooks(); r = repr(e)
                _testcapi.remove_mem_hooks()
                assert r in ("ok", "MemoryError"), (n, r)
            assert 0 < raised < 60, raised
            print("done", flush=True)
            os._exit(0)
        """)
        assert out == "done\n"

    def test_no_memory_to_forget_a_class(self):
        """What came of a class that could not be had as a whole is gone, though there is no memory for that either."""
        pytest.importorskip("_testcapi", reason="this Python has no _testcapi")
        out = run_in_child("""
            import os, atoll
            class Node:
                def __reduce__(self): return type(self).get, ()
                @classmethod
                def get(cls):
                    import builtins, _testcapi
                    if getattr(builtins, "failed", 0) < Node.allocations:
                        builtins.failed = Node.allocations
                        builtins.ints = [1000 + n for n in range(1000)]  # CPython's free list of ints is empty
                        _testcapi.set_nomemory(0, Node.allocations)
                        bytes(10_000)
                    return object.__new__(cls)
            def define(n):
                class Made(Node):
                    all = []
                Made.all += [Made(), "of all"]
                Node.allocations = n
                return Made
            def look(cls): return type(cls.all[0]) is cls, cls.all[1]
            def fails(function, *args):  # in so short a function an exception is caught without memory
                try:
                    function(*args)
                except BaseException:
                    return True
            numbers = [atoll._atoll._encode(lambda: 0) for _ in range(300)]  # those of what comes need memory
            with atoll.create() as i:
                call, execute = i.call, i.exec
                for n in range(1, 20):
                    made = define(n)
                    assert fails(call, look, made)
                    while fails(execute, "import _testcapi; _testcapi.remove_mem_hooks()"):
                        pass
                    assert call(look, made) == (True, "of all"), n
            print("done", flush=True)
            os._exit(0)
        """)
        assert out == "done\n"


def there_and_back_again(obj):
    return _atoll._decode(_atoll._encode(obj))


class Raising(list):
    def extend(self, items):
        super().extend(items)
        raise AttributeError("inside")


class Appending:
    def __init__(self):
        self.items = []

    def append(self, item):
        self.items.append(item)


class MadeWithItems:
    def __init__(self, cls):
        self.cls = cls

    def __reduce__(self):
        return self.cls, (), None, iter([1, 2])


class TestItems:
    def test_error_in_extend(self):
        message = _atoll._encode(MadeWithItems(Raising))
        with pytest.raises(AttributeError, match="inside"):
            _atoll._decode(message)

    def test_no_extend(self):
        assert _atoll._decode(_atoll._encode(MadeWithItems(Appending))).items == [1, 2]

    @pytest.mark.parametrize("kind", ["items", "pairs"])
    def test_lists_are_emptied_meanwhile(self, kind):
        """All that there are of such items, by what an item runs: what the codec has taken of an iterator stays."""
        out = run_in_child(f"""
            import gc
            from atoll import _atoll

            def is_made(item):
                return type(item) is Item or (type(item) is tuple and len(item) == 2 and type(item[0]) is Item)

            class Item:
                def __init__(self, number):
                    self.number = number
                def __hash__(self):
                    return self.number
                def __reduce__(self):
                    for found in gc.get_objects():
                        if type(found) is list and any(map(is_made, found)):
                            found.clear()
                    others = [(i, str(i)) for i in range(2000)]
                    return int, (self.number,)

            class Items(list):
                def __reduce__(self):
                    return list, (), None, (Item(number) for number in range(7))

            class Pairs(dict):
                def __reduce__(self):
                    return dict, (), None, None, ((Item(number), [number]) for number in range(7))

            items = _atoll._decode(_atoll._encode({kind.capitalize()}()))
            print([*items], [*items.values()] if type(items) is dict else "")
        """)
        assert out.startswith("[0, 1, 2, 3, 4, 5, 6] ")
        assert "[6]" in out or kind == "items"
