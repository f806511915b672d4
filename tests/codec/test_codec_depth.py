"""Deep structures: the stack of a thread is shared by all that is nested on it, in whichever interpreters."""

from __future__ import annotations

import threading

import pytest

import atoll
from codec_samples import Plain
from helpers import check_ended, run_python

DEPTHS = [10, 1_000, 9_900, 100_000]


class Reduced:
    def __init__(self, inner):
        self.inner = inner

    def __reduce__(self):
        return Reduced, (self.inner,)


def in_a_list(inner):
    return [inner]


def in_an_instance(inner):
    return Plain(inner=inner)


WRAPS = {"list": in_a_list, "instance": in_an_instance, "reduction": Reduced}


def wrap(obj, how, depth):
    for _ in range(depth):
        obj = WRAPS[how](obj)
    return obj


def unwrap(obj):
    """Take a deep structure apart: CPython 3.13 frees deep lists by recursion, however small the stack is."""
    while isinstance(obj, (list, Plain, Reduced)):
        obj = obj.pop() if isinstance(obj, list) else obj.__dict__.pop("inner")


class Visits:
    """Sends something deep to another interpreter, while it is sent itself."""

    def __init__(self, interp, how, depth):
        self.visit = lambda: interp.call(there, how, depth)

    def __reduce__(self):
        self.visit()
        return int, ()


def there(how, depth):
    """Send, and describe, something deep in an interpreter."""
    deep = wrap(None, how, depth)
    try:
        atoll.create_queue().put(deep)
        repr(wrap(None, "list", depth))
    finally:
        unwrap(deep)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("how", WRAPS)
def test_two_interpreters_on_one_stack(how, depth):
    ended = run_python(f"""
        import os
        import atoll
        from helpers import new
        from test_codec_depth import Visits, wrap
        interp = new()
        interp.exec("import sys; sys.path[:0] = {__import__("sys").path!r}")
        deep = wrap(Visits(interp, {how!r}, {depth}), {how!r}, {depth})
        try:
            atoll.create_queue().put(deep)
        except (RecursionError, atoll.NotShareableError, atoll.ExecutionFailed) as error:
            assert {depth} >= 1000, error
        print("done", flush=True)
        os._exit(0)
    """)  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr


@pytest.mark.parametrize("kib", [256, 1024])
@pytest.mark.parametrize("how", WRAPS)
def test_small_stacks(how, kib):
    """A thread with a small stack gets an error, in good time."""
    errors = []

    def send():
        queue = atoll.create_queue()
        for depth in DEPTHS:
            deep = wrap(None, how, depth)
            try:
                queue.put(deep)
                unwrap(queue.get())
            except RecursionError as error:
                errors.append(str(error))
            finally:
                unwrap(deep)

    before = threading.stack_size(kib * 1024)
    try:
        thread = threading.Thread(target=send)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert errors


def test_functions_in_closures_of_others():
    """A chain of functions, each in the closure of the next, takes memory by its length, not by its square."""
    ended = run_python("""
        import resource
        import atoll
        def around(inner):
            return lambda: inner
        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        LENGTH = 2000
        chain = None
        for _ in range(LENGTH):
            chain = around(chain)
        queue = atoll.create_queue()
        before = peak()
        queue.put(chain)
        assert peak() - before < 64 << 10, peak() - before
        chain = queue.get()
        for _ in range(LENGTH):
            chain = chain()
        assert chain is None
        print("right")
    """)
    check_ended(ended, 0, "right\n", clean=True)


def test_an_attempt_that_ran_out_of_stack_is_not_made_twice():
    """Else a hook that makes calls, which lead to the same event, would be called 2**n times at a depth of n."""
    ended = run_python("""
        import atoll
        with atoll.create() as interp:
            interp.exec('''
        import sys
        import atoll
        DEEPEST = 12
        main = atoll.get_main()
        depth = count = 0
        def hook(event, args):
            global depth, count
            if event != "import":
                return
            count += 1
            depth += 1
            try:
                if depth > DEEPEST:
                    raise RecursionError("mine")
                main.call(len, event)  # its first import is the same at each depth
            finally:
                depth -= 1
        sys.modules.pop("copyreg", None)
        sys.addaudithook(hook)
        try:
            main.call(len, "abc")
        except RecursionError as error:
            assert str(error) == "mine", error
        assert count <= 2 * DEEPEST, count
        ''')
        print("right")
    """)
    check_ended(ended, 0, "right\n", clean=True)
