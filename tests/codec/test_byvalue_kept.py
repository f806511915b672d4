"""What is kept of classes, functions and modules is not used when it has changed, and goes with what it belongs to."""

from __future__ import annotations

import textwrap

import pytest

from byvalue_helpers import PRELUDE, check_script

OWN = """
from atoll import _atoll
def fresh(f, *args):
    with atoll.create() as interp:
        return interp.call(f, *args)
def kept(x): return _atoll._encode(x), _atoll._encode(x)
"""

# Each changes what a fresh interpreter has to get, after the class has been sent twice.
CHANGES = {
    "closure": (
        "n = 1\ndef f(self): return n\ndef change():\n nonlocal n\n n += 1",
        "change()",
    ),
    "closure by hand": ("n = 1\ndef f(self): return n", "C.f.__closure__[0].cell_contents = 5"),
    "closure of a mutable": (
        "acc = []\ndef f(self): return list(acc)",
        "C.f.__closure__[0].cell_contents.append(1)",
    ),
    "closure of a function": (
        "def g(): return 1\ndef f(self): return g()\ndef change():\n nonlocal g\n def g(): return 2",
        "change()",
    ),
    "closure in a wrapper": (
        "def deco(f):\n count = [0]\n n = 0\n @functools.wraps(f)\n def w(self):\n  return n, count[0], f(self)\n"
        " def more():\n  nonlocal n\n  n += 1\n w.more = more\n return w\n@deco\ndef f(self): return 1",
        "C.f.more()",
    ),
    "attribute": ("def f(self): return getattr(C_f(self), 'tag', None)", "C.f.tag = 1"),
    "attribute again": ("def f(self): return C_f(self).tag\nf.tag = 1", "C.f.tag = 2"),
    "attribute in place": ("def f(self): return C_f(self).tag\nf.tag = []", "C.f.tag.append(2)"),
    "attribute gone": (
        "def f(self): return getattr(C_f(self), 'tag', None)\nf.tag = 1",
        "vars(C.f).pop('tag', None)",
    ),
    "attributes": ("def f(self): return vars(C_f(self))", "C.f.__dict__ = {'a': 1}"),
    "wrapped": (
        "def g(self): return 1\n@functools.wraps(g)\ndef f(self): return C_f(self).__wrapped__(self)",
        "C.f.__wrapped__ = lambda self: 2",
    ),
    "keyword default": ("def f(self, *, k=1): return k", "C.f.__kwdefaults__ = {'k': 2}"),
    "keyword default in place": ("def f(self, *, k=1): return k", "C.f.__kwdefaults__['k'] = 2"),
    "mutable keyword default": ("def f(self, *, k=[]): return list(k)", "C.f.__kwdefaults__['k'].append(2)"),
    "default": ("def f(self, k=1): return k", "C.f.__defaults__ = (2,)"),
    "mutable default": ("def f(self, k=[]): return list(k)", "C.f.__defaults__[0].append(1)"),
    "code": ("def f(self): return 1", "C.f.__code__ = (lambda self: 2).__code__"),
    "code twice": (
        "def f(self): return 1",
        "for i in range(2, 9): exec(f'def g(self): return {i}'); C.f.__code__ = g.__code__; del g",
    ),
    "docstring": ("def f(self):\n 'old'\n return C_f(self).__doc__", "C.f.__doc__ = 'new'"),
    "qualified name": ("def f(self): return C_f(self).__qualname__", "C.f.__qualname__ = 'X.y'"),
    "name": ("def f(self): return C_f(self).__name__", "C.f.__name__ = 'y'"),
    "type parameters": (
        "def f(self): return [str(p) for p in C_f(self).__type_params__]",
        "C.f.__type_params__ = (typing.TypeVar('U'),)",
    ),
    "class's name": ("def f(self): return type(self).__name__", "C.__name__ = 'D'"),
    "class's qualified name": ("def f(self): return type(self).__qualname__", "C.__qualname__ = 'D.E'"),
    "annotations": (
        "def f(self, a: int = 1): return sorted(C_f(self).__annotations__)",
        "C.f.__annotations__['b'] = int",
    ),
    "class annotations": (
        "x: int\ndef f(self): return sorted(type(self).__annotations__)",
        "C.__annotations__['y'] = int",
    ),
    "method": ("def f(self): return 1", "C.f = lambda self: 2"),
    "new attribute": ("def f(self): return getattr(self, 'k', 0)", "C.k = 1"),
    "mutable attribute": ("k = []\ndef f(self): return list(self.k)", "C.k.append(1)"),
    "base": ("class B:\n k = 1\ndef f(self): return self.B.k", "C.B.k = 2"),
    "base's method": (
        "class B:\n def g(self): return 1\ndef f(self): return self.B().g()",
        "C.B.g.__defaults__ = (7,)",
    ),
    "static method": (
        "@staticmethod\ndef g(k=1): return k\ndef f(self): return self.g()",
        "C.g.__defaults__ = (2,)",
    ),
    "property": (
        "@property\ndef g(self): return 1\ndef f(self): return self.g",
        "C.g.fget.__code__ = (lambda self: 2).__code__",
    ),
    "registered class": (
        "class A(abc.ABC): pass\nclass B: pass\ndef f(self): return [issubclass(c, self.A) for c in (self.B, int)]",
        "C.A.register(int if issubclass(C.B, C.A) else C.B)",
    ),
    "registered with a module's": (
        "def f(self): return [isinstance(self, c) for c in (collections.abc.Sized, collections.abc.Sequence)]",
        "(collections.abc.Sequence if isinstance(C(), collections.abc.Sized) else collections.abc.Sized).register(C)",
    ),
    "bases": (
        "class A:\n def g(self): return 1\nclass B:\n def g(self): return 2\nclass D(A): pass\n"
        "def f(self): return self.D().g()",
        "C.D.__bases__ = (C.B if C.D.__base__ is C.A else C.A,)",
    ),
    "metaclass": (
        "class M(type): n = 1\nclass N(type): n = 2\nclass D(metaclass=M): pass\ndef f(self): return type(self.D).n",
        "C.D.__class__ = C.N if type(C.D) is C.M else C.M",
    ),
    "plain attribute": ("n = 1\ndef f(self): return self.n", "C.n += 1"),
    "global function": ("def f(self): return helper()", "exec('def helper(): return 2', globals())"),
    "global of a wrapped function": (
        "@functools.lru_cache\ndef g(self): return helper()\ndef f(self): return self.g()",
        "exec('def helper(): return 2', globals())",
    ),
}


# Makes a class, and those in it, such that CPython does not tell when they change: each had a thousand versions.
WEAR = """
for worn in (C, *(value for value in vars(C).values() if isinstance(value, type))):
    for _ in range(1100):
        worn.worn = 1
        worn.worn
    del worn.worn
"""


@pytest.mark.parametrize("worn", [False, True], ids=["", "changed often"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_class_is_sent_anew(name, worn):
    body, change = CHANGES[name]
    source = "def helper(): return 1\ndef C_f(self): return type(self).__dict__['f']\ndef make():\n"
    names = "n = g = acc = deco = change = None\n" if "nonlocal" in body and "deco" not in body else ""
    if names:  # the body's own names are those of the function around it
        source += textwrap.indent(body, "    ") + "\n    class C: pass\n    C.f = f\n    return C, change\n"
        source += "C, change = make()\n"
    elif "closure" in name and "deco" not in body:
        source += (
            textwrap.indent(body, "    ") + "\n    class C: pass\n    C.f = f\n    return C\nC = make()\n"
        )
    else:
        source += "    class C:\n" + textwrap.indent(body, "        ") + "\n    return C\nC = make()\n"
    source += (WEAR if worn else "") + textwrap.dedent(
        f"""
        def run(c): return c.f()
        kept(C)
        before = run(C())
        assert fresh(run, C()) == before
        {change}
        assert fresh(run, C()) == run(C()), (fresh(run, C()), run(C()), before)
        {change}
        assert fresh(run, C()) == run(C())
        """
    )
    check_script(source, PRELUDE + OWN)


SCRIPTS = {
    "bytes are kept where nothing can change": """
        def encoded(x):
            before = counter[0]
            _atoll._encode(x)
            return counter[0] - before
        counter = [0]
        from atoll._crossing import byvalue
        describe = byvalue.describe_class
        def counting(cls):
            counter[0] += 1
            return describe(cls)
        byvalue.describe_class = counting
        class Base:
            def m(self): return helper()
        def helper(): return 1
        @dataclasses.dataclass
        class D(Base):
            a: int = 1
            def m(self, k=1, *, l=2) -> int: return super().m()
            @property
            def p(self): return 1
            @functools.wraps(Base.m)
            def w(self): return 2
        class E(enum.Enum):
            A = 1
            def m(self): return self
        class Abstract(abc.ABC):
            @abc.abstractmethod
            def f(self): ...
        class Other: n = 0
        Large = enum.Enum("Large", [f"m{i}" for i in range(600)], module="__main__")  # changes often
        def steady(*things):  # no loop here: a global that comes to be a class is a definition that changes
            for x in things:
                encoded(x)
                encoded(x)  # what is computed when it is first asked for is there now
                assert encoded(x) == 0, x
        steady(D(), Base(), E.A, Abstract, Other, Large.m7)
        D.z = 1
        assert encoded(D()) == 1 and encoded(D()) == 0  # the class alone
        Base.m.__defaults__ = ()
        assert encoded(D()) == 2 and encoded(D()) == 0  # and who has it for a base
        def unconcerned():
            for _ in range(5):
                Other.n += 1
                assert encoded(D()) == 0  # what is nothing to it
        encoded(D())
        unconcerned()
    """,
    "bytes are kept of as many classes as there are": """
        from atoll._crossing import byvalue
        for i in range(700):
            exec(f"class C{i}:\\n def m(self): return {i}")
        things = [globals()[f"C{i}"]() for i in range(700)]
        _atoll._encode(things)
        _atoll._encode(things)  # what is computed when it is first asked for is there now
        byvalue.describe_class = None
        assert fresh(lambda *given: [one.m() for one in given], *things) == list(range(700))
    """,
    "what is kept of a class goes with it": """
        class Data(bytes): pass
        def make():
            blob = b"x" * 50000
            class Big:
                data = blob
                def f(self, k=blob): return len(k)
            return Big
        def numbers(): return sum(type(o) is tuple and len(o) == 4 and type(o[0]) is weakref.ref and type(o[2]) is bytes
                                  for o in gc.get_objects())
        def rss():
            with open("/proc/self/statm") as f: return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20
        for _ in range(20):
            Big = make(); kept(Big); kept(Big.f); ref = weakref.ref(Big); del Big; gc.collect(); assert ref() is None
        before = rss()
        for _ in range(300):
            Big = make(); kept(Big); kept(Big.f); ref = weakref.ref(Big); del Big; gc.collect(); assert ref() is None
        assert rss() - before < 8, (before, rss())
    """,
    "what is kept of a function goes with it": """
        def rss():
            with open("/proc/self/statm") as f: return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20
        def send(i):
            names = {"__name__": "__main__"}
            exec(f"def f(): return {'x' * 100000!r}, {i}", names)
            kept(names["f"])
        for i in range(20): send(i)
        gc.collect()
        before = rss()
        for i in range(200): send(i)
        gc.collect()
        assert rss() - before < 8, (before, rss())
    """,
    "a class or function made where another was is another": """
        seen = set()
        def tell(x): return x.n if isinstance(x, type) else x()
        with atoll.create() as interp:
            for i in range(300):
                cls = type("T", (), {"n": i, "__module__": "__main__"})
                assert interp.call(tell, cls) == i
                names = {"__name__": "__main__"}
                exec(f"def f(): return {i}", names)
                assert interp.call(tell, names["f"]) == i
                del cls, names
    """,
    "what computes annotations": """
        class C:
            def f(self, a: int = 1): pass
        def tell(c): return str(c.f.__annotations__)
        kept(C)
        assert "int" in fresh(tell, C)
        if hasattr(C.f, "__annotate__"):  # 3.14 on
            old = C.f.__annotate__
            C.f.__annotate__ = lambda format: {"a": "another"}
        assert fresh(tell, C) == tell(C)
    """,
    "a module from another file": """
        import importlib.util, tempfile, pathlib
        with tempfile.TemporaryDirectory() as tmp:
            def load(n):
                path = pathlib.Path(tmp, str(n), "plug.py")
                path.parent.mkdir(exist_ok=True)
                path.write_text(f"def f(): return {n}\\nclass C: n = {n}\\ng = lambda: f()")
                spec = importlib.util.spec_from_file_location("plug", path)
                sys.modules["plug"] = module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
            for n in range(3):
                plug = load(n)
                assert fresh(plug.f) == n and fresh(lambda c: c.n, plug.C()) == n and fresh(plug.g) == n
    """,
    "copyreg": """
        import copyreg
        class H:
            def __init__(self): self.how = "copied"
        def how(h): return h.how
        def rebuild(): h = H(); h.how = "rebuilt"; return h
        with atoll.create() as interp:
            assert interp.call(how, H()) == "copied"
            copyreg.pickle(H, lambda h: (rebuild, ()))
            assert interp.call(how, H()) == "rebuilt" and fresh(how, H()) == "rebuilt"
            del copyreg.dispatch_table[H]
            assert interp.call(how, H()) == "copied"
            H.__reduce__ = lambda self: (rebuild, ())
            assert interp.call(how, H()) == "rebuilt"
    """,
    "definitions that change between many stores": """
        n = 0
        def helper(): return "first"
        def use(): return helper()
        def store(k=1000):
            global n
            for _ in range(k): n += 1
        class A:
            def m(self): return helper()
        def both(a): return use(), a.m()
        with atoll.create() as interp:
            assert interp.call(both, A()) == ("first", "first")
            for i in range(6):
                store()
                exec(f"def helper(): return {i}", globals())
                store()
                exec(f"def helper(): return {i} + 100", globals())  # may be where the one before the last was
                store(5)
                assert interp.call(both, A()) == (i + 100, i + 100)
                assert fresh(both, A()) == (i + 100, i + 100)
            store()
            helper_2 = lambda: "new name"
            def use(): return helper_2()
            assert interp.call(use) == "new name"
            store()
            X = 1
            def use(): return X
            store()
            assert interp.call(use) == 1
            store()
            del globals()["X"]
            helper_3 = X = helper
            store()
            assert fresh(lambda: X()) == 105
            assert n > 10000
    """,
    "stores in the interpreter": """
        n = 0
        def helper(): return 1
        def store():
            global n
            for _ in range(1000): n += 1
            return n, helper()
        with atoll.create() as interp, atoll.create() as other:
            assert interp.call(store) == (1000, 1) and interp.call(store) == (2000, 1)
            def helper(): return 2
            assert interp.call(store) == (3000, 2) and n == 0
            def relay(): return other.call(store), store()
            assert interp.call(relay)[1] == (4000, 2)
    """,
    "a module that goes while it is stored to": """
        import types
        def use(f): return f()
        with atoll.create() as interp:
            for i in range(40):
                module = types.ModuleType("plug")
                sys.modules["plug"] = module
                exec("n = 0\\ndef helper(): return n\\ndef f(): return helper()\\n"
                     "def store():\\n global n\\n for _ in range(400): n += 1", vars(module))
                module.f.__module__ = module.helper.__module__ = "__main__"
                f = module.f
                _atoll._encode(f)
                try: interp.call(f)
                except atoll.ExecutionFailed: pass  # there is no such module there
                module.store()
                if i % 2:
                    keep = vars(module)
                    del sys.modules["plug"], module, f
                    keep["store"]()
                    keep["helper"] = 1
                else:
                    del sys.modules["plug"], module, f
                gc.collect()
                assert interp.call(len, "abc") == 3
    """,
    "a name of another class comes to a module that is stored to": """
        import types
        class Name(str):
            hashed = 0
            def __hash__(self):
                Name.hashed += 1
                return str.__hash__(self)
            __eq__ = str.__eq__
        module = types.ModuleType("plug")
        sys.modules["plug"] = module
        exec("n = m = 0\\ndef f(): return m\\ndef store():\\n global n\\n for _ in range(1000): n += 1", vars(module))
        with atoll.create() as interp:
            for _ in range(3):
                _atoll._encode(module.f)
                interp.call(len, "")
                module.store()
                vars(module)[Name("name")] = 1
                before = Name.hashed
                interp.call(len, "")  # looks at what the module has become: no code runs for that
                assert Name.hashed == before
                del vars(module)[Name("name")]
    """,
    "many modules are stored to": """
        import types
        modules = []
        for i in range(20):
            module = types.ModuleType(f"plug{i}")
            sys.modules[module.__name__] = module
            exec("n = 0\\ndef f(): return n\\ndef store():\\n global n\\n for _ in range(1000): n += 1", vars(module))
            modules.append(module)
        with atoll.create() as interp:
            for _ in range(3):
                for module in modules:
                    number = _atoll._encode(module.store)
                    interp.call(lambda: None)
                    module.store()
                interp.call(lambda: None)
        assert [m.n for m in modules] == [3000] * 20
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name):
    check_script(SCRIPTS[name], PRELUDE + OWN)
