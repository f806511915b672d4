"""Globals and classes are as the sender has them at the time of the call."""

import pytest

from byvalue_helpers import check_script

SCRIPTS = {
    "what is bound anew, by each way": """
        scale = 1
        def f(x): return scale * x
        with atoll.create() as interp, atoll.InterpreterPoolExecutor(2) as pool:
            for scale in (1, 2, "ab", 2, None, (1, 2)):
                if scale is None: scale = 7
                want = [f(x) for x in range(3)]
                assert [interp.call(f, x) for x in range(3)] == want
                assert list(pool.map(f, range(3))) == want
                assert list(pool.map(lambda x: scale * x, range(3))) == want
                assert [pool.submit(f, x).result() for x in range(3)] == want
    """,
    "what is changed in place": """
        class Box: pass
        box, deep, data, names = Box(), {"a": [1, {"b": (1, [2])}]}, bytearray(200_000), {"x"}
        box.a = [1]
        class Model:
            rate = 1
            options = {"k": [1]}
        def closed():
            kept = [1]
            def inner(): return list(kept)
            return inner, kept
        inner, kept = closed()
        def late(x=[]): return list(x)
        table = {"inner": inner}
        def f():
            return (deep, sum(data), sorted(names), box.a, Model.rate, Model().options, inner(), late(),
                    table["inner"]())
        def edits():
            yield
            deep["a"][1]["b"][1].append(3); yield
            data[150_000] = 9; yield
            names.add("y"); yield
            box.a.append(2); yield
            box.a = 5; yield
            Model.rate = 2; yield
            Model.options["k"].append(2); yield
            del Model.options["k"]; yield
            kept.append(2); yield
            late.__defaults__[0].append(1); yield
            late.__defaults__ = ([5],); yield
        with atoll.create() as interp, atoll.InterpreterPoolExecutor(1) as pool:
            for _ in edits():
                want = f()
                assert interp.call(f) == want and pool.submit(f).result() == want
                assert list(pool.map(lambda _: f(), [0])) == [want]
    """,
    "what a class leads to that was changed meanwhile, and changed back": """
        level, names = 1, ["a"]
        class Config: rate = 1
        class Base: kind = 1
        class User(Base):
            def seen(self): return Config.rate, level, list(names), self.kind
        def f(user): return user.seen()
        def g(config, base): return config.rate, base.kind, level, list(names)
        with atoll.create() as interp:
            for Config.rate, Base.kind, level, names[0] in ((1, 1, 1, "a"), (2, 2, 2, "b"), (1, 1, 1, "a")) * 2:
                if level == 1:
                    assert interp.call(f, User()) == (1, 1, ["a"], 1), interp.call(f, User())
                else:
                    assert interp.call(g, Config, Base) == (2, 2, 2, ["b"])
    """,
    "an attribute that is gone, of a class that came in another form, or failed, before": """
        class First:
            def other(self): return First
        class Second:
            def other(self): return Third
            def annotated(self, x: "First"): return x
        class Third:
            def other(self): return Second
            def given(self, x=First): return x
        def has(cls): return "extra" in vars(cls)
        with atoll.create() as interp, atoll.create() as other:
            other.call(len, [First, Second(), Second()])
            Second.extra = First
            other.call(len, [Third])
            assert interp.call(has, Second)
            del Second.extra
            assert interp.call(len, [Third()]) == 1 and not interp.call(has, Second)
        def explode(): raise OSError("no")
        class Bomb:
            def __reduce__(self): return explode, ()
        with atoll.create() as interp:
            First.extra = 1
            assert interp.call(has, First)
            First.bomb = Bomb()
            try: interp.call(has, First)
            except atoll.ExecutionFailed: pass
            else: raise AssertionError
            del First.bomb, First.extra
            assert not interp.call(has, First)
    """,
    "a class of no module": """
        class Nowhere:
            __module__ = None
            def other(self): return Nowhere
        def f(given): return given.other() is type(given), type(given).__module__
        assert call(f, Nowhere()) == (True, None) and type(back(Nowhere())) is Nowhere
    """,
    "whether a buffer may be written to": """
        import pickle
        def opened(view): return Block(view.obj, view.readonly)
        class Block:
            def __init__(self, data, fixed=False): self.data, self.fixed = data, fixed
            def __reduce_ex__(self, protocol):
                view = memoryview(self.data)
                return opened, (pickle.PickleBuffer(view.toreadonly() if self.fixed else view),)
        block = Block(bytearray(b"bytes"))
        def f(): return block.fixed
        with atoll.create() as interp:
            assert interp.call(f) is False
            block.fixed = True
            assert interp.call(f) is True
    """,
    "what is registered with an abstract class": """
        import numbers
        class Kind(abc.ABC): pass
        class One: pass
        class Other: pass
        def f(): return [issubclass(c, Kind) for c in (One, Other, int)], issubclass(One, numbers.Number)
        def g(x): return isinstance(x, Kind), isinstance(x, numbers.Number)
        with atoll.create() as interp, atoll.InterpreterPoolExecutor(1) as pool:
            for register, cls in ((Kind, One), (Kind, Other), (numbers.Number, One), (Kind, int)):
                for _ in range(2):
                    assert interp.call(f) == f() == pool.submit(f).result()
                    assert [interp.call(g, x) for x in (One(), Other(), 1)] == [g(x) for x in (One(), Other(), 1)]
                    assert list(pool.map(g, (One(), Other(), 1))) == [g(x) for x in (One(), Other(), 1)]
                register.register(cls)
            assert interp.call(f) == f() == pool.submit(f).result() == ([True, True, True], True)
    """,
    "what is deleted": """
        gone = 1
        class C: attr = 1
        def f():
            try: return gone
            except NameError: return "none"
        def has(): return hasattr(C, "attr"), len(range(3))
        with atoll.create() as interp:
            assert interp.call(f) == 1 and interp.call(has) == (True, 3)
            del gone, C.attr
            assert interp.call(f) == "none" and interp.call(has) == (False, 3)
            gone = 2
            def len(x): return "mine"
            assert interp.call(f) == 2 and interp.call(has) == (False, "mine")
            del len
            assert interp.call(has) == (False, 3)
    """,
    "what the interpreter has bound stays until it changes here": """
        count, log = 0, []
        class Stats: n = 0
        def add():
            global count
            count += 1
            log.append(count)
            Stats.n += 1
            return count, len(log), Stats.n
        other = 1
        def unconcerned(): return other
        with atoll.create() as interp:
            assert [interp.call(add) for _ in range(3)] == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
            for other in range(3):
                assert interp.call(unconcerned) == other
            assert interp.call(add) == (4, 4, 4)
            count = 10
            assert interp.call(add) == (11, 5, 5)
            log.append("x")
            assert interp.call(add) == (12, 2, 6)
            Stats.n = 100
            assert interp.call(add) == (13, 3, 101)
            assert (count, log, Stats.n) == (10, ["x"], 100)
    """,
    "what an initializer, exec() and prepare_main() have bound": """
        v, w = 0, 0
        def init(k): globals()["v"] = k
        def declared(k):
            global v
            v = k
        def task(_=None): return v
        for first in (init, declared):
            with atoll.InterpreterPoolExecutor(1, initializer=first, initargs=(5,)) as pool:
                assert list(pool.map(task, [0])) == [5]
                v = 1
                assert pool.submit(task).result() == 1
                v = 0
        with atoll.create() as interp:
            interp.exec("v = 6")
            assert interp.call(task) == 6
            interp.prepare_main(v=8)
            assert interp.call(task) == 8
        def total_of():
            global total
            total = total + 1 if "total" in globals() else 1
            return total
        with atoll.create() as interp:
            assert interp.call(task) == 0 and interp.call(total_of) == 1
            interp.exec("v = 70")
            assert interp.call(task) == 70 and interp.call(lambda: v) == 70
            interp.exec("v += 1; total = 10")
            assert interp.call(task) == 71 and interp.call(total_of) == 11
            interp.prepare_main(total=20)
            assert interp.call(total_of) == 21
            v = 3
            assert interp.call(task) == 3
            interp.exec("del v")
            try: interp.call(task)
            except atoll.ExecutionFailed as error: assert "NameError" in str(error)
            else: raise AssertionError
    """,
    "tasks see what was there when they were submitted": """
        state = 0
        def f(): return state
        def hold():
            import time
            time.sleep(0.2)
        with atoll.InterpreterPoolExecutor(1) as pool:
            pool.submit(f).result()
            pool.submit(hold)
            futures = []
            for state in range(20):
                futures.append(pool.submit(f))
            state = -1
            assert [future.result() for future in futures] == list(range(20))
            assert pool.submit(f).result() == -1
    """,
    "a map sees what was there when it was made": """
        scale, box = 1, [1]
        def closed(k): return lambda x: (scale, list(box), k, x)
        def f(x): return scale, list(box), x
        with atoll.InterpreterPoolExecutor(2) as pool:
            for g, want in ((f, (1, [1])), (closed(3), (1, [1], 3))):
                for options in ({"chunksize": 1}, {"buffersize": 3}, {}):
                    scale, box = 1, [1]
                    results = pool.map(g, range(100), **options)
                    scale = 2
                    box.append(2)
                    assert list(results) == [(*want, x) for x in range(100)]
                    assert pool.submit(g, 0).result()[:2] == (2, [1, 2])
            try: list(pool.map(lambda x: (x, sys.stdin, open), range(3)))
            except NotShareableError: raise AssertionError
            lock = threading.Lock()
            try: list(pool.map(lambda x: lock, range(3)))
            except NotShareableError as error: assert "lock" in str(error)
            else: raise AssertionError
    """,
    "names in annotations that are text": """
        class Point: pass
        def f(x: "Point", y: "list[Point] | None" = None) -> "typing.Any": ...
        def hints(): return typing.get_type_hints(f)
        with atoll.create() as interp:
            assert interp.call(lambda: hints()["x"] is Point and hints()["y"] == list[Point] | None)
            assert interp.call(lambda g: typing.get_type_hints(g)["x"].__name__, f) == "Point"
    """,
    "a class that was received is changed, and the same": """
        class A:
            n = 1
            def m(self): return self.n
        def keep(a):
            import builtins
            builtins.kept = getattr(builtins, "kept", None) or a
            return builtins.kept.m(), type(a) is type(builtins.kept), A is type(a)
        with atoll.create() as interp:
            assert interp.call(keep, A()) == (1, True, True)
            A.n = 2
            assert interp.call(keep, A()) == (2, True, True)
            A.m = lambda self: -self.n
            assert interp.call(keep, A()) == (-2, True, True)
            A.extra = A
            assert interp.call(lambda a: a.extra is type(a), A())
    """,
    "large buffers": """
        import array
        big = array.array("d", bytes(1 << 20))
        whole = bytes(1 << 20)
        def f(): return big[70_000], len(whole), whole[:1]
        with atoll.create() as interp:
            for value in range(3):
                big[70_000] = value
                assert interp.call(f) == (value, 1 << 20, b"\\0")
            whole = b"x" + whole[1:]
            assert interp.call(f) == (2, 1 << 20, b"x")
    """,
    "stored to without end, and then looked at": """
        n, m = 0, 0
        def f(): return n
        with atoll.create() as interp:
            interp.call(f)
            for m in range(2000): pass
            assert interp.call(f) == 0
            for n in range(2000):
                if n % 500 == 499: assert interp.call(f) == n
    """,
    "bound under what equals a name": """
        class Name(str): pass
        x = 1
        def f(): return x
        with atoll.create() as interp:
            assert interp.call(f) == interp.call(f) == 1
            globals()[Name("x")] = 2
            assert interp.call(f) == 2
            del x
            globals()[Name("x")] = 3
            assert interp.call(f) == 3
            for n in range(400): globals()["n"] = n
            x = 4
            assert interp.call(f) == 4
    """,
    "a function whose name is of a subclass of str": """
        class Name(str): pass
        def f(): return 1
        f.__name__ = f.__qualname__ = Name("g")
        with atoll.create() as interp:
            assert interp.call(lambda g: (g(), g.__name__, g.__qualname__), f) == (1, "g", "g")
    """,
    "containers that hash, and what they hold": """
        import builtins, datetime, time, types, typing
        class Box: n = 1
        box = Box()
        class Zone(datetime.tzinfo):
            def utcoffset(self, when): return datetime.timedelta(hours=box.n)
        zone = Zone()
        zone.box = box
        noon = datetime.datetime(2000, 1, 1, 12, tzinfo=zone)
        form, alias = typing.Annotated[int, box], types.GenericAlias(list, (box,))
        times, proxy = time.struct_time([box] * 9), types.MappingProxyType({"k": box})
        frozen = getattr(builtins, "frozendict", dict)(k=box)
        getters = (lambda: times[0].n, lambda: frozen["k"].n, lambda: noon.tzinfo.box.n,
                   lambda: form.__metadata__[0].n, lambda: alias.__args__[0].n)
        for f in getters:
            with atoll.create() as interp:
                for box.n in (0, 0, 0, 1, 1, 2):
                    assert interp.call(f) == box.n, f.__code__.co_names
    """,
    "changed by another thread while it is sent": """
        import byvalue_hooks as hooks, threading
        class Slow:
            def __reduce__(self):
                hooks.reached()
                return Slow, ()
        data, slow = [0], Slow()
        class C: items, other = data, slow
        def change(): hooks.begin.wait(); data.append(1); hooks.end.set()
        def f(): return len(data), slow is None
        def g(): return len(C.items), C.other is None
        for func in (f, g):
            for moment in range(1, 8):
                del data[1:]
                hooks.begin.clear(), hooks.end.clear()
                thread = threading.Thread(target=change)
                thread.start()
                with atoll.create() as interp:
                    hooks.at(moment, hooks.let_other_thread)
                    for _ in range(3): interp.call(func)
                    hooks.at(0, int)
                    hooks.begin.set()
                    thread.join()
                    assert interp.call(func)[0] == 2, (func, moment)
    """,
    "two versions of a class arrive at once": """
        import threading
        class Slow:
            def __init__(self, n): self.n = n
            def __getstate__(self): return self.n
            def __setstate__(self, n):
                self.n = n
                if n == 1:
                    begin.put(None)
                    end.get(timeout=30)
        class C: slow, items = Slow(0), [0]
        begin, end = atoll.create_queue(), atoll.create_queue()
        def f(): return C.slow.n, C.items[0]
        with atoll.create() as interp:
            assert interp.call(f) == (0, 0)
            C.slow, C.items = Slow(1), [1]
            thread = threading.Thread(target=interp.call, args=(f,))
            thread.start()
            begin.get(timeout=30)
            C.slow, C.items = Slow(2), [2]
            interp.call(f)
            end.put(None)
            thread.join()
            assert interp.call(f) == interp.call(f) == (2, 2)
    """,
    "two versions of globals arrive at once": """
        import threading, time
        class Slow:
            def __init__(self, n, when): self.n, self.when = n, when
            def __getstate__(self): return self.n, self.when
            def __setstate__(self, state):
                self.n, self.when = state
                if self.n == self.when: time.sleep(0.2)
        def put(n):
            global a, b, c, d, e, s, t
            a = b = c = d = e = [n]
            s, t = Slow(n, 1), Slow(n, 2)
        def f(): return {a[0], b[0], c[0], d[0], e[0], s.n, t.n}
        put(0)
        with atoll.create() as interp:
            interp.call(f)
            put(1)
            thread = threading.Thread(target=interp.call, args=(f,))
            thread.start()
            time.sleep(0.1)
            put(2)
            interp.call(f)
            thread.join()
            assert interp.call(f) == interp.call(f) == {2}
    """,
    "a class arrives first in several threads at once": """
        import threading
        class C: pass
        with atoll.create() as interp:
            ids, ready = [], threading.Barrier(4)
            def send(): ready.wait(); ids.append(interp.call(lambda c: id(c), C))
            threads = [threading.Thread(target=send) for _ in range(4)]
            for t in threads: t.start()
            for t in threads: t.join()
            assert len(set(ids)) == 1
    """,
    "globals that go away while they are compared": """
        import byvalue_hooks as hooks, gc
        class Slow:
            def __reduce__(self):
                hooks.reached()
                return Slow, ()
        p = q = r = s = t = u = Slow()
        def made():
            names = {"__name__": "__main__"}
            exec("a, b = [1], [2]\\ndef helper(): return len(a) + len(b)", names)
            names.update((f"unused_{n}", n) for n in range(20))  # none of those dicts that are kept for reuse
            return names["helper"]
        def f(): return p, q, r, s, t, u, helper()
        def drop():
            globals().pop("helper", None)
            gc.collect()
        with atoll.create() as interp:
            for moment in range(1, 8):
                helper = made()
                assert interp.call(f)[6] == interp.call(f)[6] == 2
                hooks.at(moment, drop)
                try:
                    interp.call(f), interp.call(f)
                except atoll.ExecutionFailed as exc:
                    assert "NameError" in str(exc)
                hooks.at(0, int)
    """,
    "methods that are bound to a name": """
        def counted(method):
            calls = []
            @functools.wraps(method)
            def wrapper(*args): return method(*args), len(calls)
            wrapper.calls = calls
            return wrapper
        class Counter:
            @counted
            def count(self): return 1
            def add(self, item, items=[]): return items + [item]
        counter = Counter()
        count, table = counter.count, {"add": counter.add}
        def f(): return count(), table["add"](0)
        with atoll.create() as interp:
            for k in range(4):
                assert interp.call(f) == f() == ((1, k), [*range(1, k + 1), 0]), k
                Counter.count.calls.append(k)
                Counter.add.__defaults__[0].append(k + 1)
    """,
    "what goes away meanwhile": """
        def made(k):
            names = {"__name__": "__main__", "k": [k]}
            exec("def f(): return k[0]", names)
            return names
        with atoll.create() as interp:
            for k in range(300):
                names = made(k)
                assert interp.call(names["f"]) == k
                names["k"][0] = -k
                assert interp.call(names["f"]) == -k
    """,
}


def test_a_dtype_that_is_changed_in_place():
    """It hashes by value, as what never changes does."""
    pytest.importorskip("numpy", reason="numpy is not installed")
    check_script("""
        import numpy
        kind = numpy.dtype([("a", "i4"), ("b", "f8")])
        def f(): return kind.names
        with atoll.create() as interp:
            assert interp.call(f) == ("a", "b")
            kind.names = ("x", "y")
            assert interp.call(f) == ("x", "y")
    """)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name):
    check_script(SCRIPTS[name])
