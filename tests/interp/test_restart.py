"""A host program ends Python and begins it again (tests/embed/host.c): Atoll works in each of them."""

from __future__ import annotations

import pytest

pytest_plugins = ["capi_fixtures"]

USE = """
import atoll
assert [interp.id for interp in atoll.list_all()] == [0]
interp = atoll.create()
assert interp.call(len, "abc") == 3
interp.exec("import json, atoll; x = [bytes(100_000) for _ in range(50)]")
def ask_main(number):
    import atoll
    return atoll.get_main().call(abs, number)
assert interp.call(ask_main, -5) == 5
assert interp.submit(ask_main, -6).result(60) == 6
queue = atoll.create_queue()
interp.call(queue.put, [1, 2])
assert queue.get(timeout=60) == [1, 2]
interp.close()
with atoll.InterpreterPoolExecutor(2) as pool:
    assert list(pool.map(abs, range(-100, 0))) == list(range(100, 0, -1))
print("used", flush=True)
"""

# An interpreter in which a thread is stuck, one that is open, spares, thread states of other threads in main.
LEAVE = (
    USE
    + """
import os, threading
def read_whatever_comes(descriptor, ready):
    while True:
        try:
            if ready is not None:
                ready = os.close(ready)
            os.read(descriptor, 1)
        except BaseException:
            pass
stuck, idle = atoll.create(), atoll.create()
is_reading, ready = os.pipe()
threading.Thread(target=stuck.call, args=(read_whatever_comes, os.pipe()[0], ready), daemon=True).start()
os.read(is_reading, 1)
idle.exec("x = [bytes(100_000) for _ in range(50)]")
atoll.prewarm(1)
threads = [threading.Thread(target=idle.call, args=(ask_main, n)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("left", flush=True)
"""
)

INSTALL = """
import atoll, sys
atoll.install()
with atoll.create() as interp:
    assert interp.call(eval, "'atoll' in __import__('sys').modules")
print("used", flush=True)
"""

INSTALLED_NO_MORE = """
import atoll
with atoll.create() as interp:
    assert not interp.call(eval, "'atoll' in __import__('sys').modules")
print("used", flush=True)
"""


@pytest.fixture
def host(embed, tmp_path):
    def run(*scripts, **environment):
        files = []
        for number, script in enumerate(scripts):
            files.append(tmp_path / f"script{number}.py")
            files[-1].write_text(script)
        return embed("host.c", *files, **environment)

    return run


def check(done, *lines):
    assert done.stdout.split("\n") == [*lines, "host goes on", ""], done.stderr
    assert done.returncode == 0, done.stderr


class TestRestart:
    def test_used_each_time(self, host):
        check(host(USE, USE, USE), *["used", "finalize 0"] * 3)

    def test_memory_is_taken_back_each_time(self, host):
        check(host(USE, USE, ATOLL_DEBUG_BLOCKS="1"), *["used", "finalize 0"] * 2)

    def test_what_was_left_behind_is_in_nobodys_way(self, host):
        done = host(LEAVE, LEAVE, USE)
        check(done, *["used", "left", "finalize 0"] * 2, "used", "finalize 0")
        assert done.stderr.count("a thread is still inside an interpreter at exit") == 2
        assert done.stderr.count("RuntimeWarning: remaining interpreters at exit: [") == 2

    def test_not_used_in_between(self, host):
        check(
            host(USE, "print('nothing')", USE),
            "used",
            "finalize 0",
            "nothing",
            "finalize 0",
            "used",
            "finalize 0",
        )

    def test_install_holds_for_one_python(self, host):
        check(host(INSTALL, INSTALLED_NO_MORE), *["used", "finalize 0"] * 2)


ELSEWHERE = """
import atexit
atexit.register(lambda: print("at exit", atoll.get_main().call(abs, -2), flush=True))
import atoll
with atoll.create() as interp:
    print(interp.call(abs, -1), flush=True)
"""


def test_python_is_ended_by_another_thread_than_the_main_one(embed, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ELSEWHERE)
    done = embed("thread.c", script)
    assert done.stdout.splitlines() == ["1", "at exit 2", "finalize 0", "host goes on"], done.stderr
    assert (done.returncode, done.stderr) == (0, "")
