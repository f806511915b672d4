"""All that matters works however Python was started: options, and variables of the environment."""

from __future__ import annotations

import os

import pytest

from helpers import VERSION, check_ended, run_python, skip_false_damage

TOUR = """
import threading
import atoll

def work(number):
    import collections, decimal, json
    return json.dumps([number] * 10), collections.Counter("abca"), decimal.Decimal(number) / 3

for _ in range(2):
    interps = [atoll.create() for _ in range(3)]
    threads = [threading.Thread(target=lambda i=i: [i.call(work, k) for k in range(5)]) for i in interps]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    interps[0].exec('''
import threading, queue, ctypes
big = [bytes(9999) for _ in range(50)]
thread = threading.Thread(target=len, args=("",)); thread.start(); thread.join()
''')
    queue = atoll.create_queue()
    queue.put(b"z" * 200_000)
    assert len(interps[1].call(queue.get)) == 200_000
    for interp in interps: interp.close()
with atoll.InterpreterPoolExecutor(2) as pool:
    assert list(pool.map(len, ["a" * n for n in range(50)])) == list(range(50))
print("right", flush=True)
"""

OPTIONS = [
    ("-X", "dev"), ("-E",), ("-P",), ("-O",), ("-X", "frozen_modules=off"), ("-X", "utf8=0"),
    ("-X", "no_debug_ranges"), ("-b",), ("-X", "int_max_str_digits=0"), ("-W", "error"), ("-X", "importtime"), ("-v",),
]  # fmt: skip
VARIABLES = [
    *(("PYTHONMALLOC", value) for value in ("debug", "malloc", "malloc_debug", "pymalloc_debug")),
    ("PYTHONASYNCIODEBUG", "1"), ("PYTHONHASHSEED", "0"), ("MALLOC_PERTURB_", "85"), ("PYTHONDUMPREFS", "1"),
    ("PYTHON_GIL", "1"), ("PYTHONPERFSUPPORT", "1"), ("PYTHON_CONTEXT_AWARE_WARNINGS", "1"), ("PYTHON_JIT", "1"),
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_options(options):
    skip_false_damage(options)
    check_ended(run_python(TOUR, *options), 0, "right\n")


@pytest.mark.parametrize(("name", "value"), VARIABLES)
def test_variables(name, value):
    if name == "PYTHONMALLOC" and "debug" in value:
        skip_false_damage(["dev"])
    check_ended(run_python(TOUR, environment={**os.environ, name: value}), 0, "right\n")


def test_tracemalloc():
    done = run_python(TOUR, "-X", "tracemalloc=5")
    if VERSION < (3, 15):
        assert done.returncode == 1
        assert "no interpreter can be created while tracemalloc is tracing" in done.stderr
    else:
        check_ended(done, 0, "right\n")
