"""What a task left is had whole, also after Ctrl-C: each test is a script of its own."""

from __future__ import annotations

import textwrap

import pytest

from helpers import run_python

SCRIPTS = {
    "interrupted while it is rebuilt": """
        import signal
        armed = []
        class Rebuilt:
            def __getstate__(self): return 5
            def __setstate__(self, state):
                self.state = state
                if armed:
                    armed.pop()
                    signal.raise_signal(signal.SIGINT)
        def make(fail=False):
            made = Rebuilt()
            made.state = 5
            if fail: raise ValueError(made)
            return made
        with InterpreterPoolExecutor(1) as pool:
            for fail in (False, True):
                for ask in ("result", "exception", "done", "running", "cancelled", "cancel"):
                    future = pool.submit(make, fail)
                    pool.submit(int).result()  # the one worker is done with it
                    armed.append(True)
                    try: getattr(future, ask)()
                    except KeyboardInterrupt: assert not armed
                    else: assert armed.pop() and ask == "cancel"
                    assert future.done()
                    if fail: assert future.exception().args[0].state == 5
                    else: assert future.result().state == 5
    """,
    "no memory while it is rebuilt": """
        class Rebuilt:
            tried = 0
            def __reduce__(self): return rebuild, ()
        def rebuild():
            Rebuilt.tried += 1
            if Rebuilt.tried == 1: raise MemoryError
            return 7
        def make(): return Rebuilt()
        with InterpreterPoolExecutor(1) as pool:
            future = pool.submit(make)
            try: future.result()
            except MemoryError: pass
            else: raise AssertionError
            assert future.result() == 7
    """,
    "results before what cannot be rebuilt": """
        class Refused(Exception):
            def __reduce__(self): return refuse, ()
        class Value:
            def __reduce__(self): return refuse, ()
        def refuse(): raise OSError("not here")
        def raises(x):
            if x == 5: raise Refused
            return x
        def returns(x):
            if x == 7: raise ValueError("later")
            return Value() if x == 5 else x
        def generates(x): return Value() if x == 5 else (x for x in ()) if x == 7 else x
        def results(f):
            had = []
            try:
                for x in pool.map(f, range(10), chunksize=10): had.append(x)
            except Exception as exc: return had, exc
        with InterpreterPoolExecutor(1) as pool:
            had, exc = results(raises)
            assert had == [0, 1, 2, 3, 4] and exc.excinfo.type.__name__ == "Refused"
            for f in (returns, generates):
                had, exc = results(f)
                assert type(exc) is OSError and str(exc) == "not here", exc
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_outcome(name):
    prelude = "import atoll\nfrom atoll.futures import InterpreterPoolExecutor\n"
    ended = run_python(prelude + textwrap.dedent(SCRIPTS[name]))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
