"""A program for concurrent.interpreters/futures, switched by install(); plus ThreadPool idioms."""

import atoll

atoll.install()
import concurrent.futures
import functools
import operator
import textwrap
from concurrent import interpreters
from concurrent.futures import ALL_COMPLETED, InterpreterPoolExecutor, as_completed, wait


def fill(q):
    for i in range(5):
        q.put(i)


interp = interpreters.create()
interp.prepare_main({"data": (1, 2, 3)}, factor=2)
interp.exec("""
    print(sum(data) * factor)
    def helper(x):
        return x + factor
""")
try:
    interp.exec("1/0")
except interpreters.ExecutionFailed as e:
    print(e.excinfo.type.__name__, e.excinfo.msg)
q = interpreters.create_queue(maxsize=3)
t = interp.call_in_thread(fill, q)
print([q.get() for _ in range(5)])
t.join()
print(
    interp,
    interp.id,
    interp.whence,
    interp.is_running(),
    interpreters.list_all(),
    interpreters.get_current() == interpreters.get_main(),
)
interp.close()
try:
    interp.exec("1")
except interpreters.InterpreterNotFoundError as e:
    print(repr(e))


@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def deco(f):
    @functools.wraps(f)
    def wrapper(*a):
        return f(*a)

    return wrapper


@deco
def sq(x):
    return x * x


with InterpreterPoolExecutor(max_workers=2, thread_name_prefix="p") as ex:
    print(isinstance(ex, concurrent.futures.ThreadPoolExecutor), ex)
    print(
        [f.result() for f in as_completed([ex.submit(fib, n) for n in (30, 40)])].__len__(),
        list(ex.map(sq, range(4))),
        list(ex.map(operator.add, [1, 2], [3, 4])),
    )
    print(ex.submit(lambda: __name__).result(), ex.submit(sq, 3))
    f = ex.submit(sq, 5)
    f.add_done_callback(lambda f: print("cb", f.result()))
    f.result()
