"""SharedDict between interpreters."""

from __future__ import annotations

import gc
import math
import random
import threading
import time
import weakref

import pytest

import atoll
from helpers import check_ended, new, run_python

errors: list[type[BaseException]] = []


def rebuild():
    if errors:
        raise errors.pop()
    return "rebuilt"


class Rebuilt:
    def __reduce__(self):
        return rebuild, ()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_pop_that_is_interrupted_leaves_the_value(error):
    shared = atoll.SharedDict()
    shared["a"] = Rebuilt()
    for default in ((), (None,)):
        errors.append(error)
        with pytest.raises(error):
            shared.pop("a", *default)
    assert shared.pop("a") == "rebuilt"
    assert "a" not in shared


def test_pop_removes_what_cannot_be_rebuilt():
    shared = atoll.SharedDict()
    shared["a"] = Rebuilt()
    errors.append(ValueError)
    with pytest.raises(ValueError):
        shared.pop("a")
    assert "a" not in shared


def test_each_value_is_popped_once():
    shared = atoll.SharedDict()
    popped: list[object] = []

    def take() -> None:
        for key in range(500):
            value = shared.pop(key, None)
            if value is not None:
                popped.append(value)

    for key in range(500):
        shared[key] = [key]
    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(popped) == [[key] for key in range(500)]
    stats = shared.stats()
    assert (stats["hits"], stats["misses"]) == (0, 0), "it is no looking up"


others: list[atoll.SharedDict] = []


def remove_another():
    others[0].pop("b", None)
    return "a"


class Removes:
    def __reduce__(self):
        return remove_another, ()


def test_update_with_a_dict_from_which_a_key_is_removed_meanwhile():
    other, shared = atoll.SharedDict(), atoll.SharedDict()
    others[:] = [other]
    other["a"], other["b"], other["c"] = Removes(), 2, 3
    shared.update(other, d=4)
    assert shared.items() == [("a", "a"), ("b", 2), ("c", 3), ("d", 4)]
    assert "b" not in other


def test_update_with_a_value_that_empties_the_dict():
    """By gc.get_objects(), as tools that look for memory find it."""
    code = """
        import gc, atoll

        class Value:
            def __reduce__(self):
                for found in gc.get_objects():
                    if type(found) is dict and len(found) == 2 and (77.5, 1) in found:
                        found.clear()
                gc.collect()
                self.others = [(77.5, n) for n in range(1000)]
                return str, ("value",)

        shared = atoll.SharedDict()
        shared.update({(77.5, int("1")): Value(), "a": Value()})
        print(shared.items())
    """
    done = run_python(code, environment={"PYTHONMALLOC": "debug"})
    check_ended(done, out="[((77.5, 1), 'value')]\n", clean=True)


def test_operations():
    shared = atoll.SharedDict()
    with pytest.raises(KeyError, match="a"):
        shared["a"]
    with pytest.raises(KeyError):
        del shared["a"]
    with pytest.raises(KeyError):
        shared.pop("a")
    assert shared.get("a") is None
    assert shared.get("a", 5) == shared.pop("a", 5) == 5
    assert shared.setdefault("a", [1]) == [1]
    assert shared.setdefault("a", "other") == [1]
    assert shared.setdefault("b") is None
    shared.update({"c": 3}, d=4)
    shared.update([("c", 5), ("e", 6)])
    shared.update(atoll.SharedDict())
    assert shared.items() == [("a", [1]), ("b", None), ("c", 5), ("d", 4), ("e", 6)]
    assert shared.values() == [[1], None, 5, 4, 6]
    assert [*shared] == shared.keys() == ["a", "b", "c", "d", "e"]
    assert shared["a"] is not shared["a"], "each is a copy"
    shared["a"].append(2)
    assert shared["a"] == [1]
    del shared["a"]
    assert "a" not in shared
    assert len(shared) == 4
    assert shared.pop("e") == 6
    shared.clear()
    assert not shared
    assert shared.copy() == {}


def test_is_the_same_object_wherever_it_comes_back():
    shared = atoll.SharedDict(max_bytes=10_000, ttl=60)
    assert atoll.is_shareable(shared)
    with new() as interp:
        assert interp.call(lambda shared: shared, shared) is shared
        assert interp.call(lambda one, two: one is two and (one.max_bytes, one.ttl), shared, shared) == (
            10_000,
            60.0,
        )


def test_values_outlive_who_has_stored_them():
    shared = atoll.SharedDict()

    def fill(shared):
        import atoll

        queue = atoll.create_queue()
        queue.put("inside", unbounditems=atoll.UNBOUND)
        shared["bytes"] = b"x" * 1_000_000
        shared["text"] = "\xe9" * 100_000
        shared["queue"] = {"queue": queue}
        shared["lock"] = atoll.Lock()
        shared["array"] = atoll.share(b"12345")
        shared["frozen"] = atoll.freeze({"a": (1, 2)})
        shared["class"] = type("Thing", (), {"x": 5})

    with new() as interp:
        interp.call(fill, shared)
    assert len(atoll.list_all()) == 1
    assert shared["bytes"] == b"x" * 1_000_000
    assert shared["text"] == "\xe9" * 100_000
    assert shared["queue"]["queue"].qsize() == 1
    assert shared["lock"].acquire(False)
    assert bytes(shared["array"]) == b"12345"
    assert shared["frozen"]["a"] == (1, 2)
    assert shared["class"].x == 5


def test_what_cannot_be_a_value_is_named():
    shared = atoll.SharedDict()
    shared["a"] = 1
    for use in (
        lambda: shared.set("a", [threading.Lock()]),
        lambda: shared.setdefault("b", [threading.Lock()]),
        lambda: shared.compare_and_set("a", 1, [threading.Lock()]),
        lambda: shared.update(a=[threading.Lock()]),
    ):
        with pytest.raises(atoll.NotShareableError, match=r"value\[0\]: _thread\.lock is not shareable"):
            use()
    assert shared.items() == [("a", 1)]


def test_compare_and_set():
    shared = atoll.SharedDict()
    assert not shared.compare_and_set("a", None, 1)
    assert "a" not in shared
    shared["a"] = {"x": [1, 2], "y": 1.0}
    assert shared.compare_and_set("a", {"y": 1, "x": [True, 2]}, 5)
    assert not shared.compare_and_set("a", 6, 7)
    assert shared.compare_and_set("a", 5.0, (1,))
    assert shared["a"] == (1,)

    class Odd:
        def __eq__(self, other):
            raise ZeroDivisionError

        __hash__ = None

    with pytest.raises(ZeroDivisionError):
        shared.compare_and_set("a", Odd(), 1)

    class Busy:
        """While it is compared, another one changes the value."""

        def __eq__(self, other):
            if other == (1,):
                shared["a"] = (2,)
            return True

        __hash__ = None

    assert shared.compare_and_set("a", Busy(), 3), "the second look finds another value"
    assert shared["a"] == 3


def bump(shared, times):
    for _ in range(times):
        shared.add("added")
        while not shared.compare_and_set("swapped", old := shared["swapped"], old + ("x",)):
            pass


def test_nothing_is_lost():
    shared = atoll.SharedDict()
    shared["swapped"] = ()
    with new() as one, new() as two:
        threads = [interp.call_in_thread(bump, shared, 300) for interp in (one, two)]
        bump(shared, 300)
        for thread in threads:
            thread.join(60)
    assert shared["added"] == 900
    assert shared["swapped"] == ("x",) * 900


def test_add():
    shared = atoll.SharedDict()
    assert shared.add("a", 5) == 5
    assert shared.add("a", -7) == -2
    assert shared["a"] == -2
    shared["b"] = 2**63 - 1
    for n in (1, 2**80):
        with pytest.raises(OverflowError, match="'b'"):
            shared.add("b", n)
    assert shared["b"] == 2**63 - 1
    shared["b"] = 2**63
    for value in (2**63, "text", 1.5, True, None):
        shared["c"] = value
        with pytest.raises(TypeError, match="'c'"):
            shared.add("c")
        assert shared["c"] == value
    with pytest.raises(TypeError):
        shared.add("a", "1")


def test_max_bytes_removes_what_was_used_least_recently():
    shared = atoll.SharedDict()
    shared["a"] = "value"
    each = shared.stats()["bytes"]
    shared = atoll.SharedDict(max_bytes=3 * each)
    for key in "abc":
        shared[key] = "value"
    assert shared["a"] == "value"
    shared["d"] = "value"
    assert sorted(shared) == ["a", "c", "d"]
    shared.set("c", "other")
    shared["e"] = "value"
    assert sorted(shared) == ["c", "d", "e"]
    assert shared.stats()["evictions"] == 2
    with pytest.raises(ValueError, match=r"max_bytes \(\d+\)"):
        shared["f"] = "x" * 10_000
    assert sorted(shared) == ["c", "d", "e"]
    assert shared.stats()["bytes"] <= 3 * each
    shared = atoll.SharedDict(max_bytes=1)
    with pytest.raises(ValueError, match="max_bytes"):
        shared.add("a")
    assert shared.stats()["evictions"] == 0


def test_ttl():
    shared = atoll.SharedDict(ttl=0.05)
    shared["short"] = shared["again"] = 1
    shared.set("long", 2, ttl=60)
    shared.set("ever", 3, ttl=None)
    shared.add("sum")
    time.sleep(0.03)
    shared["again"] = 4
    time.sleep(0.03)
    assert "short" not in shared
    assert shared.get("short") is None
    assert "sum" not in shared
    assert shared.get("again") in (4, None), "its time has begun anew"
    time.sleep(0.05)
    assert len(shared) == 2
    assert shared.keys() == ["long", "ever"]
    stats = shared.stats()
    assert stats["items"] == 2
    assert stats["expirations"] in (3, 4), "on a busy machine 'again' was late the first time"
    assert shared.setdefault("short", 5) == 5


def test_arguments():
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max_bytes"):
            atoll.SharedDict(wrong)
        with pytest.raises(ValueError, match="ttl"):
            atoll.SharedDict(ttl=wrong)
        with pytest.raises(ValueError, match="ttl"):
            atoll.SharedDict().set("a", 1, ttl=wrong)
    with pytest.raises(ValueError, match="nan"):
        atoll.SharedDict(ttl=math.nan)
    with pytest.raises(TypeError):
        atoll.SharedDict("much")
    with pytest.raises(TypeError, match="ttl must be"):
        atoll.SharedDict(ttl="long")
    with pytest.raises(TypeError):
        atoll.SharedDict().get()
    with pytest.raises(TypeError, match="pickle"):
        atoll.SharedDict().__reduce_ex__(2)
    assert (atoll.SharedDict().max_bytes, atoll.SharedDict().ttl) == (None, None)


def test_one_that_holds_itself_is_freed():
    shared = atoll.SharedDict()
    shared["me"] = {"me": shared}
    array = shared["array"] = atoll.SharedBuffer(10)
    assert shared["me"]["me"] is shared
    assert shared.pop("me")["me"] is shared
    shared["me"] = shared
    gone = weakref.ref(shared)
    del shared
    gc.collect()
    assert gone() is None
    assert len(array) == 10


def test_long_chains_are_freed():
    """A dict in a queue in a dict, and so on: without recursion."""
    last = None
    for _ in range(20_000):
        shared, queue = atoll.SharedDict(), atoll.create_queue()
        queue.put(last, unbounditems=atoll.UNBOUND)
        shared["next"] = queue
        last = shared
    del shared, queue, last


def use_at_random(shared, seed, times):
    import random

    chance = random.Random(seed)
    for _ in range(times):
        key = chance.randrange(20)
        match chance.randrange(6):
            case 0:
                shared[key] = (key, "x" * chance.randrange(300))
            case 1:
                shared.pop(key, None)
            case 2:
                shared.set(key, (key, [key]), ttl=chance.random() / 1000 + 1e-6)
            case 3:
                for found, value in shared.items():
                    assert found == value[0]
            case _:
                value = shared.get(key)
                assert value is None or value[0] == key
    return "done"


@pytest.mark.parametrize("max_bytes", [None, 3000])
def test_used_at_random(max_bytes):
    shared = atoll.SharedDict(max_bytes)
    with atoll.InterpreterPoolExecutor(2) as pool:
        seeds = [random.randrange(2**32) for _ in range(4)]
        print(seeds)
        done = [pool.submit(use_at_random, shared, seed, 1000) for seed in seeds]
        use_at_random(shared, 5, 1000)
        assert [future.result(60) for future in done] == ["done"] * 4
    stats = shared.stats()
    assert max_bytes is None or stats["bytes"] <= max_bytes
    shared.clear()
    assert shared.stats()["bytes"] == 0


PROCESS = """
import atoll, itertools, os, warnings
warnings.simplefilter("ignore")
shared = atoll.SharedDict()
shared["a"] = "before"
for order in itertools.permutations(range(3)):
    interps = [atoll.create() for _ in range(3)]
    for i, interp in enumerate(interps):
        interp.prepare_main(shared=shared, name=f"from {i}")
        interp.exec("import atoll; shared[name] = [b'x' * 100_000, atoll.create_queue(), atoll.SharedDict(), shared]")
        interp.exec("kept = shared.get('from 0'), atoll.SharedDict(); kept[1]['x'] = kept[1]")
    for i in order:
        interps[i].close()
    assert all(shared[f"from {i}"][0] == b"x" * 100_000 for i in range(3))
child = os.fork()
if child == 0:
    assert shared["a"] == "before" and shared["from 1"][3] is shared
    shared["a"] = "in the child"
    with atoll.create() as interp:
        assert interp.call(lambda shared: shared["a"], shared) == "in the child"
    os._exit(42)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
assert shared["a"] == "before"
print("done")
"""


def test_interpreters_are_closed_in_every_order_and_the_process_forks():
    result = run_python(PROCESS)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")
