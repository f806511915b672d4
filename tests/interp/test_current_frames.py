"""sys._current_frames() and sys._current_exceptions() show the threads of the interpreter that calls them."""

import sys
import threading

import atoll
from helpers import check_ended, run_python


def test_own_threads_only():
    """Neither main nor an interpreter sees into the other; what is suspended below a call is seen."""
    started, go_on = atoll.create_queue(), atoll.create_queue()

    def inside(started, go_on):
        import sys
        import threading

        def sleeper():
            try:
                raise KeyError("mine")
            except KeyError:
                started.put(threading.get_ident())
                go_on.get()

        thread = threading.Thread(target=sleeper)
        thread.start()
        other = started.get()
        frames, exceptions = sys._current_frames(), sys._current_exceptions()
        go_on.put(None)
        thread.join()
        names = {frames[other].f_code.co_name, frames[threading.get_ident()].f_code.co_name}
        return (
            names,
            len(frames),
            repr(exceptions[other]),
            exceptions[threading.get_ident()],
            set(exceptions) == set(frames),
        )

    with atoll.create() as interp:
        names, count, exception, own, same = interp.call(inside, started, go_on)
    assert (names, count, exception, own, same) == ({"sleeper", "inside"}, 2, "KeyError('mine')", None, True)
    frames = sys._current_frames()
    assert frames[threading.get_ident()] is sys._getframe()
    assert set(frames) == {thread.ident for thread in threading.enumerate()}


def test_while_a_pool_works():
    """A profiler of main's looks at all threads again and again while workers run Python code."""
    done = run_python(
        """
        import sys, atoll
        def work(n):
            return sum(len(str(i)) for i in range(n))
        with atoll.InterpreterPoolExecutor(2) as pool:
            futures = [pool.submit(work, 3000) for _ in range(200)]
            looks = 0
            while not all(future.done() for future in futures) or looks < 2000:
                assert sys._current_frames() and sys._current_exceptions()
                looks += 1
        print("fine")
        """
    )
    check_ended(done, out="fine\n", clean=True)
