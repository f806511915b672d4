"""create(memory_limit=): MemoryError in the interpreter that would have more, and nothing anywhere else."""

from __future__ import annotations

import gc
import threading
import time

import pytest

import atoll
from cli_helpers import skip_without
from helpers import PATIENCE, check_ended, run_python

MIB = 1 << 20
LIMIT = 48 * MIB
PRECISION = 64 * 1024

MANY = {
    "list": "object_ = object()\nwhile True: kept.append(object_)",
    "append": "spare = [object() for _ in range(9_999)]\nwhile True:\n  for one in spare: kept.append([])",
    "objects": "while True: kept.append(object())",
    "chain": "while True: kept = [kept]",
    "strings": "while True: kept.append(str(len(kept)) * 3)",
    "dict": "kept = {}\nwhile True: kept[len(kept)] = str(len(kept))",
    "large blocks": "while True: kept.append(bytearray(60_000))",
    "realloc": "kept = bytearray()\nwhile True: kept += bytes(10_000)",
    "frames": "sys.setrecursionlimit(10**9)\nkept = None\ndef f(*a): f(*a, *a[:9])\nf(*range(9))",
}


def allocated(interp: atoll.Interpreter) -> int:
    """Return the bytes that an interpreter has."""
    found = interp.stats()["allocated"]
    assert isinstance(found, int)
    return found


def fails(interp: atoll.Interpreter, code: str) -> atoll.ExecutionFailed:
    """Execute code, which is to end with MemoryError."""
    with pytest.raises(atoll.ExecutionFailed) as caught:
        interp.exec(code)
    assert caught.value.excinfo.type.__name__ == "MemoryError"
    return caught.value


def works(interp: atoll.Interpreter) -> None:
    """Check that an interpreter is as before."""
    assert interp.call(sum, range(1000)) == 499_500
    interp.exec("import json; assert json.loads('[1, {\"a\": 2}]') == [1, {'a': 2}]")


@pytest.fixture
def limited():
    """Return an interpreter with a limit."""
    with atoll.create(memory_limit=LIMIT) as interp:
        yield interp


class TestRefused:
    """What would be more than the limit."""

    def test_one_large_block(self, limited):
        before = allocated(limited)
        failed = fails(limited, f"x = bytearray({LIMIT})")
        assert "bytearray(" in failed.excinfo.errdisplay
        assert allocated(limited) - before < MIB
        works(limited)
        limited.exec(f"x = bytearray({LIMIT // 2})")
        assert allocated(limited) - before >= LIMIT // 2

    @pytest.mark.parametrize("code", MANY.values(), ids=list(MANY))
    def test_many(self, limited, code):
        before = allocated(limited)
        fails(limited, f"import sys\nkept = []\n{code}")
        assert allocated(limited) <= LIMIT + PRECISION
        limited.exec("kept = None")
        works(limited)
        assert allocated(limited) < before + 8 * MIB

    @pytest.mark.parametrize("size", [100, 600, 5_000, 60_000])
    def test_precise(self, limited, size):
        limited.exec(f"""
            kept = []
            try:
                while True:
                    kept.append(bytes({size}))
            except MemoryError:
                pass
            """)
        list_growth = LIMIT // size  # an eighth of its 8 bytes each: of a list that has so many items
        assert LIMIT - PRECISION - list_growth <= allocated(limited) <= LIMIT + PRECISION

    def test_realloc(self, limited):
        limited.exec(f"x = bytearray({LIMIT // 4}); y = bytearray(b'kept')")
        fails(limited, f"x.extend(bytes({LIMIT // 4})); y.extend(bytes({LIMIT}))")
        limited.exec(f"assert len(x) == {LIMIT // 2} and y == b'kept'")
        limited.exec("del x[:]; del x, y")
        limited.exec(f"x = bytearray({LIMIT // 2 + LIMIT // 4})")

    @pytest.mark.parametrize(
        "value",
        ["bytearray(size)", "b'x' * size", "[0.5] * (size // 8)", "array.array('d', [1]) * (size // 8)"],
    )
    def test_argument(self, value):
        """It raises, and nothing is printed about the object that has no memory for its content."""
        code = f"""
            import array, atoll
            size = {LIMIT}
            value = {value}
            with atoll.create(memory_limit={LIMIT}) as interp:
                interp.exec("garbage = [memoryview(bytearray(b'abc')) for _ in range(1000)]")
                interp.exec("del garbage")
                for _ in range(10):
                    try:
                        interp.call(len, value)
                    except atoll.ExecutionFailed as error:
                        assert error.excinfo.type.__name__ == "MemoryError"
                    else:
                        print("received")
                print(interp.call(len, value[:5]))
            """
        check_ended(run_python(code), 0, "5\n", clean=True)

    def test_arguments(self, limited):
        with pytest.raises(atoll.ExecutionFailed, match="MemoryError"):
            limited.call(len, b"x" * LIMIT)
        assert limited.call(len, b"x" * MIB) == MIB

    def test_again_and_again(self, limited):
        for _ in range(30):
            fails(limited, "kept = []\nwhile True: kept.append([kept])")
            limited.exec("kept.clear()\nimport gc; gc.collect()")
        works(limited)

    def test_caught_inside(self, limited):
        """Code that goes on after a MemoryError is refused more, and nothing breaks."""
        limited.exec("""
            kept = []
            for _ in range(20_000):
                try:
                    kept.append([object() for _ in range(1_000)])
                except MemoryError:
                    pass
            kept = None
            """)
        works(limited)


class TestOthers:
    """A limit is one interpreter's."""

    def test_seven_of_eight_work(self):
        interps = [atoll.create(memory_limit=32 * MIB) for _ in range(8)]
        over = threading.Event()
        counts = [0] * 8

        def work(number: int) -> None:
            while not over.is_set() or counts[number] == 0:
                assert interps[number].call(sorted, list(range(2_000, 0, -1)))[0] == 1
                counts[number] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 8)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                fails(interps[0], "kept = []\nwhile True: kept.append(object())")
                interps[0].exec("kept = None")
        finally:
            over.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert all(counts[1:])
        for interp in interps:
            works(interp)
            interp.close()

    def test_none_is_not_limited(self, limited):
        with atoll.create() as other:
            other.exec(f"x = bytearray({2 * LIMIT})")
            assert other.stats()["memory_limit"] is None
            fails(limited, f"x = bytearray({LIMIT})")

    def test_main_is_not_limited(self, limited):
        kept = [bytes(1_000) for _ in range(2 * LIMIT // 1_000)]
        assert limited.call(len, b"abc") == 3
        del kept


class TestSeen:
    """What stats() says."""

    def test_stats(self, limited):
        stats = limited.stats()
        assert stats["memory_limit"] == LIMIT
        before = stats["allocated"]
        limited.exec("x = bytearray(10_000_000)")
        assert 10_000_000 <= allocated(limited) - before < 10_000_000 + PRECISION
        limited.exec("del x")
        assert allocated(limited) - before < PRECISION

    def test_other_process_sees(self):
        code = """
            import atoll, os, subprocess, sys
            interp = atoll.create(memory_limit=50_000_000)
            text = '''import atoll, sys
            for interp in atoll.stats(int(sys.argv[1]))["interpreters"]:
                print(interp["memory_limit"])'''.replace(" " * 12, "")
            subprocess.run([sys.executable, "-c", text, str(os.getpid())], check=True)
            interp.close()
            """
        assert "50000000" in run_python(code).stdout


class TestAllocators:
    """Where CPython's objects come from is chosen when it starts."""

    @pytest.mark.parametrize("limits", ["memory_limit=60_000_000", "soft_memory_limit=60_000_000"])
    @pytest.mark.parametrize("allocator", ["malloc", "malloc_debug"])
    def test_that_are_not_counted(self, limits, allocator):
        """A limit that could not be kept is refused."""
        code = f"""
            import atoll
            try:
                atoll.create({limits})
            except atoll.InterpreterError as error:
                print("cannot be limited" in str(error), "PYTHONMALLOC=malloc" in str(error))
            with atoll.create() as interp:
                print(interp.call(len, "it"))
            """
        check_ended(
            run_python(code, environment={"PYTHONMALLOC": allocator}), 0, "True True\n2\n", clean=True
        )

    @pytest.mark.parametrize("allocator", ["pymalloc", "debug"])
    def test_that_are(self, allocator):
        code = """
            import atoll
            with atoll.create(memory_limit=60_000_000, soft_memory_limit=50_000_000) as interp:
                try:
                    interp.exec("kept = [0] * 10**8")
                except atoll.ExecutionFailed as error:
                    print(error.excinfo.type.__name__)
            """
        check_ended(run_python(code, environment={"PYTHONMALLOC": allocator}), 0, "MemoryError\n")


class TestEnd:
    """Closing what is full."""

    @pytest.mark.parametrize("code", [MANY["objects"], MANY["large blocks"], MANY["chain"]])
    def test_full(self, code):
        before = len(atoll.list_all())
        interp = atoll.create(memory_limit=LIMIT)
        interp.exec("import atexit; atexit.register(lambda: [object() for _ in range(1000)])")
        fails(interp, f"kept = []\n{code}")
        interp.close()
        assert len(atoll.list_all()) == before

    def test_nothing_is_left(self):
        code = """
            import atoll, gc
            def rss():
                with open("/proc/self/statm") as file:
                    return int(file.read().split()[1]) * 4096
            sizes = []
            for n in range(24):
                interp = atoll.create(memory_limit=48 << 20)
                try:
                    interp.exec("kept = []\\nwhile True: kept.append(object())")
                except atoll.ExecutionFailed:
                    pass
                interp.close()
                gc.collect()
                sizes.append(rss())
            assert max(sizes[12:]) - max(sizes[:12]) < 40 << 20, sizes
            print("done", atoll._atoll._blocks()[1])
            """
        assert "done None" in run_python(code, environment={"ATOLL_DEBUG_BLOCKS": "1"}).stdout

    def test_last_user_goes(self):
        interp = atoll.create(memory_limit=LIMIT)
        fails(interp, f"kept = []\n{MANY['objects']}")
        number = interp.id
        del interp
        gc.collect()
        assert number not in [other.id for other in atoll.list_all()]


class TestSpares:
    """Spare interpreters have no limits until they are taken."""

    def test_gets_the_limit(self):
        code = """
            import atoll, time
            atoll.prewarm(2)
            while atoll._atoll._spares_ready() < 2:
                time.sleep(0.01)
            interp = atoll.create(memory_limit=64 << 20)
            assert interp.stats()["memory_limit"] == 64 << 20
            try:
                interp.exec("x = bytearray(64 << 20)")
            except atoll.ExecutionFailed as exc:
                print(exc.excinfo.formatted)
            other = atoll.create()
            assert other.stats()["memory_limit"] is None
            other.exec("x = bytearray(64 << 20)")
            atoll.prewarm(0)
            interp.close(); other.close()
            """
        assert run_python(code).stdout.strip() == "MemoryError"


class TestBadValues:
    """Numbers of bytes that are none."""

    @pytest.mark.parametrize("value", [0, -1, -(10**30), 2**63, 10**30])
    def test_value(self, value):
        with pytest.raises(ValueError, match="memory_limit must be a positive number of bytes"):
            atoll.create(memory_limit=value)

    @pytest.mark.parametrize("value", [True, False, "100", 1.5, float("nan"), b"1", [1]])
    def test_type(self, value):
        with pytest.raises(TypeError, match="memory_limit must be an int"):
            atoll.create(memory_limit=value)

    def test_too_small(self):
        before = len(atoll.list_all())
        with pytest.raises(atoll.InterpreterError, match="memory_limit of 100000 bytes is too small: a new"):
            atoll.create(memory_limit=100_000)
        assert len(atoll.list_all()) == before

    def test_none(self):
        with atoll.create(memory_limit=None) as interp:
            assert interp.stats()["memory_limit"] is None


def note_use(used: int, limit: int) -> None:
    """Remember what a soft limit says, in the interpreter."""
    import __main__

    __main__.told = [*getattr(__main__, "told", []), (used, limit)]


def note_and_drop(used: int, limit: int) -> None:
    """Give up what can be had again."""
    import __main__

    __main__.cache.clear()
    note_use(used, limit)


class TestSoft:
    """soft_memory_limit=: something is called."""

    @pytest.mark.parametrize("code", ["x = bytearray(40_000_000)", "x = [str(n) for n in range(600_000)]"])
    def test_called(self, code):
        with atoll.create(soft_memory_limit=(30_000_000, note_use)) as interp:
            interp.exec(f"told = []\n{code}\nfor _ in range(100_000): pass\n[(used, limit)] = told")
            interp.exec("assert used > 30_000_000 and limit == 30_000_000, told")

    def test_once_until_there_is_less(self):
        with atoll.create(soft_memory_limit=(30_000_000, note_use)) as interp:
            for n in range(1, 4):
                interp.exec("x = bytearray(30_000_000)\nfor _ in range(1000): pass")
                interp.exec("y = bytearray(5_000_000)\nfor _ in range(1000): pass\ndel y")
                interp.exec(f"assert len(told) == {n}, told\ndel x")

    def test_caches_are_dropped(self):
        with atoll.create(memory_limit=60_000_000, soft_memory_limit=(40_000_000, note_and_drop)) as interp:
            interp.exec("cache = {}\nfor n in range(10_000): cache[n] = bytearray(100_000)")
            assert 10 < interp.call(lambda: len(__import__("__main__").told)) < 200

    def test_a_lambda(self):
        with atoll.create(soft_memory_limit=(30_000_000, lambda used, limit: print("over", limit))) as interp:
            interp.exec("import io, sys; sys.stdout = io.StringIO(); x = bytearray(30_000_000)")
            assert interp.call(lambda: __import__("sys").stdout.getvalue()) == "over 30000000\n"

    def test_warning(self):
        code = """
            import atoll
            with atoll.create(soft_memory_limit=30_000_000) as interp:
                interp.exec("x = bytearray(30_000_000)\\nfor _ in range(1000): pass")
            """
        done = run_python(code)
        assert done.returncode == 0
        assert "RuntimeWarning: this interpreter has 3" in done.stderr
        assert "soft_memory_limit of 30000000 bytes" in done.stderr

    def test_callback_raises(self):
        code = """
            import atoll
            def callback(used, limit):
                raise RuntimeError(f"callback {used > limit}")
            with atoll.create(soft_memory_limit=(30_000_000, callback)) as interp:
                interp.exec("x = bytearray(30_000_000)\\nfor _ in range(1000): pass")
                print(interp.call(len, [1, 2]))
            """
        done = run_python(code)
        assert done.stdout.strip() == "2"
        assert "RuntimeError: callback True" in done.stderr

    @pytest.mark.parametrize("value", [0, -1, (0, print), (-5, print)])
    def test_value(self, value):
        with pytest.raises(ValueError, match="soft_memory_limit must be a positive number of bytes"):
            atoll.create(soft_memory_limit=value)

    @pytest.mark.parametrize(
        "value", [True, "1", 1.5, (100,), (100, 5), (100, print, 1), ("1", print), [100, print]]
    )
    def test_type(self, value):
        with pytest.raises(TypeError, match="soft_memory_limit must be"):
            atoll.create(soft_memory_limit=value)

    def test_not_below_the_limit(self):
        with pytest.raises(ValueError, match="must be below memory_limit"):
            atoll.create(memory_limit=LIMIT, soft_memory_limit=LIMIT)

    def test_callback_that_does_not_cross(self):
        before = len(atoll.list_all())
        lock = threading.Lock()
        with pytest.raises(atoll.NotShareableError, match="lock"):
            atoll.create(soft_memory_limit=(30_000_000, lambda used, limit: lock))
        gc.collect()
        assert len(atoll.list_all()) == before


class TestArrays:
    """numpy's arrays count."""

    @pytest.fixture(params=["import", "spare"])
    def with_numpy(self, request):
        """Return an interpreter that has a limit and numpy: imported then, or before."""
        skip_without("numpy")
        if request.param == "spare":
            atoll.prewarm(1, ["numpy"])
            end = time.monotonic() + PATIENCE
            while atoll._atoll._spares_ready() == 0 and time.monotonic() < end:
                time.sleep(0.01)
        try:
            with atoll.create(memory_limit=128 * MIB) as interp:
                interp.exec("import numpy")
                yield interp
        finally:
            atoll.prewarm(0)

    def test_counted(self, with_numpy):
        before = allocated(with_numpy)
        with_numpy.exec("x = numpy.zeros(2_000_000); y = numpy.ones(1_000_000)")
        assert 24_000_000 <= allocated(with_numpy) - before < 24_000_000 + MIB
        with_numpy.exec("y.resize(2_000_000, refcheck=False)")
        assert 32_000_000 <= allocated(with_numpy) - before < 32_000_000 + MIB
        with_numpy.exec("del x, y")
        assert allocated(with_numpy) - before < MIB

    @pytest.mark.parametrize(
        "code",
        [
            "x = numpy.zeros(200_000_000 // 8)",
            "x = numpy.empty(200_000_000, 'u1')",
            "x = []\nwhile True: x.append(numpy.ones(1000))",
            "x = []\nwhile True: x.append(numpy.arange(100_000))",
            "x = numpy.ones(10_000_000); x.resize(20_000_000, refcheck=False)",
            "x = numpy.ones(9_000_000); y = x + x",
        ],
    )
    def test_refused(self, with_numpy, code):
        with pytest.raises(atoll.ExecutionFailed) as caught:
            with_numpy.exec(code)
        assert "MemoryError" in caught.value.excinfo.type.__name__
        assert allocated(with_numpy) <= 128 * MIB + MIB  # what describes it loads some modules, once
        with_numpy.exec("x = None; assert numpy.arange(1_000_000).sum() == 499_999_500_000")

    def test_in_threads(self, with_numpy):
        before = allocated(with_numpy)
        with_numpy.exec("""
            import threading
            def make(): globals()["x"] = numpy.ones(2_000_000)
            thread = threading.Thread(target=make)
            thread.start()
            thread.join()
            """)
        assert allocated(with_numpy) - before >= 16_000_000

    def test_sent(self, with_numpy):
        array = with_numpy.call(lambda: __import__("numpy").arange(1_000_000))
        assert int(array.sum()) == 499_999_500_000
        assert with_numpy.call(lambda a: int(a.sum()), array) == 499_999_500_000

    def test_main_is_not_limited(self, with_numpy):
        import numpy

        assert numpy.ones(40_000_000).nbytes == 320_000_000

    def test_pool(self):
        skip_without("numpy")
        with atoll.InterpreterPoolExecutor(1, worker_limits={"memory_limit": 100 * MIB}) as pool:
            error = pool.submit(lambda: __import__("numpy").ones(100_000_000)).exception(PATIENCE)
            assert type(error) is atoll.ResourceLimitExceeded
            assert pool.submit(lambda: int(__import__("numpy").ones(1000).sum())).result(PATIENCE) == 1000
