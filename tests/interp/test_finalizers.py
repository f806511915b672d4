"""Code that an interpreter runs last, and what code may leave behind in it: it ends, however it is ended."""

from __future__ import annotations

import pytest

from helpers import check_ended, run_python

# What runs in the interpreter before it ends.  Finalizers keep what they use: at the end names may be gone.
LEFT = {
    "create": """
        class Last:
            def __del__(self, create=atoll.create, count=len):
                interp = create(); interp.call(count, "abc"); interp.close()
        last = Last()""",
    "create and leave": """
        class Last:
            def __del__(self, create=atoll.create, count=len):
                create().call(count, "abc")
        last = Last()""",
    "call main": """
        class Last:
            def __del__(self, main=atoll.get_main(), count=len):
                main.call(count, "abc")
        last = Last()""",
    "queues": """
        class Last:
            def __del__(self, queue=atoll.create_queue()):
                queue.put(b"a" * 100_000); queue.put(bytearray(5)); queue.get(); queue.put(memoryview(b"abc"))
        last = Last()""",
    "close another": """
        other = atoll.create()
        class Last:
            def __del__(self, other=other):
                other.close()
        last = Last()""",
    "in sys.modules": """
        class Last:
            def __del__(self, create=atoll.create):
                create().close()
        sys.modules["last"] = Last()""",
    "weakref.finalize": """
        import weakref
        class Last: pass
        last = Last()
        weakref.finalize(last, lambda: atoll.create().close())""",
    "atexit": """
        import atexit
        atexit.register(lambda: atoll.create().call(len, "abc"))""",
    "atexit with a pool": """
        import atexit
        def use():
            with atoll.InterpreterPoolExecutor(1) as pool: pool.submit(len, "abc").result()
        atexit.register(use)""",
    "settrace": """
        def trace(*args): return trace
        sys.settrace(trace); threading.settrace(trace)
        thread = threading.Thread(target=len, args=("",)); thread.start(); thread.join()""",
    "setprofile": """
        def profile(*args): pass
        sys.setprofile(profile)""",
    "monitoring": """
        watch = sys.monitoring
        watch.use_tool_id(3, "x")
        for event in (watch.events.LINE, watch.events.CALL): watch.register_callback(3, event, lambda *args: None)
        watch.set_events(3, watch.events.LINE | watch.events.CALL)
        for _ in range(5): len("abc")""",
    "gc.freeze": """
        import gc, json, decimal
        gc.collect(); gc.freeze()""",
    "gc.callbacks": """
        import gc
        gc.callbacks.append(lambda phase, info: atoll.get_main().call(len, "abc")); gc.collect()""",
    "gc.DEBUG_SAVEALL": """
        import gc, io
        sys.stderr = io.StringIO()
        gc.set_debug(gc.DEBUG_SAVEALL)
        class Cycle: pass
        for _ in range(100): c = Cycle(); c.c = c; c.big = bytes(1000)""",
    "audit hook that refuses": """
        def hook(event, args):
            if event.startswith(("cpython", "gc", "import", "object")): raise RuntimeError(event)
        sys.addaudithook(hook)""",
    "audit hook that calls": """
        def hook(event, args, main=atoll.get_main(), count=len):
            if not event.startswith("object"): main.call(count, event)
        sys.addaudithook(hook)
        open("/dev/null").close()""",
    "unraisablehook": """
        sys.unraisablehook = lambda unraisable: atoll.get_main().call(len, "abc")
        class Last:
            def __del__(self): 1 / 0
        last = Last()""",
    "streams": """
        class Stream:
            def write(self, text): 1 / 0
            def flush(self): raise SystemExit(7)
        sys.stdout = sys.stderr = Stream()""",
    "no modules": """
        sys.modules.clear()""",
    "no threading": """
        sys.modules["threading"] = None; sys.modules["atexit"] = None
        thread = threading.Thread(target=__import__("time").sleep, args=(0.1,)); thread.start()""",
    "threading changed": """
        threading._shutdown = lambda: 1 / 0
        threading.enumerate = lambda: [1, 2]""",
    "threading.local": """
        local = threading.local()
        class Last:
            def __del__(self, create=atoll.create, main=atoll.get_main(), count=len):
                create().close(); main.call(count, "abc")
        local.last = Last()""",
    "context variable": """
        import contextvars
        var = contextvars.ContextVar("var")
        class Last:
            def __del__(self, main=atoll.get_main(), count=len): main.call(count, "abc")
        var.set(Last())""",
    "asynchronous generator": """
        import asyncio
        async def generate():
            try: yield 1
            finally: await asyncio.sleep(0)
        generator = generate()
        try: generator.asend(None).send(None)
        except StopIteration: pass""",
    "submitted to itself": """
        future = atoll.get_current().submit(len, "abc")""",
    "daemon that waits": """
        queue = atoll.create_queue()
        threading.Thread(target=queue.get, daemon=True).start()""",
    "daemon that calls": """
        main = atoll.get_main()
        def spin():
            while True: main.call(len, "abc")
        threading.Thread(target=spin, daemon=True).start()""",
    "daemon that creates": """
        def spin():
            while True: atoll.create().close()
        threading.Thread(target=spin, daemon=True).start()""",
}

PROGRAM = """
import atoll, threading
interp = atoll.create()
interp.exec({code!r})
for _ in range(3):
    thread = threading.Thread(target=interp.call, args=(len, "abc")); thread.start(); thread.join()
{end}
if not {at_exit}:
    with atoll.create() as other:
        assert other.call(len, "abc") == 3
print("right", flush=True)
"""

ENDS = {
    "close": "interp.close()",
    "another thread": "thread = threading.Thread(target=interp.close); thread.start(); thread.join()",
    "last reference": "del interp, thread",
    "exit": "",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("left", LEFT)
def test_it_ends(left, end):
    code = "import atoll, sys, threading\n" + "\n".join(line[8:] for line in LEFT[left].splitlines())
    done = run_python(PROGRAM.format(code=code, end=ENDS[end], at_exit=end == "exit"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("right\n")
    assert "Fatal" not in done.stderr


def test_a_thread_of_an_interpreter_that_closes_it_by_way_of_main():
    done = run_python("""
        import __main__
        import atoll
        interp = atoll.create()
        def close():
            try:
                __main__.interp.close()
            except atoll.InterpreterError as error:
                return str(error)
        __main__.close = close
        interp.exec('''
        import atoll, threading
        def close():
            import __main__
            return __main__.close()
        said = []
        thread = threading.Thread(target=lambda: said.append(atoll.get_main().call(close)))
        thread.start(); thread.join()
        ''')
        assert "cannot close interpreter" in interp.call(eval, "said[0]"), interp.call(eval, "said")
        interp.close()
        print("right")
    """)
    check_ended(done, 0, "right\n", clean=True)


def test_a_thread_of_an_interpreter_that_closes_it_while_it_closes_another_one():
    done = run_python("""
        import atoll
        interp = atoll.create()
        def close():
            try:
                interp.close()
            except atoll.InterpreterError as error:
                return str(error)
        interp.exec('''if True:
            import atoll, threading
            said = []
            def close(other):
                other.close()
                said.append("closed")
            def start(other):
                thread = threading.Thread(target=close, args=(other,))
                thread.start()
                thread.join()
        ''')
        def prepare(close):
            import atexit, atoll
            atexit.register(lambda: print(atoll.get_main().call(close), flush=True))
        other = atoll.create()
        other.call(prepare, close)
        def start(other):
            import __main__
            __main__.start(other)
        interp.submit(start, other).result()
        assert interp.call(eval, "said") == ["closed"]
        interp.close()
    """)
    assert "cannot close interpreter" in done.stdout, done
    check_ended(done, 0, clean=True)


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("thread", [False, True])
def test_what_calls_back_finds_what_the_thread_has(thread, drop):
    """Exit functions and finalizers are called where the interpreter is closed."""
    done = run_python(f"""
        import __main__, contextvars, decimal, threading
        import atoll
        local = threading.local()
        variable = contextvars.ContextVar("variable")
        __main__.found = lambda: (getattr(local, "here", None), variable.get(None), decimal.getcontext().prec)
        def look():
            import __main__
            return __main__.found()
        def prepare(look):
            import __main__, atexit, atoll
            def tell(where):
                print(where, *atoll.get_main().call(look), flush=True)
            class Thing:
                def __del__(self, tell=tell):
                    tell("finalizer")
            __main__.thing = Thing()
            atexit.register(tell, "exit")
        def run():
            local.here = 1
            variable.set(2)
            decimal.getcontext().prec = 3
            interp = atoll.create()
            interp.call(prepare, look)
            if not {drop}:
                interp.close()
        if {thread}:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        else:
            run()
    """)
    check_ended(done, 0, "exit 1 2 3\nfinalizer 1 2 3\n", clean=True)
