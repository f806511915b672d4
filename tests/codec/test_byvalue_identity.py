"""Which function is which, whose globals it has, and what is given up with whom: each test is a script of its own."""

from __future__ import annotations

import pytest

from byvalue_helpers import PRELUDE, check_script

OWN = """
def namespace(source, **names):
    names["__name__"] = "__main__"
    exec(source, names)
    return names

def stand_ins():
    import gc
    modules = [o for o in gc.get_objects() if type(o) is types.ModuleType and o.__name__ == "__main__"]
    return len(modules) - 1  # the interpreter's own
"""

SCRIPTS = {
    "what is sent is one, though functions in it use it": """
        TABLE = {}
        def use(): return TABLE
        TABLE.update(use=use, table=TABLE)
        def look(one, other): return one is other is one["table"] and one["use"] is other["table"]["use"]
        for _ in range(3):
            assert call(look, TABLE, TABLE)
            table = back([TABLE, {"in": (TABLE, use)}])
            assert table[0] is table[1]["in"][0] is table[0]["table"] and table[0]["use"] is use
        class Owner:
            kept = (TABLE, {"use": use, "table": [TABLE]})
        for _ in range(3):
            with atoll.create() as other:
                assert other.call(lambda: Owner.kept[0] is Owner.kept[1]["table"][0])
            assert call(lambda: Owner.kept[0] is Owner.kept[1]["table"][0])
            TABLE[len(TABLE)] = 1
    """,
    "what is sent with a function that uses it is as it was sent": """
        LISTED = [1]
        class Box: n = 1
        BOX = Box()
        BOX.n = 1
        MISSING = object()
        def both(listed, box, missing, *, sent_in_full=1):
            seen = list(listed), box.n, missing is MISSING
            LISTED.append(2)
            BOX.n += 1
            return seen
        for _ in range(3):
            assert call(both, LISTED, BOX, MISSING) == ([1], 1, True)
        def change(*, sent_in_full=1):
            LISTED.append(3)
            BOX.n += 1
        INSIDE = [BOX]
        def count(*, sent_in_full=1): return len(INSIDE), len(LISTED)
        def look(parts): return parts[1:3] == [[1], [1]], parts[1] is parts[2], parts[3].n, parts[0](), parts[4]()[0]
        for _ in range(3):
            assert call(look, [change, LISTED, LISTED, BOX, count]) == (True, True, 1, None, 1)
        def same(box, *, sent_in_full=1): return box is BOX
        BOX.n = 7
        assert call(same, BOX) and call(same, BOX)
    """,
    "a cycle through an object with a name": """
        class Box: pass
        BOX = Box()
        HOLDER = {"box": BOX}
        BOX.inside = [HOLDER, 1]
        def use(): return BOX.inside[0]["box"] is BOX
        for _ in range(3):
            assert call(use)
            holder = back(HOLDER)
            assert holder["box"].inside[0] is holder
            assert call(lambda holder: holder["box"].inside[0] is holder, HOLDER)
            box = back(BOX)
            assert box is BOX and box.inside[0]["box"] is box
    """,
    "sentinels of modules that come, go and change": """
        import pathlib, tempfile
        with tempfile.TemporaryDirectory() as tmp:
            for name in "ab":
                source = "MISSING = object()\\ndef check(x): return x is MISSING\\n"
                pathlib.Path(tmp, f"sentinels_{name}.py").write_text(source)
            sys.path.insert(0, tmp)
            interp.exec(f"import sys; sys.path.insert(0, {tmp!r})")
            sys.modules["sentinels"] = types.ModuleType("sentinels")
            import sentinels_a
            assert call(sentinels_a.check, sentinels_a.MISSING)
            del sys.modules["sentinels"]
            import sentinels_b  # there are as many modules as before
            assert call(sentinels_b.check, sentinels_b.MISSING)
            sentinels_a.LATER = object()
            interp.exec("import sentinels_a; sentinels_a.LATER = object()")
            def is_later(x):
                import sentinels_a
                return x is sentinels_a.LATER
            assert call(is_later, sentinels_a.LATER) and not call(is_later, object())
            assert call(sentinels_a.check, sentinels_a.MISSING)
    """,
    "functions of one code are different functions": """
        def make(default=None):
            def f(x=default): return x
            return f
        a, b = make(), make()
        def look(table, members, listed):
            return len(table), len(members), listed[0] is listed[1], listed[0] is listed[2]
        assert call(look, {a: 1, b: 2}, {a, b}, [a, b, a]) == (2, 2, False, True)
        x, y, z = back([a, b, a])
        assert x is a and y is b and z is a
        table = back({a: 1, b: 2})
        assert table[a] == 1 and table[b] == 2
        lambdas = [lambda x: x for _ in range(5)]
        assert back(lambdas) == lambdas and len(set(call(identity, lambdas))) == 5
        many = [make(i) for i in range(30)]
        for _ in range(3):
            assert [call(f) for f in many] == list(range(30))
            assert back(many) == many
    """,
    "a function whose code is replaced": """
        K = 1
        def f(): return ("old", K)
        def new(): return ("new", K)
        keep = lambda f: globals().setdefault("kept", []).append(f)
        assert call(f)[0] == "old"
        call(keep, f)
        f.__code__ = new.__code__
        assert call(f)[0] == "new"
        assert call(lambda g: g(), f)[0] == "new"
        f.__defaults__ = ()
        assert back(f) is f
    """,
    "namespaces are apart": """
        source = "def f(): return X, helper()\\ndef helper(): return X * 10\\ndef g(): global X; X += 1"
        one, two = namespace(source, X=1), namespace(source, X=2)
        def both(f, g): return f(), g()
        for _ in range(2):
            assert call(both, one["f"], two["f"]) == ((1, 10), (2, 20))
        call(one["g"])
        assert call(both, one["f"], two["f"]) == ((2, 20), (2, 20))  # state stays, and stays apart
        X = 5
        def f(): return X
        assert call(f) == 5
        assert call(both, one["f"], f) == ((2, 20), 5)
        assert back(one["f"]) is one["f"] and back(f) is f
        exec("def helper(): return 'new'", one)
        assert call(both, one["f"], two["f"]) == ((2, "new"), (2, 20))
    """,
    "a function that comes home finds its own namespace": """
        one = namespace("def f(): return X\\ndef outer():\\n def inner(): return X\\n return inner", X=1)
        X = 2
        f = call(one["outer"])
        assert f.__globals__ is one and f() == 1
        one["X"] = 3
        assert f() == 3
    """,
    "what comes home overwrites nothing": """
        def helper(): return "first"
        def make():
            def cb(): return helper()
            return cb
        def other(): return helper()
        K = [1]
        keep = lambda *fs: globals().update(kept=fs)
        give = lambda: globals()["kept"]
        cb = make()
        call(keep, cb, other)
        del cb, other, make
        def helper(): return "second"
        cb, other = call(give)
        assert helper() == cb() == other() == "second"
        assert cb.__globals__ is other.__globals__ is globals()
        del helper, cb, other
        cb, other = call(give)
        assert helper() == cb() == "first"  # nothing was bound to that name any more
    """,
    "a result of a future overwrites nothing": """
        def helper(): return "first"
        def job(x):
            def cb(): return helper()
            return cb
        with atoll.InterpreterPoolExecutor(1) as pool:
            future = pool.submit(job, 1)
            pool.submit(abs, 1).result()
            def helper(): return "second"
            def job(x): return None
            assert future.result()() == helper() == "second"
    """,
    "a module that is bound anew": """
        import json as m
        def f(): return m.__name__
        assert call(f) == call(f) == "json"
        import pickle as m
        assert call(f) == "pickle"
        m = "text"
        def g(): return m
        assert call(g) in ("text", sys.modules["pickle"])
    """,
    "a module of the same name from another file": """
        import importlib.util, tempfile
        folder = tempfile.mkdtemp()
        def load(text):
            path = os.path.join(tempfile.mkdtemp(dir=folder), "plug.py")
            with open(path, "w") as file:
                file.write(f"class C:\\n    text = {text!r}\\ndef f(): return C.text\\n")
            spec = importlib.util.spec_from_file_location("plug", path)
            module = sys.modules["plug"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        for text in ("one", "two"):
            module = load(text)
            with atoll.create() as fresh:
                assert fresh.call(getattr, module.C(), "text") == text
                assert fresh.call(module.f) == text
        module.__file__ = load("three").__file__
        sys.modules["plug"] = module
        with atoll.create() as fresh:
            assert fresh.call(getattr, module.C(), "text") == "two"  # what it is, not what the file says
    """,
    "namespaces that are gone are given up": """
        def once():
            with atoll.create() as other:
                other.exec("big = [0] * 100000\\ndef f(): return len(big)\\ndef g(): return f()")
                g = other.call(eval, "g")
                assert g() == 100000
        once()
        gc.collect()
        before = stand_ins()
        for _ in range(20):
            once()
        gc.collect()
        assert stand_ins() <= before + 1
        del once

        def there(f): return f()
        for i in range(30):
            space = namespace("def f(): return g()\\ndef g(): return X", X=i)
            assert call(there, space["f"]) == i
            assert call(space["f"]) == i
        del space
        gc.collect()
        call(there, lambda: stand_ins())  # which crosses with its globals: what is gone is noticed
        call(gc.collect)
        assert call(stand_ins) <= 3
    """,
    "a class whose methods are changed": """
        class C:
            def f(self, k=1): return "old", k
            def g(self, seen=[]): return list(seen)
            def h(self, *, k=1, seen={}): return k, dict(seen)
        def run(c): return c.f(), c.g(), c.h()
        def new(self, k=9): return "new", k
        def fresh():
            with atoll.create() as other:
                return other.call(run, C())
        def check():
            assert fresh() == fresh() == run(C()), (fresh(), run(C()))
        check()
        C.f.__code__ = new.__code__
        check()
        C.f.__defaults__ = (2,)
        check()
        C.g.__defaults__[0].append("x")
        check()
        C.h.__kwdefaults__["seen"]["y"] = 1
        check()
        C.h.__kwdefaults__ = {"k": 5, "seen": {}}
        check()
    """,
    "rules that are registered later": """
        import copyreg
        from codec_samples import Plain
        made = [0]
        def build(number): return Plain(built=number)
        def reduce(obj):
            made[0] += 1
            return build, (obj.number,)
        assert call(lambda p: p.number, Plain(number=1)) == 1
        copyreg.pickle(Plain, reduce)
        assert call(lambda p: p.built, Plain(number=2)) == 2 and made == [1]
        del copyreg.dispatch_table[Plain]
        copyreg.dispatch_table[int] = None  # as many as before
        assert call(lambda p: p.number, Plain(number=3)) == 3 and made == [1]
        del copyreg.dispatch_table[int]
    """,
    "globals with keys that run code": """
        space = namespace("x = 1\\ndef f(): return x")
        call(space["f"])
        compared = 0
        class Key:
            def __init__(self, n): self.n = n
            def __hash__(self): return hash("x")
            def __eq__(self, other):
                global compared
                compared += 1
                return isinstance(other, Key) and other.n == self.n
        def use(table):
            global compared
            compared = 0
            table[Key(1)] = "old"
            table[Key(1)] = "new"
            table["x"] = len
            table["x"] = 1
            del table[Key(1)]
            return compared
        assert use(dict(space)) == use(space)  # CPython compares, the watcher does not
        space["x"] = 2
        assert space["f"]() == 2
    """,
    "code that is replaced while its path is looked up": """
        def make(source):
            space = {"__name__": "odd", "x": 1}
            exec(source, space)
            return space["f"]
        f = make("def f(): return x")
        f.__module__ = "odd"
        armed = True
        class Odd:
            def __getattr__(self, name):
                global armed
                if name == "f" and armed:
                    armed = False
                    f.__code__ = make("def f(): return x + 1").__code__
                    gc.collect()
                raise AttributeError(name)
        sys.modules["odd"] = Odd()
        for _ in range(2):
            assert call(f) == 2
    """,
    "of classes that are gone nothing is kept of where they had which object": """
        def define():
            class Made: pass
            Made.one = Made()
            return Made
        def places():
            import gc
            tables = [o for o in gc.get_objects() if type(o) is dict]
            lists = [value for table in tables for value in list(table.values()) if type(value) is list]
            return max(len(one) for one in lists if one and all(type(e) is tuple and len(e) == 5 for e in one))
        first = define()
        assert call(lambda cls: cls.one.__class__ is cls, first)
        for n in range(1000):  # those of before leave their addresses to those that come
            assert call(lambda cls: cls.one.__class__ is cls, define())
            if n % 3 == 0:
                gc.collect(), call(gc.collect)
        assert max(places(), call(places)) <= 8, (places(), call(places))
        assert back(first.one) is first.one
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name):
    check_script(SCRIPTS[name], PRELUDE + OWN)
